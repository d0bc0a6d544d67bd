"""The model of a stage: a name to load, or a model that is loaded."""

from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError
from specialize.events import Reporter
from specialize.pipeline.served import list_given

if TYPE_CHECKING:
    from specialize.capture import Checkpoint


def check_model(model: Any, tokenizer: Any, loading: Mapping[str, Any]) -> str | None:
    """Check what can be checked before a model is loaded.

    Args:
        model: a name to load, a loaded transformers model or a `Checkpoint`.
        tokenizer: of a loaded model; None otherwise.
        loading: the other arguments of `specialize.load_checkpoint`.

    Returns:
        The model's name in the manifest, if it is known.

    Raises:
        CaptureError: an argument does not go with the model, or is out of range.
    """
    from specialize.capture.loading import Checkpoint, check_loading

    is_name = isinstance(model, str | PathLike)
    if tokenizer is not None and (is_name or isinstance(model, Checkpoint)):
        raise CaptureError("tokenizer: expected one only with a loaded model; a checkpoint has its own")
    if is_name:
        name = fspath(model)
        check_loading(name, **{key: loading[key] for key in ("dtype", "device", "device_map")})
        return name
    given = list_given(loading)
    if given:
        raise CaptureError(
            f"{given[0]}: expected it only with the name of a model to load, got it with a loaded model; leave it out"
        )
    if isinstance(model, Checkpoint):
        return model.name
    from specialize.capture.given import check_given

    check_given(model, tokenizer)
    return None


def open_model(model: Any, tokenizer: Any, *, loading: Mapping[str, Any], reporter: Reporter) -> "Checkpoint":
    """Return the checkpoint of a model, which is loaded where its name is given.

    Args:
        model: a name to load, a loaded transformers model or a `Checkpoint`.
        tokenizer: of a loaded model; None otherwise.
        loading: the other arguments of `specialize.load_checkpoint`.
        reporter: receives a message.

    Raises:
        CaptureError: as `specialize.load_checkpoint`.
    """
    from specialize.capture import Checkpoint

    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, str | PathLike):
        return load_model(model, loading, reporter=reporter)
    from specialize.capture.given import make_checkpoint

    return make_checkpoint(model, tokenizer)


def load_model(name: str | PathLike[str], loading: Mapping[str, Any], *, reporter: Reporter) -> "Checkpoint":
    """Load a checkpoint, one of this package's own model type included.

    Args:
        name: its folder, or the id of a model on the hub.
        loading: the other arguments of `specialize.load_checkpoint`.
        reporter: receives a message.

    Raises:
        CaptureError: as `specialize.load_checkpoint`.
    """
    reporter.say(f"loading {fspath(name)} …")
    import specialize.models  # noqa: F401 (registers this package's model with transformers)
    from specialize.capture import load_checkpoint

    return load_checkpoint(name, **loading)
