"""A model in, its routing out."""

from specialize.capture.loading import Checkpoint, load_checkpoint
from specialize.capture.recorder import LayerRouting, Recorder, attach
from specialize.capture.routers import RoutingPoint, find_routers
from specialize.capture.run import TraceOptions, TraceProgress, trace_corpus

__all__ = [
    "Checkpoint",
    "LayerRouting",
    "Recorder",
    "RoutingPoint",
    "TraceOptions",
    "TraceProgress",
    "attach",
    "find_routers",
    "load_checkpoint",
    "trace_corpus",
]
