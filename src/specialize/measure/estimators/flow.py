"""Flow between layers: how informative the expert of one layer is about the expert of the next."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.column import compute_column
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import (
    Counted,
    assign_blocks,
    check_order,
    divide,
    estimate_blocks,
    group_documents,
    note_sparse,
)
from specialize.measure.base.counting import as_codes, check_range
from specialize.measure.base.estimate import Estimate, EstimateArray, jackknife_values
from specialize.measure.base.information import label_entropy, mutual_information
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.nulls import shifted_tables
from specialize.measure.base.units import ObservedParts, tabulate_units
from specialize.measure.estimators.observed import count_labelled, read_labelled

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
    before, after, places = np.asarray(experts), np.asarray(following), as_codes(documents)
    if not len(before) == len(after) == len(places):
        raise MeasurementError(
            f"experts, following and documents must be of one length, got {len(before)}, {len(after)} and {len(places)}"
        )
    check_order(places)
    layer = LayerInput(before, places, num_experts, groups=None if groups is None else np.asarray(groups))
    after_it = LayerInput(after, places, num_following)
    return connect_layers(layer, after_it, permutations=permutations, num_blocks=num_blocks, seed=seed)


def connect_layers(
    layer: LayerInput, after: LayerInput, *, permutations: int = 200, num_blocks: int = 50, seed: int = 0
) -> Flow:
    """Measure the flow from a layer to another one of the same tokens, as `measure_flow`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        after: those of the other layer.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    seen, num_experts, num_following = _observe(layer, after, num_blocks), layer.num_experts, after.num_experts
    n_tokens = int(seen.lengths.sum())
    if not n_tokens:
        raise MeasurementError("expected tokens that both layers routed, got none: measure layers of one stack")
    shape = (seen.num_blocks, num_following, num_experts)
    null = np.empty((permutations, 2))
    for batch, tables in shifted_tables(seen, shape=shape, permutations=permutations, seed=seed):
        null[batch], _ = jackknife_values(tables, _information)
    tables = tabulate_units(seen, shape=shape)
    counts: Counted = {"n_tokens": n_tokens, "n_documents": len(seen.blocks)}
    used = [np.count_nonzero(tables.sum(axis=axes)) - 1 for axes in ((0, 1), (0, 2))]
    options: dict[str, Any] = {
        "null": null,
        "corrected": True,
        "note": note_sparse(n_tokens, int(used[0] * used[1])),
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


def _observe(layer: LayerInput, after: LayerInput, num_blocks: int) -> ObservedParts:
    """Keep the tokens that have a first expert in both layers."""

    def read_codes(rows: slice) -> NDArray[np.int32]:
        own, following = layer.experts[rows][:, 0], after.experts[rows][:, 0]
        check_range("experts", own, layer.num_experts)
        return np.where(own >= 0, following, -1).astype(np.int32)

    first = replace(layer, rule="first", weights=None)
    codes = compute_column(len(layer.experts), read_codes, dtype=np.int32)
    lengths = count_labelled(codes, layer.counts, num_labels=after.num_experts)
    present = np.flatnonzero(lengths)
    own = group_documents(present, layer.groups)
    return ObservedParts(
        partial(read_labelled, first, codes), lengths[present], assign_blocks(own, num_blocks=num_blocks), own
    )


def _information(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shared, own = mutual_information(counts), label_entropy(counts)
    return np.stack([shared, divide(shared, own)], axis=-1)


def _transitions(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum(axis=-2, keepdims=True)
    return divide(counts, np.broadcast_to(total, counts.shape))
