"""Flow between layers: how informative the expert of one layer is about the expert of the next."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import (
    Counted,
    check_order,
    divide,
    estimate_blocks,
    note_sparse,
)
from specialize.measure.base.counting import as_codes, check_range, tabulate
from specialize.measure.base.estimate import Estimate, EstimateArray, jackknife_values
from specialize.measure.base.information import label_entropy, mutual_information
from specialize.measure.base.nulls import Observations, shifted_tables
from specialize.measure.estimators.observed import observe_units

RARE = 5  # tokens


@dataclass(frozen=True)
class Flow:
    """Association of the first experts of two consecutive layers.

    Attributes:
        mutual_information: I(E_l; E_(l+1)) in bits.
        uncertainty_coefficient: I / H(E_(l+1)), the share of the next expert's entropy that is explained.
        transitions: P(E_(l+1) = j | E_l = i) as counted, [j, i]; ``null_mean`` is P(E_(l+1) = j), there is no p-value.
    """

    mutual_information: Estimate
    uncertainty_coefficient: Estimate
    transitions: EstimateArray


def measure_flow(
    experts: ArrayLike,
    following: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    num_following: int,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> Flow:
    """Measure how informative the first expert of one layer is about the first expert of another.

    Only slot 0 counts. Two layers with identical choices then have U = 1, which would not hold if a token's mass were
    spread over all pairs of slots. The null circularly shifts the choices of the other layer within each document.
    Mutual information and uncertainty coefficient are bias-corrected by the jackknife over document blocks. Transitions
    of fewer than `RARE` tokens have no interval, as theirs would cover the share too rarely. With fewer than 5 tokens
    for each degree of freedom, (experts - 1) (experts of the other layer - 1), the information is too high, and
    ``ci_kind`` says so.

    Args:
        experts: integers [tokens, k] of the layer; negative where a slot holds no expert.
        following: integers [tokens, k'] of the other layer, usually the next.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        num_following: number of experts of the other layer.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates. The uncertainty coefficient is NaN where only one expert of the other layer is used.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no token was routed by both
            layers.
    """
    before, after, places = np.asarray(experts)[:, 0], as_codes(np.asarray(following)[:, 0]), as_codes(documents)
    if not len(before) == len(after) == len(places):
        raise MeasurementError(
            f"experts, following and documents must be of one length, got {len(before)}, {len(after)} and {len(places)}"
        )
    check_range("experts", before, num_experts)
    check_range("following", after, num_following)
    check_order(places)
    seen = _observe(before, after, places, groups, num_blocks=num_blocks)
    if not len(seen.codes):
        raise MeasurementError("expected tokens that both layers routed, got none: measure layers of one stack")
    shape = (seen.num_blocks, num_following, num_experts)
    null = np.empty((permutations, 2))
    for batch, tables in shifted_tables(seen, shape=shape, permutations=permutations, seed=seed):
        null[batch], _ = jackknife_values(tables, _information)
    tables = tabulate(seen.codes, seen.experts, seen.masses, seen.unit_blocks, shape=shape)
    counts: Counted = {"n_tokens": len(seen.codes), "n_documents": len(seen.blocks)}
    used = [np.count_nonzero(tables.sum(axis=axes)) - 1 for axes in ((0, 1), (0, 2))]
    options: dict[str, Any] = {
        "null": null,
        "corrected": True,
        "note": note_sparse(len(seen.codes), int(used[0] * used[1])),
    }
    information = estimate_blocks(tables, _information, unit="bits", **options, **counts).at_most(
        float(np.log2(min(num_experts, num_following)))
    )
    coefficient = estimate_blocks(tables, _information, unit="share of H(next expert)", **options, **counts).at_most(
        1.0
    )
    chance = np.repeat(tables.sum(axis=(0, 2))[:, None] / tables.sum(), num_experts, axis=1)
    transitions = estimate_blocks(tables, _transitions, unit="share of the expert's tokens", chance=chance, **counts)
    rare = ~np.isnan(transitions.value) & (tables.sum(axis=0) < RARE)
    transitions.ci_low[rare] = transitions.ci_high[rare] = np.nan
    transitions.ci_kind[rare] = f"none: below {RARE} tokens with this transition"
    return Flow(information[0], coefficient[1], transitions)


def _observe(
    before: NDArray[np.integer],
    after: NDArray[np.int32],
    documents: NDArray[np.int32],
    groups: ArrayLike | None,
    *,
    num_blocks: int,
) -> Observations:
    """Keep the tokens that have a first expert in both layers."""
    both = (before >= 0) & (after >= 0)
    return observe_units(
        np.ascontiguousarray(after[both]),
        np.ascontiguousarray(before[both][:, None], dtype=np.int16),
        np.ones((int(both.sum()), 1)),
        documents[both],
        groups=groups,
        num_blocks=num_blocks,
    )


def _information(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shared, own = mutual_information(counts), label_entropy(counts)
    return np.stack([shared, divide(shared, own)], axis=-1)


def _transitions(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum(axis=-2, keepdims=True)
    return divide(counts, np.broadcast_to(total, counts.shape))
