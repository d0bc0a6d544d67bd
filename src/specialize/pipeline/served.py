"""The options of a trace through a server: which apply, and which do not."""

from collections.abc import Mapping
from dataclasses import fields, replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError

if TYPE_CHECKING:
    from specialize.serving import ServerOptions
    from specialize.tracing.options import TraceOptions


def read_server(server: str | None, how: Mapping[str, Any]) -> "ServerOptions | None":
    """Return the options of a server; None without one.

    Args:
        server: its address.
        how: the other fields of `specialize.serving.ServerOptions`.

    Raises:
        CaptureError: an option is out of range, or given without a server.
    """
    from specialize.serving.options import ServerOptions

    if server is not None:
        return ServerOptions(server, **how)
    defaults = {field.name: field.default for field in fields(ServerOptions)}
    given = [name for name, value in how.items() if value != defaults[name]]
    if given:
        raise CaptureError(f"{given[0]}: expected it only with the address of a server (server), got it without one")
    return None


def list_given(loading: Mapping[str, Any]) -> list[str]:
    """Return the names of those arguments for loading a model that are not their defaults."""
    defaults = {"dtype": "auto", "trust_remote_code": False, "allow_missing_weights": False}
    return [name for name, value in loading.items() if value != defaults.get(name)]


def check_served(model: Any, loading: Mapping[str, Any], *, options: "TraceOptions") -> "TraceOptions":
    """Check what can be checked before a server is asked, and return the options without gate weights.

    Args:
        model: whose tokenizer and configuration are read.
        loading: arguments that apply to a model in this process, ``tokenizer`` among them.
        options: how the corpus is run, and what is recorded.

    Raises:
        CaptureError: the model is not named, or an option applies to a model in this process only.
    """
    from specialize.tracing.checkpoints import check_name

    if not isinstance(model, str | PathLike):
        raise CaptureError(
            "model: expected with a server the folder or hub id of the model that it serves, got "
            f"{type(model).__name__}; trace a loaded model without server"
        )
    here = list_given(loading)
    if options.batch_tokens != type(options)().batch_tokens:
        here.append("batch_tokens")
    if here:
        raise CaptureError(
            f"{here[0]}: expected it only without a server, which loads the model itself; leave it out, or start the "
            "server with it"
        )
    recorded = [
        name for name in (*options.contents, *(["control"] * (options.control is not None))) if name != "weights"
    ]
    if recorded:
        raise CaptureError(
            f"{recorded[0]}: expected it only without a server, which returns expert ids alone; leave it out, or trace "
            "the model in this process"
        )
    check_name(fspath(model))
    return replace(options, weights=False)
