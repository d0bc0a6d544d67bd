"""Affinity of experts to a task: selection share, mean gate weight, and the smallest set that reaches a given share.

Source: Wang et al. 2024, "Let the Expert Stick to His Last", https://arxiv.org/abs/2407.01906, equations for ESFT-Token
(selection ratio) and ESFT-Gate (average gate score). Scores are pooled over tokens, not averaged over samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import AffinityScore, check_choice
from specialize.errors import MeasurementError

_PUBLISHED_DECIMALS = 4
_ROUNDING = 1e-12  # of a sum of shares


class AffinityTrace(Protocol):
    """The part of a trace that affinity needs."""

    @property
    def layers(self) -> Sequence[Any]:
        """The model's own routers."""

    @property
    def contents(self) -> Sequence[str]:
        """What the trace records in addition to the experts."""

    def experts(self, layer: int | str) -> NDArray[np.int16]:
        """Return the chosen experts, int16 [tokens, k]."""

    def weights(self, layer: int | str) -> NDArray[np.float32]:
        """Return the gate weights of the chosen experts, float32 [tokens, k]."""


@dataclass(frozen=True)
class LayerAffinity:
    """Affinity of the experts of one layer.

    Attributes:
        layer: the layer's number as text, or the router's name where a layer has several routers.
        token_scores: float64 [E], see `token_scores`.
        gate_scores: float64 [E], see `gate_scores`; None where the trace has no gate weights.
        selected: the smallest set of experts that reaches the requested share, in decreasing order of score.
        value: of the label whose tokens were scored; None for all tokens.
    """

    layer: str
    token_scores: NDArray[np.float64]
    gate_scores: NDArray[np.float64] | None
    selected: tuple[int, ...]
    value: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dictionary, with scores by expert."""
        gate = None if self.gate_scores is None else _by_expert(self.gate_scores)
        return {"token_scores": _by_expert(self.token_scores), "gate_scores": gate, "selected": list(self.selected)}


def _by_expert(scores: NDArray[np.float64]) -> dict[str, float]:
    return {str(expert): score for expert, score in enumerate(scores.tolist())}


def token_scores(experts: ArrayLike, num_experts: int) -> NDArray[np.float64]:
    """Compute each expert's share of all slots, its selections divided by tokens x k.

    Args:
        experts: integers [tokens, k]; negative where a slot holds no expert.
        num_experts: E.

    Returns:
        float64 [E]; shares sum to 1, or to less where slots hold no expert.

    Raises:
        MeasurementError: experts are not integers [tokens, k], there are no tokens, or an expert is not below E.
    """
    chosen = _check_experts(experts, num_experts)
    return np.bincount(chosen[chosen >= 0], minlength=num_experts) / chosen.size


def gate_scores(experts: ArrayLike, weights: ArrayLike, num_experts: int) -> NDArray[np.float64]:
    """Compute each expert's mean gate weight over all tokens, with weight zero where it is not chosen.

    Args:
        experts: integers [tokens, k]; negative where a slot holds no expert.
        weights: gate weights [tokens, k].
        num_experts: E.

    Returns:
        float64 [E]. Scores sum to the mean total gate weight of a token, which is 1 only where the router normalises
        the weights of the chosen experts.

    Raises:
        MeasurementError: as for `token_scores`, or the shapes differ.
    """
    chosen, gates = _check_experts(experts, num_experts), np.asarray(weights, dtype=np.float64)
    if gates.shape != chosen.shape:
        raise MeasurementError(
            f"expected gate weights of shape {chosen.shape}, got {gates.shape}: pass one weight per slot"
        )
    present = chosen >= 0
    return np.bincount(chosen[present], weights=gates[present], minlength=num_experts) / len(chosen)


def affinity_set(scores: ArrayLike, top_p: float, *, decimals: int | None = _PUBLISHED_DECIMALS) -> NDArray[np.int64]:
    """Select experts in decreasing order of score until their scores sum to at least `top_p`.

    Args:
        scores: float [E].
        top_p: share to reach, above 0 and at most 1. All experts are selected where their sum is lower.
        decimals: number of decimals to which scores are rounded for the order; ties are resolved in favour of the
            lower index. The published selections were made from scores with four decimals. None for no rounding.

    Returns:
        int64 [selected], in decreasing order of score.

    Raises:
        MeasurementError: `top_p` is out of range, or scores are not finite or not one-dimensional.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not 0 < top_p <= 1:
        raise MeasurementError(f"top_p: expected a share above 0 and at most 1, got {top_p}: 0.2 is usual")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise MeasurementError(
            f"expected finite scores [experts], got shape {values.shape} or values that are not finite"
        )
    ranked = values if decimals is None else np.round(values, decimals)
    order = np.argsort(-ranked, kind="stable")
    needed = int(np.searchsorted(np.cumsum(values[order]), top_p - _ROUNDING)) + 1
    return order[:needed]


def measure_affinity(
    trace: AffinityTrace,
    *,
    top_p: float = 0.2,
    by: AffinityScore = "token",
    parts: Mapping[str, NDArray[np.bool_]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[LayerAffinity]:
    """Measure the affinity of each layer's experts to the traced corpus.

    Args:
        trace: a trace of the task's data.
        top_p: share that the selected experts reach, see `affinity_set`.
        by: score for the selection, token or gate.
        parts: bool [tokens] by the value of a label, to score the tokens of each value apart; default: all together.
        progress: called with (layers done, total layers).

    Yields:
        One `LayerAffinity` per router, in layer order; with `parts`, one per router and value.

    Raises:
        MeasurementError: the score is unknown, or `top_p` is out of range.
        TraceError: the score is gate and the trace has no gate weights.
    """
    check_choice("score", by, AffinityScore, error=MeasurementError)
    numbers = [router.layer for router in trace.layers]
    for done, router in enumerate(trace.layers, start=1):
        experts = trace.experts(router.name)
        weighted = "weights" in trace.contents or by == "gate"
        weights = trace.weights(router.name) if weighted else None
        name = str(router.layer) if numbers.count(router.layer) == 1 else router.name
        for value, tokens in parts.items() if parts is not None else ((None, slice(None)),):
            token = token_scores(experts[tokens], router.num_experts)
            gate = None if weights is None else gate_scores(experts[tokens], weights[tokens], router.num_experts)
            selected = affinity_set(token if by == "token" or gate is None else gate, top_p)
            yield LayerAffinity(name, token, gate, tuple(selected.tolist()), value)
        if progress is not None:
            progress(done, len(numbers))


def _check_experts(experts: ArrayLike, num_experts: int) -> NDArray[np.integer]:
    chosen = np.asarray(experts)
    if chosen.ndim != 2 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise MeasurementError(f"expected experts as integers [tokens, k], got {chosen.dtype} {list(chosen.shape)}")
    if chosen.max() >= num_experts:
        raise MeasurementError(
            f"expected experts below {num_experts}, got {chosen.max()}: pass the router's num_experts"
        )
    return chosen
