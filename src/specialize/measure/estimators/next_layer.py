"""Next-layer recall: how many of the next layer's experts of a token its experts in this layer predict."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.choices import check_whole
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import TokenBlocks, block_tokens, divide
from specialize.measure.base.counting import check_distinct, check_range
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates

ONE = 1e9  # units of a score of 1
UNIT = "share of the next layer's slots"


@dataclass(frozen=True)
class NextLayerRecall:
    """Recall of the experts of the next layer among the top m predicted ones, on held-out documents.

    Attributes:
        recall: of the m experts with the highest scores. ``null_mean`` is chance: the m most loaded experts.
        above_load: recall − that of the m most loaded experts.
        num_top: m.
    """

    recall: Estimate
    above_load: Estimate
    num_top: int


def measure_next_layer_recall(
    experts: ArrayLike,
    following: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    num_following: int,
    num_top: int | None = None,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> NextLayerRecall:
    """Measure which share of a token's experts in the next layer is among the m that its experts predict.

    The score of expert j of the next layer is the sum over the token's experts i of P(j | i) = N(i, j) / N(i), the
    share of the tokens with expert i that have expert j in the next layer. Equal scores are ordered by load. Scores
    and loads are counted in one half of the documents, even or odd blocks, and used in the other half, so that no
    document predicts itself. Tokens that both layers routed are counted; recall is the number of their experts in the
    next layer that are predicted, divided by the number of all of them.

    Intervals are of the recall that the fitted scores, and the loads, would have in other documents: in simulations of
    nine designs with 20 to 500 documents, 95 % intervals hold it in 90 to 98 %. They do not include the variation of
    refitting, as for probes. If blocks were held out one by one, their errors would depend on each other, and coverage
    would fall to 56 %.

    Args:
        experts: integers [tokens, k] of the layer, distinct within a token; negative where a slot holds no expert.
        following: integers [tokens, k'] of the other layer, usually the next.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        num_following: number of experts of the other layer.
        num_top: m, the number of predicted experts; k' by default.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks.

    Returns:
        The estimates; there is no p-value. NaN with fewer than two blocks, as nothing can be held out.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, a token has an expert twice, or no
            token was routed by both layers.

    Source:
        Eliseev & Mazur (2023), Fast inference of mixture-of-experts language models with offloading,
        https://arxiv.org/abs/2312.17238, section 3.2, for prefetching the experts of the next layer.
    """
    before, after = (np.ascontiguousarray(each, dtype=np.int16) for each in (experts, following))
    if before.ndim != 2 or after.ndim != 2 or not len(before) == len(after) == len(np.asarray(documents)):
        raise MeasurementError(
            "expected experts [tokens, k], following [tokens, k'] and documents [tokens], "
            f"got shapes {before.shape}, {after.shape} and {np.shape(documents)}"
        )
    check_range("experts", before, num_experts)
    check_range("following", after, num_following)
    check_distinct("experts", before)
    check_distinct("following", after)
    most = after.shape[1] if num_top is None else num_top
    check_whole("num_top", most, error=MeasurementError)
    if not 1 <= most <= num_following:
        raise MeasurementError(f"num_top: expected a number from 1 to {num_following}, got {most}")
    both = (before >= 0).any(axis=1) & (after >= 0).any(axis=1)
    if not both.any():
        raise MeasurementError("expected tokens that both layers routed, got none: measure layers of one stack")
    cut = block_tokens(np.asarray(documents)[both], groups=groups, num_blocks=num_blocks)
    counts = count_predicted(before[both], after[both], cut, shape=(num_experts, num_following), num_top=most)
    value, (_, error) = recall_shares(counts.sum(axis=0)), jackknife_values(counts, recall_shares)
    if cut.num_blocks < 2:
        value = np.full_like(value, np.nan)
    recall, above_load = (
        make_estimates(
            value[part],
            error[part],
            unit=UNIT,
            num_blocks=cut.num_blocks,
            n_tokens=int(both.sum()),
            n_documents=len(cut.blocks),
            chance=chance,
            note=", without refitting",
        )[()]
        for part, chance in ((0, value[1]), (2, None))
    )
    return NextLayerRecall(recall, above_load, most)


def count_predicted(
    before: NDArray[np.int16], after: NDArray[np.int16], cut: TokenBlocks, *, shape: tuple[int, int], num_top: int
) -> NDArray[np.float64]:
    """Count the slots that are predicted, as `measure_next_layer_recall` does, by block of documents.

    Args:
        before: int16 [tokens, k] of a layer; every token has an expert.
        after: int16 [tokens, k'] of the next layer; every token has an expert.
        cut: the document and the block of each token.
        shape: number of experts of both layers.
        num_top: number of predicted experts.

    Returns:
        float64 [block, 1, 3]: predicted slots, those of the most loaded experts, and all slots.
    """
    blocks = cut.token_blocks
    half, everything = blocks % 2, np.arange(len(before))
    counts = np.zeros((cut.num_blocks, 1, 3))
    for own in range(2):
        pairs, chosen, loads = _count_flow(before, after, everything[half != own], shape)
        by_load = np.argsort(-loads, kind="stable")
        scores = divide(pairs, np.broadcast_to(chosen[:, None], pairs.shape))
        ranked = np.ascontiguousarray(np.nan_to_num(scores)[:, by_load])
        _add_hits(counts[:, 0], before, after, blocks, everything[half == own], ranked, np.argsort(by_load), num_top)
    return counts


def recall_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute recall, that of the most loaded experts, and their difference, [..., 3], from counts [..., 1, 3]."""
    shares = divide(counts[..., 0, :2], np.broadcast_to(counts[..., 0, 2:], counts[..., 0, :2].shape))
    return np.concatenate([shares, shares[..., :1] - shares[..., 1:]], axis=-1)


@njit(cache=True, nogil=True)
def _count_flow(before, after, rows, shape):  # type: ignore[no-untyped-def]
    """Count tokens by pairs of experts of both layers [i, j], by expert i, and by expert j."""
    pairs, chosen, loads = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])
    for row in rows:
        for first in before[row]:
            if first >= 0:
                chosen[first] += 1.0
                for second in after[row]:
                    if second >= 0:
                        pairs[first, second] += 1.0
        for second in after[row]:
            if second >= 0:
                loads[second] += 1.0
    return pairs, chosen, loads


@njit(cache=True, nogil=True)
def _add_hits(counts, before, after, blocks, rows, scores, places, num_top):  # type: ignore[no-untyped-def]
    """Add predicted slots, slots of the most loaded experts, and all slots of some tokens to ``counts`` [block, 3].

    Columns of ``scores`` are ordered by decreasing load; ``places`` has the column of each expert. An expert is
    predicted where fewer than ``num_top`` columns have a higher score, or an equal one at an earlier place.
    """
    total = np.empty(scores.shape[1])
    for row in rows:
        total[:] = 0.0
        for first in before[row]:
            if first >= 0:
                total += scores[first]
        total = np.rint(total * ONE)  # so that sums that are equal but for rounding tie
        for second in after[row]:
            if second >= 0:
                place, ahead = places[second], 0
                for other in range(len(total)):
                    ahead += total[other] > total[place] or (total[other] == total[place] and other < place)
                counts[blocks[row], 0] += ahead < num_top
                counts[blocks[row], 1] += place < num_top
                counts[blocks[row], 2] += 1.0
