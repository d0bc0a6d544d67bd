"""Measure expert specialization in Mixture-of-Experts language models.

Importing this package is instant: every public name is loaded on first use.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'specialize' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
