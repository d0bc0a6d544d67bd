"""Pseudo-values of quantities of the routing itself, of two routers over the same blocks of documents."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.blocks import TokenBlocks, block_tokens, group_documents
from specialize.measure.base.counting import count_blocks
from specialize.measure.base.information import load_entropy
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.pairing import pseudo_values
from specialize.measure.estimators.cache import count_hits, default_capacity, hit_shares
from specialize.measure.estimators.next_layer import count_predicted, recall_shares
from specialize.measure.estimators.repeats import count_repeats, repeat_shares
from specialize.measure.estimators.same_token import RepeatedTokens, find_repeated
from specialize.measure.runs.replicates import Key, Replicates

_REPEATS = ("first_expert_repeats", "any_expert_repeats")
_CACHES = ("lru_hit_rate", "optimal_hit_rate", "segment_coverage")


def replicate_routing(
    routers: Sequence[LayerInput], types: NDArray[np.integer] | None, *, num_blocks: int
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of each statistic that needs no labels, by metric.

    Args:
        routers: the routing decisions of the first side, then those of the second side's router, or of its several
            routers, of whose pseudo-values the mean is taken; all of the same tokens.
        types: integers [tokens], token ids; negative where unknown, None where all are.
        num_blocks: maximum number of document blocks.

    Yields:
        ((None, metric), pseudo-values).
    """
    documents, groups = routers[0].documents, routers[0].groups
    cut = block_tokens(documents, groups=groups, num_blocks=num_blocks)
    routed = np.logical_or.reduce([router.routed for router in routers])
    n_tokens = int(routed.sum())
    if not routers[0].has_tokens and routers[0].weights is not None:
        n_tokens = round(float(routers[0].weights.sum()))
    counted = n_tokens, len(np.unique(documents[routed]))
    entropies = np.stack([pseudo_values(_count_loads(router, cut), load_entropy) for router in routers])
    yield (None, "load_entropy"), Replicates.of(entropies, "bits", *counted)
    if not all(router.has_tokens for router in routers):
        return
    repeats = np.stack([_replicate_repeats(router, cut) for router in routers])
    for column, metric in enumerate(_REPEATS):
        yield (None, metric), Replicates.of(repeats[..., column], "share of neighbours", *counted)
    caches = np.stack([_replicate_caches(router, cut) for router in routers])
    for column, metric in enumerate(_CACHES):
        yield (None, metric), Replicates.of(caches[..., column], "share of slots", *counted)
    if types is not None:
        yield from _replicate_same_token(routers, types, cut)


def replicate_recall(
    routers: Sequence[LayerInput], following: Sequence[LayerInput], *, num_blocks: int
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of the recall of the next layer's experts, over the tokens that all of them routed.

    Args:
        routers: as in `replicate_routing`.
        following: the next router of each.
        num_blocks: maximum number of document blocks.
    """
    everyone = [*routers, *following]
    if len(routers) != len(following) or not all(router.has_tokens for router in everyone):
        return
    both = np.logical_and.reduce([router.routed for router in everyone])
    if not both.any():
        return
    cut = block_tokens(routers[0].documents, groups=routers[0].groups, num_blocks=num_blocks)
    cut = TokenBlocks(cut.documents[both], cut.blocks)  # the blocks of all tokens, as for the other layers
    values = []
    for router, after in zip(routers, following, strict=True):
        here, next_one = (np.ascontiguousarray(each.experts[both], dtype=np.int16) for each in (router, after))
        shape = router.num_experts, after.num_experts
        counts = count_predicted(here, next_one, cut, shape=shape, num_top=next_one.shape[1])
        values.append(pseudo_values(counts, recall_shares)[:, 0])
    counted = int(both.sum()), len(np.unique(cut.documents))
    unit = "share of the next layer's slots"
    yield (None, "next_layer_recall"), Replicates.of(np.stack(values), unit, *counted, ", without refitting")


def _count_loads(router: LayerInput, cut: TokenBlocks) -> NDArray[np.float64]:
    return count_blocks(
        np.zeros(len(router.experts), dtype=np.int32),
        router.experts,
        blocks=cut.token_blocks,
        num_labels=1,
        num_experts=router.num_experts,
        num_blocks=cut.num_blocks,
        weights=router.weights,
        rule=router.rule,
    )


def _replicate_repeats(router: LayerInput, cut: TokenBlocks) -> NDArray[np.float64]:
    documents = router.documents
    blocks = np.full(int(documents[-1]) + 1, -1, dtype=np.int32)
    blocks[documents] = cut.token_blocks
    counts = count_repeats(
        router.experts,
        documents,
        blocks,
        num_experts=router.num_experts,
        sequences=router.sequences,
        positions=router.positions,
    )
    return pseudo_values(counts, repeat_shares)


def _replicate_caches(router: LayerInput, cut: TokenBlocks) -> NDArray[np.float64]:
    experts = np.ascontiguousarray(router.experts, dtype=np.int16)
    capacity = default_capacity(experts.shape[1], router.num_experts)
    return pseudo_values(count_hits(experts, cut, num_experts=router.num_experts, capacity=capacity), hit_shares)


def _replicate_same_token(
    routers: Sequence[LayerInput], types: NDArray[np.integer], cut: TokenBlocks
) -> Iterator[tuple[Key, Replicates]]:
    """Yield how much more a token id's occurrences overlap than any tokens, over those that all routers routed."""
    documents, groups = routers[0].documents, routers[0].groups
    own = np.unique(group_documents(documents, groups), return_inverse=True)[1]
    routed = np.logical_and.reduce([router.routed for router in routers])
    kept = find_repeated(types, own, routed & (types >= 0))
    if not kept.any():
        return
    cut = TokenBlocks(cut.documents[kept], cut.blocks)
    values = []
    for router in routers:
        experts = np.ascontiguousarray(router.experts[kept], dtype=np.int16)
        tokens = RepeatedTokens.sort(types[kept].astype(np.int32), own[kept], experts, cut)
        overlaps = tokens.overlaps(router.num_experts)
        above, count = overlaps[:, 0] - overlaps[:, 1], cut.num_blocks
        values.append(count * above[-1] - (count - 1) * above[:-1] if count > 1 else above[-1:])
    counted = int(kept.sum()), len(np.unique(cut.documents))
    yield (None, "same_token_overlap_above_any"), Replicates.of(np.stack(values), "share of slots", *counted)
