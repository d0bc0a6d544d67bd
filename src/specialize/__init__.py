"""Measure expert specialization in Mixture-of-Experts language models.

Importing this package is instant: every public name is loaded on first use.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.capture import LayerRouting, Recorder, attach, register_router
    from specialize.trace import RouterSpec, RoutingTrace, open_trace

__version__ = version("specialize")

_HOME = {
    "LayerRouting": "specialize.capture",
    "Recorder": "specialize.capture",
    "attach": "specialize.capture",
    "register_router": "specialize.capture",
    "RouterSpec": "specialize.trace",
    "RoutingTrace": "specialize.trace",
    "open_trace": "specialize.trace",
}

__all__ = [
    "LayerRouting",
    "Recorder",
    "RouterSpec",
    "RoutingTrace",
    "__version__",
    "attach",
    "open_trace",
    "register_router",
]


__getattr__ = load_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
