"""Co-activation: which experts are chosen together for a token."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.measure.base.blocks import Counted, divide, estimate_blocks
from specialize.measure.base.chance import pair_chance
from specialize.measure.base.counting import check_distinct, check_range
from specialize.measure.base.estimate import EstimateArray
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.routed import RoutedCount, count_sizes

_SLAB_CELLS = 2**22  # of one slab of the table; the jackknife holds about five copies


def count_pairs(layer: LayerInput, blocks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Count the tokens that choose each pair of experts, over all pairs of a token's slots.

    Args:
        layer: the routing decisions, in memory or on disk.
        blocks: int32 [documents], the block of each document with tokens.

    Returns:
        float64 [block, i, j]: N(i, j), the tokens that chose experts i and j; on the diagonal N(i).

    Raises:
        MeasurementError: an expert is out of range, or a token has one twice.
    """
    tables = np.zeros((int(blocks.max(initial=-1)) + 1, layer.num_experts, layer.num_experts))
    for part in layer.parts():
        check_range("experts", part.experts, layer.num_experts)
        check_distinct("experts", part.experts, part.first_row)
        _add_pairs(tables, part.experts, blocks[part.documents])
    return tables


def coactivation(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute N(i, j) / N(i), the share of the tokens of expert i that also chose expert j.

    Args:
        counts: float64 [..., i, j], see `count_pairs`.

    Returns:
        float64 [..., i, j] in [0, 1]; NaN on the diagonal and in the row of an expert that no token chose.

    Source:
        Muennighoff et al. (2024), OLMoE, section 5.2. All pairs of a token's experts count, not only those of
        adjacent rank.
    """
    table = np.array(counts, dtype=np.float64)
    own = np.diagonal(table, axis1=-2, axis2=-1)[..., None]
    shares = divide(table, np.broadcast_to(own, table.shape))
    experts = np.arange(table.shape[-1])
    shares[..., experts, experts] = np.nan
    return shares


def measure_coactivation(
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> EstimateArray:
    """Measure the co-activation of the experts of one layer.

    Args:
        experts: integers [tokens, k], distinct within a token; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.

    Returns:
        Estimates [i, j] of N(i, j) / N(i), the share of expert i's tokens that also chose j, as counted, with
        jackknife intervals over document blocks. ``null_mean`` is chance at the observed load, see
        `specialize.measure.base.chance`; there is no p-value.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or a token has an expert twice.
    """
    return coactivate_layer(
        LayerInput.of(experts, documents, num_experts=num_experts, groups=groups), num_blocks=num_blocks
    )


def coactivate_layer(layer: LayerInput, *, num_blocks: int = 50) -> EstimateArray:
    """Measure the co-activation of a layer's experts, as `measure_coactivation`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        num_blocks: maximum number of document blocks.
    """
    blocks, num_experts = layer.blocks(num_blocks), layer.num_experts
    tables = count_pairs(layer, blocks)
    sizes, routed = np.zeros(layer.experts.shape[1] + 1), RoutedCount(len(blocks))
    for part in layer.parts():
        count_sizes(sizes, part.experts)
        routed.add(part.routed, part.documents)
    counts: Counted = {"n_tokens": routed.tokens, "n_documents": routed.num_documents}
    chance = pair_chance(np.diagonal(tables.sum(axis=0)), sizes)
    step = max(1, _SLAB_CELLS // max(1, len(tables) * num_experts))
    parts = []
    for first in range(0, num_experts, step):
        slab = slice(first, min(first + step, num_experts))
        parts.append(_estimate_rows(tables, slab, chance, counts))
    return _stack(parts)


def _estimate_rows(
    tables: NDArray[np.float64], slab: slice, chance: NDArray[np.float64], counts: Counted
) -> EstimateArray:
    """Estimate some rows at a time, to limit memory: the jackknife holds about five copies of its tables."""
    own = np.arange(slab.stop - slab.start)

    def shares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        chose = rows[..., own, slab.start + own]
        out = divide(rows, np.broadcast_to(chose[..., None], rows.shape))
        out[..., own, slab.start + own] = np.nan
        return out

    return estimate_blocks(tables[:, slab], shares, unit="share of the expert's tokens", chance=chance[slab], **counts)


def _stack(parts: list[EstimateArray]) -> EstimateArray:
    cells = ("value", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value", "null_low", "null_high")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cells}
    return EstimateArray(**{**vars(parts[0]), **joined})


@njit(cache=True, nogil=True)
def _add_pairs(tables, experts, blocks):  # type: ignore[no-untyped-def]
    slots = experts.shape[1]
    for row in range(experts.shape[0]):
        block = blocks[row]
        for left in range(slots):
            first = experts[row, left]
            if first < 0:
                continue
            tables[block, first, first] += 1.0
            for right in range(left + 1, slots):
                second = experts[row, right]
                if second >= 0:
                    tables[block, first, second] += 1.0
                    tables[block, second, first] += 1.0
