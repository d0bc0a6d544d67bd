"""The routers of a model, before anything is recorded."""

from os import PathLike
from typing import TYPE_CHECKING, Any

from specialize.choices import Dtype
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.pipeline.models import load_model

if TYPE_CHECKING:
    from specialize.trace import RouterSpec


def inspect(
    model: "str | PathLike[str] | Any",
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
    reporter: Reporter = SILENT,
) -> "list[RouterSpec]":
    """Find the routers of a model and verify, in one short forward pass, that their routing is seen.

    Args:
        model: a checkpoint folder, the id of a model on the hub, a loaded model, or a `Checkpoint`.
        dtype: precision; auto: as stored on a GPU, float32 on a CPU.
        device: cpu, cuda, cuda:1 …; by default a GPU where there is one.
        device_map: how accelerate spreads the model over devices.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint that lacks weights of the model, which are then random, or has
            unused weights in its layers.
        reporter: receives messages, and the warnings of a family.

    Returns:
        The specification of each router, in layer order.

    Raises:
        CaptureError: there is no such checkpoint, it lacks weights, or its routing cannot be captured or is not finite.
    """
    require_extra("capture")
    from specialize.capture import Checkpoint, find_routers

    if isinstance(model, str | PathLike):
        loading = {
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "allow_missing_weights": allow_missing_weights,
        }
        model = load_model(model, loading, reporter=reporter)
    points = find_routers(model.model if isinstance(model, Checkpoint) else model)
    for name, warning in {point.adapter.name: point.adapter.warning for point in points}.items():
        if warning is not None:
            reporter.say(f"{name}: {warning}")
    return [point.spec for point in points]
