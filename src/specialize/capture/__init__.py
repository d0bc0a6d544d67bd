"""A model in, its routing out."""

from specialize.capture.loading import Checkpoint, load_checkpoint
from specialize.capture.plan import TraceOptions, TracePlan
from specialize.capture.recorder import LayerRouting, Recorder, attach
from specialize.capture.points import RoutingPoint
from specialize.capture.routers import find_routers
from specialize.capture.run import TraceProgress, trace_corpus

__all__ = [
    "Checkpoint",
    "LayerRouting",
    "Recorder",
    "RoutingPoint",
    "TraceOptions",
    "TracePlan",
    "TraceProgress",
    "attach",
    "find_routers",
    "load_checkpoint",
    "trace_corpus",
]
