"""Next-layer recall: how many of the next layer's experts of a token its experts in this layer predict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.choices import check_whole
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.counting import check_distinct, check_range
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.layer_input import LayerInput, block_documents
from specialize.measure.base.routed import RoutedCount

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
    own = None if groups is None else np.asarray(groups)
    layer = LayerInput.of(before, documents, num_experts=num_experts, groups=own)
    return recall_layer(
        layer, LayerInput.of(after, documents, num_experts=num_following), num_top=num_top, num_blocks=num_blocks
    )


def recall_layer(
    layer: LayerInput, after: LayerInput, *, num_top: int | None = None, num_blocks: int = 50
) -> NextLayerRecall:
    """Measure the recall of the experts of another layer, as `measure_next_layer_recall`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        after: those of the other layer.
        num_top: number of predicted experts.
        num_blocks: maximum number of document blocks.
    """
    num_following = after.num_experts
    most = after.experts.shape[1] if num_top is None else num_top
    check_whole("num_top", most, error=MeasurementError)
    if not 1 <= most <= num_following:
        raise MeasurementError(f"num_top: expected a number from 1 to {num_following}, got {most}")
    both = RoutedCount(len(layer.counts))
    for part, following in zip(layer.parts(), after.parts(), strict=True):
        for name, each in (("experts", part), ("following", following)):
            check_range(name, each.experts, each.num_experts)
            check_distinct(name, each.experts, each.first_row)
        both.add(part.routed & following.routed, part.documents)
    if not both.tokens:
        raise MeasurementError("expected tokens that both layers routed, got none: measure layers of one stack")
    blocks = block_documents(both.documents, layer.groups, num_blocks=num_blocks)
    counts = count_predicted([layer], [after], blocks, num_top=most)[0]
    value, (_, error) = recall_shares(counts.sum(axis=0)), jackknife_values(counts, recall_shares)
    if len(counts) < 2:
        value = np.full_like(value, np.nan)
    recall, above_load = (
        make_estimates(
            value[part],
            error[part],
            unit=UNIT,
            num_blocks=len(counts),
            n_tokens=both.tokens,
            n_documents=both.num_documents,
            chance=chance,
            note=", without refitting",
        )[()]
        for part, chance in ((0, value[1]), (2, None))
    )
    return NextLayerRecall(recall, above_load, most)


def count_predicted(
    layers: Sequence[LayerInput],
    following: Sequence[LayerInput],
    blocks: NDArray[np.int32],
    *,
    num_top: int | None = None,
) -> list[NDArray[np.float64]]:
    """Count the slots that are predicted, as `measure_next_layer_recall` does, by block of documents.

    Args:
        layers: the routing decisions of routers, in memory or on disk; of the same tokens.
        following: the next layer of each. Tokens that all of them routed are counted.
        blocks: int32 [documents], the block of each document with such tokens.
        num_top: number of predicted experts; by default the slots of the next layer.

    Returns:
        float64 [block, 1, 3] for each router: predicted slots, those of the most loaded experts, and all slots.
    """
    size = int(blocks.max(initial=-1)) + 1
    flows = [
        [_Flow(one.num_experts, two.num_experts) for _ in range(2)] for one, two in zip(layers, following, strict=True)
    ]
    for parts, kept, own in _read_parts(layers, following, blocks):
        for (before, after), halves in zip(parts, flows, strict=True):
            for half, flow in enumerate(halves):
                rows = kept[own[kept] % 2 != half]  # of the other half
                _add_flow(flow.pairs, flow.chosen, flow.loads, before.experts, after.experts, rows)
    ranked = [[flow.rank() for flow in halves] for halves in flows]
    counts = [np.zeros((size, 1, 3)) for _ in layers]
    for parts, kept, own in _read_parts(layers, following, blocks):
        for (before, after), scored, table in zip(parts, ranked, counts, strict=True):
            most = after.experts.shape[1] if num_top is None else num_top
            for half, (scores, places) in enumerate(scored):
                rows = kept[own[kept] % 2 == half]
                _add_hits(table[:, 0], before.experts, after.experts, own, rows, scores, places, most)
    return counts


def _read_parts(
    layers: Sequence[LayerInput], following: Sequence[LayerInput], blocks: NDArray[np.int32]
) -> Iterator[tuple[list[tuple[LayerInput, LayerInput]], NDArray[np.int64], NDArray[np.int32]]]:
    """Yield the parts of each pair of layers, the rows that all routed, and the block of each row."""
    everyone = [each.parts() for each in (*layers, *following)]
    for parts in zip(*everyone, strict=True):
        kept = np.flatnonzero(np.logical_and.reduce([part.routed for part in parts]))
        pairs = list(zip(parts[: len(layers)], parts[len(layers) :], strict=True))
        yield pairs, kept, blocks[parts[0].documents]


class _Flow:
    """Tokens by pairs of experts of both layers [i, j], by expert i, and by expert j."""

    def __init__(self, num_experts: int, num_following: int) -> None:
        self.pairs = np.zeros((num_experts, num_following))
        self.chosen, self.loads = np.zeros(num_experts), np.zeros(num_following)

    def rank(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return scores with columns ordered by decreasing load, and the column of each expert."""
        by_load = np.argsort(-self.loads, kind="stable")
        scores = divide(self.pairs, np.broadcast_to(self.chosen[:, None], self.pairs.shape))
        return np.ascontiguousarray(np.nan_to_num(scores)[:, by_load]), np.argsort(by_load)


def recall_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute recall, that of the most loaded experts, and their difference, [..., 3], from counts [..., 1, 3]."""
    shares = divide(counts[..., 0, :2], np.broadcast_to(counts[..., 0, 2:], counts[..., 0, :2].shape))
    return np.concatenate([shares, shares[..., :1] - shares[..., 1:]], axis=-1)


@njit(cache=True, nogil=True)
def _add_flow(pairs, chosen, loads, before, after, rows):  # type: ignore[no-untyped-def]
    """Add some tokens to counts by pairs of experts of both layers [i, j], by expert i, and by expert j."""
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
