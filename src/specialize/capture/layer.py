"""The recorded routing of one layer, as a user receives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from specialize.capture.invalid import Invalid, find_invalid
from specialize.errors import CaptureError
from specialize.trace import RouterSpec


@dataclass(frozen=True)
class LayerRouting:
    """The decisions of one router for every token recorded since the recorder was last emptied.

    Attributes:
        spec: the router.
        experts: int64 [tokens, k] in the model's rank order; -1 in a slot that was dropped or skipped. Tokens are in
            reading order, sequence by sequence, one forward pass after the other.
        weights: float32 [tokens, k] gate weights; None for random routers after the first.
        sequence: int64 [tokens], running number of the token's sequence over the recorded passes; None if the model
            was not called with token ids.
        position: int64 [tokens], position of the token in its sequence, padding included; None likewise.
        generated: bool [tokens], whether the token was generated, after `Recorder.take_generation`; None otherwise.
        logits: float32 [tokens, E] router logits, if requested.
        norms: float32 [tokens, k] Euclidean norms of the chosen experts' weighted outputs, if requested.
    """

    spec: RouterSpec
    experts: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None
    sequence: NDArray[np.int64] | None = None
    position: NDArray[np.int64] | None = None
    generated: NDArray[np.bool_] | None = None
    logits: NDArray[np.float32] | None = None
    norms: NDArray[np.float32] | None = None

    @property
    def name(self) -> str:
        """Path of the hooked module in the model."""
        return self.spec.name

    @property
    def layer(self) -> int:
        """Number of the layer, as the model numbers it."""
        return self.spec.layer

    @property
    def num_experts(self) -> int:
        """Number of experts to choose from."""
        return self.spec.num_experts


def read_layer(
    spec: RouterSpec, recorded: Mapping[str, Tensor], rows: NDArray[np.int64] | None = None, **where: Any
) -> LayerRouting:
    """Return the recorded columns of a router as arrays.

    Args:
        spec: the router.
        recorded: its columns, [tokens, width].
        rows: those to keep, in the order to return them; default: all.
        **where: sequence, position and generated of the kept rows, each [tokens].
    """

    def read(name: str) -> Any:
        if name not in recorded:
            return None
        values = recorded[name].float().cpu().numpy() if name != "experts" else recorded[name].cpu().numpy()
        return values if rows is None else values[rows]

    experts = read("experts").astype(np.int64)
    return LayerRouting(spec, experts, read("weights"), logits=read("logits"), norms=read("norms"), **where)


def check_length(spec: RouterSpec, recorded: Mapping[str, Tensor], total: int) -> None:
    """Raise CaptureError if a router decided for another number of tokens than the model read."""
    if len(recorded["experts"]) != total:
        raise CaptureError(
            f"{spec.name}: expected routing of {total} tokens, the model's input, got {len(recorded['experts'])}"
        )


def check_finite(taken: Sequence[LayerRouting]) -> None:
    """Raise CaptureError if recorded values are not finite, naming the first sequence, router and token."""
    found = [invalid for layer in taken if (invalid := _find_invalid(layer)) is not None]
    if found:
        raise min(found, key=lambda invalid: invalid.sequence).error()


def _find_invalid(layer: LayerRouting) -> Invalid | None:
    def locate(index: int) -> str:
        if layer.sequence is None or layer.position is None:
            return f"token {index}"
        return f"sequence {layer.sequence[index]}, position {layer.position[index]}"

    extras = {"weights": layer.weights, "logits": layer.logits, "norms": layer.norms}
    columns: dict[str, NDArray[Any]] = {"experts": layer.experts}
    columns |= {name: values for name, values in extras.items() if values is not None}
    return find_invalid([layer.spec], [columns], locate, layer.sequence)
