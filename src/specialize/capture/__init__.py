"""Capture of routing: from a model, or from a corpus that is run through one, to arrays or a trace.

Importing this package is quick: torch is imported when one of its names is first used.
"""

from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.capture.extras import watch_norms
    from specialize.capture.interventions.hooks import Intervention
    from specialize.capture.interventions.switch_off import Interventions, intervene
    from specialize.capture.layer import LayerRouting
    from specialize.capture.loading import Checkpoint, load_checkpoint
    from specialize.capture.points import Choice, RoutingPoint
    from specialize.capture.recorder import Recorder, attach
    from specialize.capture.registry import register_router, unregister_router
    from specialize.capture.restart import Restart, restartable
    from specialize.capture.routers import find_routers
    from specialize.capture.run import trace_documents
    from specialize.tracing.options import TraceOptions

_HOME = {
    "Checkpoint": "specialize.capture.loading",
    "Choice": "specialize.capture.points",
    "Intervention": "specialize.capture.interventions.hooks",
    "Interventions": "specialize.capture.interventions.switch_off",
    "LayerRouting": "specialize.capture.layer",
    "Recorder": "specialize.capture.recorder",
    "Restart": "specialize.capture.restart",
    "RoutingPoint": "specialize.capture.points",
    "TraceOptions": "specialize.tracing.options",
    "attach": "specialize.capture.recorder",
    "find_routers": "specialize.capture.routers",
    "intervene": "specialize.capture.interventions.switch_off",
    "load_checkpoint": "specialize.capture.loading",
    "register_router": "specialize.capture.registry",
    "restartable": "specialize.capture.restart",
    "trace_documents": "specialize.capture.run",
    "unregister_router": "specialize.capture.registry",
    "watch_norms": "specialize.capture.extras",
}

__all__ = [
    "Checkpoint",
    "Choice",
    "Intervention",
    "Interventions",
    "LayerRouting",
    "Recorder",
    "Restart",
    "RoutingPoint",
    "TraceOptions",
    "attach",
    "find_routers",
    "intervene",
    "load_checkpoint",
    "register_router",
    "restartable",
    "trace_documents",
    "unregister_router",
    "watch_norms",
]

__getattr__ = load_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
