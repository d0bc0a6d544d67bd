"""Pseudo-values of quantities of the routing itself, of two routers over the same blocks of documents."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.counting import add_to, check_range, spread_mass
from specialize.measure.base.information import load_entropy
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.pairing import pseudo_values
from specialize.measure.base.routed import RoutedCount
from specialize.measure.estimators.cache import count_hits, default_capacity, hit_shares
from specialize.measure.estimators.next_layer import count_predicted, recall_shares
from specialize.measure.estimators.repeated_tokens import RepeatedTokens, TokenExperts, find_repeated
from specialize.measure.estimators.repeats import count_repeats, repeat_shares
from specialize.measure.runs.replicates import Key, Replicates

_REPEATS = ("first_expert_repeats", "any_expert_repeats")
_CACHES = ("lru_hit_rate", "optimal_hit_rate", "segment_coverage")


def replicate_routing(
    routers: Sequence[LayerInput], types: Any, *, num_blocks: int
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of each statistic that needs no labels, by metric.

    Args:
        routers: the routing decisions of the first side, then those of the second side's router, or of its several
            routers, of whose pseudo-values the mean is taken; all of the same tokens.
        types: integers [tokens], token ids, in memory or as a column; negative where unknown, None where all are.
        num_blocks: maximum number of document blocks.

    Yields:
        ((None, metric), pseudo-values).
    """
    first = routers[0]
    blocks, routed = first.blocks(num_blocks), RoutedCount(len(first.counts))
    for parts in zip(*(router.parts() for router in routers), strict=True):
        routed.add(np.logical_or.reduce([part.routed for part in parts]), parts[0].documents)
    n_tokens = routed.tokens
    if not first.has_tokens and first.weights is not None:
        n_tokens = round(float(np.asarray(first.weights).sum()))
    counted = n_tokens, routed.num_documents
    entropies = np.stack([pseudo_values(_count_loads(router, blocks), load_entropy) for router in routers])
    yield (None, "load_entropy"), Replicates.of(entropies, "bits", *counted)
    if not all(router.has_tokens for router in routers):
        return
    repeats = np.stack([pseudo_values(count_repeats(router, blocks), repeat_shares) for router in routers])
    for column, metric in enumerate(_REPEATS):
        yield (None, metric), Replicates.of(repeats[..., column], "share of neighbours", *counted)
    caches = np.stack([_replicate_caches(router, blocks) for router in routers])
    for column, metric in enumerate(_CACHES):
        yield (None, metric), Replicates.of(caches[..., column], "share of slots", *counted)
    if types is not None:
        yield from _replicate_same_token(routers, types, blocks)


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
    both = RoutedCount(len(routers[0].counts))
    for parts in zip(*(each.parts() for each in everyone), strict=True):
        both.add(np.logical_and.reduce([part.routed for part in parts]), parts[0].documents)
    if not both.tokens:
        return
    blocks = routers[0].blocks(num_blocks)  # those of all tokens, as for the other layers
    values = [pseudo_values(counts, recall_shares)[:, 0] for counts in count_predicted(routers, following, blocks)]
    counted = both.tokens, both.num_documents
    unit = "share of the next layer's slots"
    yield (None, "next_layer_recall"), Replicates.of(np.stack(values), unit, *counted, ", without refitting")


def _count_loads(router: LayerInput, blocks: NDArray[np.int32]) -> NDArray[np.float64]:
    table = np.zeros((int(blocks.max()) + 1, 1, router.num_experts))
    for part in router.parts():
        experts, masses = spread_mass(part.experts, part.weights, rule=router.rule)
        check_range("experts", experts, router.num_experts)
        add_to(table, np.zeros(len(experts), dtype=np.int32), experts, masses, blocks[part.documents])
    return table


def _replicate_caches(router: LayerInput, blocks: NDArray[np.int32]) -> NDArray[np.float64]:
    capacity = default_capacity(router.experts.shape[1], router.num_experts)
    return pseudo_values(count_hits(router, blocks, capacity=capacity), hit_shares)


def _replicate_same_token(
    routers: Sequence[LayerInput], types: Any, blocks: NDArray[np.int32]
) -> Iterator[tuple[Key, Replicates]]:
    """Yield how much more a token id's occurrences overlap than any tokens, over those that all routers routed."""
    kept = find_repeated(routers, types)
    if kept is None:
        return
    values, count = [], int(blocks.max()) + 1
    with kept, RepeatedTokens(kept, blocks) as tokens:
        for router in routers:
            with TokenExperts(tokens, router) as experts:
                overlaps = experts.overlaps()
            above = overlaps[:, 0] - overlaps[:, 1]
            values.append(count * above[-1] - (count - 1) * above[:-1] if count > 1 else above[-1:])
    counted = int(kept.lengths.sum()), int(np.count_nonzero(kept.lengths))
    yield (None, "same_token_overlap_above_any"), Replicates.of(np.stack(values), "share of slots", *counted)
