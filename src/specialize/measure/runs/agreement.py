"""Rows on how far two traces of the same tokens agree: by layer, by label, and over all layers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.saturation import measure_saturation
from specialize.measure.estimators.token_agreement import compare_tokens
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.confidence import mean_rows

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_SLOTS, _TOKENS, _GATE = "share of slots", "share of tokens", "gate weight"


class AgreementRows:
    """Compares the routers of two traces of the same tokens, layer by layer.

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
        self._differs: dict[str, NDArray[np.float64]] = {}  # by routing: whether a token differs in any layer so far
        self._places: LayerInput | None = None

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
        saturation = measure_saturation(
            one.experts,
            two.experts,
            one.documents,
            num_experts=one.num_experts,
            groups=one.groups,
            num_blocks=self._num_blocks,
        )
        weights: list[NDArray[Any] | None] = [None, None]
        if self._has_weights:
            weights = [
                trace.weights(router.name, routing=router.routing)
                for trace, router in zip(self._traces, routers, strict=True)
            ]
        tokens = compare_tokens(one.experts, two.experts, weights=weights[0], other_weights=weights[1])
        frames = [
            estimate_rows(saturation, "saturation"),
            *self._by_label("saturation", tokens.overlap, one, _SLOTS),
            *self._mean("first_expert_agreement", tokens.same_first, one, _TOKENS),
            *self._mean("mismatched_tokens", tokens.differs, one, _TOKENS),
        ]
        if tokens.weight_difference is not None:
            frames += self._mean("gate_weight_difference", tokens.weight_difference, one, _GATE)
        before = self._differs.get(routing)
        self._differs[routing] = tokens.differs if before is None else np.fmax(before, tokens.differs)
        self._places = one
        for frame in map(_within_shares, frames):
            yield frame.assign(layer=routers[0].layer, router=routers[0].name, routing=routing)

    def of_all_layers(self) -> Iterator[pd.DataFrame]:
        """Yield the rows on tokens that differ in any of the layers that were compared."""
        for routing, differs in self._differs.items():
            if self._places is not None:
                frames = [
                    *self._mean("mismatched_tokens_in_any_layer", differs, self._places, _TOKENS),
                    *self._by_label("mismatched_tokens_in_any_layer", differs, self._places, _TOKENS),
                ]
                for frame in map(_within_shares, frames):
                    yield frame.assign(
                        layer=pd.array([pd.NA] * len(frame), dtype="Int64"), router=None, routing=routing
                    )

    def _mean(
        self, metric: str, values: NDArray[np.float64], layer: LayerInput, unit: str, labels: Annotation | None = None
    ) -> Iterator[pd.DataFrame]:
        how = {"permutations": 0, "num_blocks": self._num_blocks, "unit": unit}
        yield from mean_rows(metric, values, layer.documents, groups=layer.groups, annotation=labels, settings=how)

    def _by_label(
        self, metric: str, values: NDArray[np.float64], layer: LayerInput, unit: str
    ) -> Iterator[pd.DataFrame]:
        for labels in self._labels:
            yield from self._mean(metric, values, layer, unit, labels)


def _within_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Cut the intervals of shares at 0 and 1."""
    if not frame["unit"].str.startswith("share").all():
        return frame
    return frame.assign(ci_low=frame["ci_low"].clip(lower=0.0), ci_high=frame["ci_high"].clip(upper=1.0))
