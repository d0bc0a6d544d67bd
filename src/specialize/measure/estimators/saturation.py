"""Router saturation: the overlap of the experts that two models choose for the same tokens."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide, estimate_blocks
from specialize.measure.base.counting import as_codes, check_distinct, check_range
from specialize.measure.base.estimate import Estimate
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.routed import RoutedCount


def measure_saturation(
    experts: ArrayLike,
    final: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> Estimate:
    """Measure router saturation, the mean over tokens of ``|E(t) & E(T)| / k``.

    E(t) and E(T) are the experts that an earlier and the final checkpoint choose for a token. Experts are compared by
    index, which is meaningful only for checkpoints of one training run. Tokens to which both sides gave an expert
    are counted; a slot without an expert counts as a mismatch.

    Args:
        experts: integers [tokens, k] of the first side, distinct within a token; negative where a slot holds no expert.
        final: integers [tokens, k] of the second side.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts, the same on both sides.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.

    Returns:
        The estimate, as a share of slots, with a jackknife interval over document blocks. ``null_mean`` is chance,
        the overlap of two sides that choose independently at their observed loads:
        ``sum_e P(e in E(t)) P(e in E(T)) / k``. There is no p-value. NaN where no token was routed by both sides.

    Raises:
        MeasurementError: there are no tokens, arrays do not match in shape, values are out of range, or a token has an
            expert twice.

    Source:
        Muennighoff et al. (2024), OLMoE, https://arxiv.org/abs/2409.02060, section 5.1.
    """
    one, other = (np.ascontiguousarray(each, dtype=np.int16) for each in (experts, final))
    places = as_codes(documents)
    if one.ndim != 2 or one.shape != other.shape or len(one) != len(places):
        raise MeasurementError(
            "expected experts [tokens, k] of two sides and documents [tokens], "
            f"got shapes {one.shape}, {other.shape} and {places.shape}: saturation needs the same tokens and k"
        )
    layer = LayerInput.of(one, places, num_experts=num_experts, groups=None if groups is None else np.asarray(groups))
    return saturate_layers(layer, LayerInput.of(other, places, num_experts=num_experts), num_blocks=num_blocks)


def saturate_layers(layer: LayerInput, final: LayerInput, *, num_blocks: int = 50) -> Estimate:
    """Measure the saturation of a layer, as `measure_saturation`, part by part.

    Args:
        layer: the routing decisions of the first side, in memory or on disk.
        final: those of the second side, of the same tokens.
        num_blocks: maximum number of document blocks.
    """
    blocks, num_experts, slots = layer.blocks(num_blocks), layer.num_experts, layer.experts.shape[1]
    if not layer.counts.any():
        raise MeasurementError("expected tokens, got none: trace a corpus first")
    tables, both = np.zeros((int(blocks.max()) + 1, 1, 2 + 2 * num_experts)), RoutedCount(len(blocks))
    for part, other in zip(layer.parts(), final.parts(), strict=True):
        for name, each in (("experts", part), ("final", other)):
            check_range(name, each.experts, num_experts)
            check_distinct(name, each.experts, each.first_row)
        _count_overlap(tables, part.experts, other.experts, blocks[part.documents])
        both.add(part.routed & other.routed, part.documents)
    total = tables.sum(axis=(0, 1))
    loads = total[2:].reshape(2, num_experts)

    def share(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return divide(counts[..., 0, :1], slots * counts[..., 0, 1:2])

    return estimate_blocks(
        tables,
        share,
        unit="share of slots",
        n_tokens=int(total[1]),
        n_documents=both.num_documents,
        chance=divide((loads[0] * loads[1]).sum(keepdims=True), slots * total[1:2] ** 2),
    )[0]


@njit(cache=True, nogil=True)
def _count_overlap(tables, one, other, blocks):  # type: ignore[no-untyped-def]
    """Count per block: shared experts, tokens, and how often each side chose each expert."""
    slots = one.shape[1]
    experts = (tables.shape[2] - 2) // 2
    for row in range(len(blocks)):
        common, first, second = 0, 0, 0
        for slot in range(slots):
            first += one[row, slot] >= 0
            second += other[row, slot] >= 0
            if one[row, slot] >= 0:
                for place in range(slots):
                    common += one[row, slot] == other[row, place]
        if first and second:
            table = tables[blocks[row], 0]
            table[0] += common
            table[1] += 1
            for slot in range(slots):
                if one[row, slot] >= 0:
                    table[2 + one[row, slot]] += 1
                if other[row, slot] >= 0:
                    table[2 + experts + other[row, slot]] += 1
