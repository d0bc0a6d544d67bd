"""A corpus through an inference server, vLLM or SGLang, into a trace: what `capture` is for a model in this process.

Importing this package is quick, and needs neither torch nor httpx.
"""

from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.serving.options import ServerOptions
    from specialize.serving.run import trace_served

_HOME = {
    "ServerOptions": "specialize.serving.options",
    "trace_served": "specialize.serving.run",
}

__all__ = ["ServerOptions", "trace_served"]

__getattr__ = load_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
