"""Rows on how far two traces of the same tokens agree: by layer, by label, and over all layers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.column import Column, compute_column
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.scratch import Scratch
from specialize.measure.estimators.saturation import saturate_layers
from specialize.measure.estimators.token_agreement import compare_tokens
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.confidence import mean_rows
from specialize.measure.runs.routers import read_column

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_VALUES = np.dtype(  # of a token; whether it differs is 0, 1 or NaN
    [("overlap", np.float64), ("same_first", np.float16), ("differs", np.float16), ("weight_difference", np.float64)]
)
_SLOTS, _TOKENS, _GATE = "share of slots", "share of tokens", "gate weight"


class AgreementRows:
    """Compares the routers of two traces of the same tokens, layer by layer; use as a context manager.

    Args:
        traces: both.
        labels: by which agreement is measured, too.
        num_blocks: maximum number of document blocks.
    """

    def __init__(
        self, traces: "tuple[RoutingTrace, RoutingTrace]", labels: Sequence[Annotation], *, num_blocks: int
    ) -> None:
        self._traces = traces
        self._labels = labels
        self._num_blocks = num_blocks
        self._has_weights = all("weights" in trace.contents for trace in traces)
        self._differs: dict[str, Scratch] = {}  # by routing: whether a token differs in any layer so far
        self._places: LayerInput | None = None

    def __enter__(self) -> "AgreementRows":
        return self

    def __exit__(self, *_: object) -> None:
        for scratch in self._differs.values():
            scratch.__exit__()

    def of_layer(
        self, routing: str, routers: "tuple[RouterSpec, RouterSpec]", sides: tuple[LayerInput, LayerInput]
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of a pair of routers with equal numbers of experts and of slots.

        Args:
            routing: of the rows.
            routers: of both traces.
            sides: their routing decisions.
        """
        one, two = sides
        saturation = saturate_layers(one, two, num_blocks=self._num_blocks)
        frames = [estimate_rows(saturation, "saturation")]
        size = len(one.experts)
        with Scratch(size, _VALUES) as tokens:
            self._compare(routing, routers, one, two, tokens)
            frames += self._by_label("saturation", _column(tokens, size, "overlap"), one, _SLOTS)
            frames += self._mean("first_expert_agreement", _column(tokens, size, "same_first"), one, _TOKENS)
            frames += self._mean("mismatched_tokens", _column(tokens, size, "differs"), one, _TOKENS)
            if self._has_weights:
                difference = _column(tokens, size, "weight_difference")
                frames += self._mean("gate_weight_difference", difference, one, _GATE)
        self._places = one
        for frame in map(_within_shares, frames):
            yield frame.assign(layer=routers[0].layer, router=routers[0].name, routing=routing)

    def _compare(
        self,
        routing: str,
        routers: "tuple[RouterSpec, RouterSpec]",
        one: LayerInput,
        two: LayerInput,
        tokens: Scratch,
    ) -> None:
        """Write how far the experts of each token agree, and whether they differ in any layer so far."""
        weights: list[Any] = [None, None]
        if self._has_weights:
            weights = [read_column(trace, "weights", each) for trace, each in zip(self._traces, routers, strict=True)]
        is_first = routing not in self._differs
        if is_first:
            self._differs[routing] = Scratch(len(one.experts), np.dtype(np.float16))
        differs = self._differs[routing]
        for part, other in zip(one.parts(), two.parts(), strict=True):
            rows = part.rows
            gates = [None if each is None else each[rows] for each in weights]
            found = compare_tokens(part.experts, other.experts, weights=gates[0], other_weights=gates[1])
            values = np.empty(len(part.experts), dtype=_VALUES)
            for name in ("overlap", "same_first", "differs", "weight_difference"):
                own = getattr(found, name)
                values[name] = np.nan if own is None else own
            tokens.write(rows.start, values)
            before = values["differs"] if is_first else differs.read(rows.start, rows.stop)
            differs.write(rows.start, np.fmax(before, values["differs"]))

    def of_all_layers(self) -> Iterator[pd.DataFrame]:
        """Yield the rows on tokens that differ in any of the layers that were compared."""
        for routing, scratch in self._differs.items():
            if self._places is not None:
                differs = _column(scratch, len(self._places.experts))
                frames = [
                    *self._mean("mismatched_tokens_in_any_layer", differs, self._places, _TOKENS),
                    *self._by_label("mismatched_tokens_in_any_layer", differs, self._places, _TOKENS),
                ]
                for frame in map(_within_shares, frames):
                    yield frame.assign(
                        layer=pd.array([pd.NA] * len(frame), dtype="Int64"), router=None, routing=routing
                    )

    def _mean(
        self, metric: str, values: Column, layer: LayerInput, unit: str, labels: Annotation | None = None
    ) -> Iterator[pd.DataFrame]:
        how = {"permutations": 0, "num_blocks": self._num_blocks, "unit": unit}
        yield from mean_rows(metric, values, layer.counts, groups=layer.groups, annotation=labels, settings=how)

    def _by_label(self, metric: str, values: Column, layer: LayerInput, unit: str) -> Iterator[pd.DataFrame]:
        for labels in self._labels:
            yield from self._mean(metric, values, layer, unit, labels)


def _column(tokens: Scratch, size: int, name: str | None = None) -> Column:
    """Return what was written of each token as a column float64 [tokens]."""

    def read(rows: slice) -> NDArray[np.float64]:
        found = tokens.read(rows.start, rows.stop)
        return np.asarray(found if name is None else found[name], dtype=np.float64)

    return compute_column(size, read, dtype=np.float64)


def _within_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Cut the intervals of shares at 0 and 1."""
    if not frame["unit"].str.startswith("share").all():
        return frame
    return frame.assign(ci_low=frame["ci_low"].clip(lower=0.0), ci_high=frame["ci_high"].clip(upper=1.0))
