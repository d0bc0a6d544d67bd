"""Router saturation: the overlap of the experts that two models choose for the same tokens."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import block_tokens, divide, estimate_blocks
from specialize.measure.base.counting import as_codes, check_distinct, check_range
from specialize.measure.base.estimate import Estimate


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
    check_range("experts", one, num_experts)
    check_range("final", other, num_experts)
    check_distinct("experts", one)
    check_distinct("final", other)
    cut = block_tokens(places, groups=groups, num_blocks=num_blocks)
    if not cut.num_blocks:
        raise MeasurementError("expected tokens, got none: trace a corpus first")
    tables = np.zeros((cut.num_blocks, 1, 2 + 2 * num_experts))
    _count_overlap(tables, one, other, cut.token_blocks)
    slots, total = one.shape[1], tables.sum(axis=(0, 1))
    loads = total[2:].reshape(2, num_experts)
    both = ((one >= 0).any(axis=1)) & ((other >= 0).any(axis=1))

    def share(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return divide(counts[..., 0, :1], slots * counts[..., 0, 1:2])

    return estimate_blocks(
        tables,
        share,
        unit="share of slots",
        n_tokens=int(total[1]),
        n_documents=len(np.unique(cut.documents[both])),
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
