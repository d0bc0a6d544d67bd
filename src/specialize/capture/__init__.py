"""A model in, its routing out."""

from specialize.capture.loading import Checkpoint, load_checkpoint
from specialize.capture.plan import TraceOptions, TracePlan
from specialize.capture.points import Choice, RoutingPoint
from specialize.capture.recorder import LayerRouting, Recorder, attach
from specialize.capture.registry import register_router, unregister_router
from specialize.capture.routers import find_routers
from specialize.capture.run import TraceProgress, trace_corpus

__all__ = [
    "Checkpoint",
    "Choice",
    "LayerRouting",
    "Recorder",
    "RoutingPoint",
    "TraceOptions",
    "TracePlan",
    "TraceProgress",
    "attach",
    "find_routers",
    "load_checkpoint",
    "register_router",
    "trace_corpus",
    "unregister_router",
]
