"""Caches of experts: how often a token's experts are among the few that are kept in fast memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import check_whole
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.routed import RoutedCount
from specialize.measure.estimators.cache_counts import count_cached, count_in_order
from specialize.measure.estimators.neighbours import check_neighbours, check_part

UNIT = "share of slots"
SEGMENT = 64  # tokens


@dataclass(frozen=True)
class CacheUse:
    """Shares of a layer's slots that a cache of a few experts serves.

    Attributes:
        recent: hit rate of a cache that evicts the least recently used expert (LRU). Null: each document's tokens in
            random order.
        optimal: hit rate of the best cache, which knows the future (Belady).
        segments: share of slots that the most used experts of each segment cover. Null: as for `recent`.
        capacity: number of experts in the cache or group.
        segment: number of tokens of a segment.
    """

    recent: Estimate
    optimal: Estimate
    segments: Estimate
    capacity: int
    segment: int


def measure_cache(
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    capacity: int | None = None,
    segment: int = SEGMENT,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> CacheUse:
    """Measure how many of a layer's slots a cache of experts serves.

    The cache holds ``capacity`` experts and is empty at the start of each document, whose tokens come in order. A
    token requests its experts together: those in the cache are hits, the others are loaded, and none of them can be
    evicted for another. Evicted is the least recently used expert (of experts last used by one token, that of the
    last slot) or, by the optimal cache, the one whose next use is farthest. A first use is always a miss.

    Segments are ``segment`` consecutive tokens of a document; the last one may be shorter. The best fixed group of a
    segment are its ``capacity`` most used experts, and what is given is the share of slots that they cover.

    The null permutes the tokens, with their experts, within each document: it preserves which experts a document uses,
    so that the p-values, of a higher hit rate and a higher coverage, test their order only.

    Args:
        experts: integers [tokens, k], distinct within a token; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        capacity: number of experts in the cache, at least k; by default a quarter of the layer's, or k if that is more.
        segment: number of tokens of a segment.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates, with jackknife intervals over document blocks; NaN where no token was routed.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, a token has an expert twice, or the
            cache is too small for a token.

    Source:
        Belady (1966), A study of replacement algorithms for a virtual-storage computer; Eliseev & Mazur (2023),
        https://arxiv.org/abs/2312.17238, section 3.1, for LRU caches of experts.
    """
    check_neighbours(experts, documents)
    layer = LayerInput.of(experts, documents, num_experts=num_experts, groups=groups)
    return cache_layer(
        layer, capacity=capacity, segment=segment, permutations=permutations, num_blocks=num_blocks, seed=seed
    )


def cache_layer(
    layer: LayerInput,
    *,
    capacity: int | None = None,
    segment: int = SEGMENT,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> CacheUse:
    """Measure what a cache of a layer's experts serves, as `measure_cache`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        capacity: number of experts in the cache.
        segment: number of tokens of a segment.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    slots, num_experts = layer.experts.shape[1], layer.num_experts
    size = default_capacity(slots, num_experts) if capacity is None else capacity
    check_whole("capacity", size, error=MeasurementError)
    check_whole("segment", segment, error=MeasurementError)
    if not slots <= size <= num_experts:
        raise MeasurementError(
            f"capacity: expected a number from {slots}, the experts of a token, to {num_experts}, got {size}"
        )
    if segment < 1:
        raise MeasurementError(f"segment: expected at least 1 token, got {segment}: 64 is usual")
    blocks = layer.blocks(num_blocks)
    counts = count_hits(layer, blocks, capacity=size, segment=segment)
    hits, numbers, routed = np.zeros((permutations, 2)), 0, RoutedCount(len(blocks))
    for part in layer.parts():
        starts, _ = _documents_of(part, blocks)
        count_in_order(hits, part.experts, starts, num_experts, size, segment, seed, numbers)
        numbers += len(part.experts) - (len(starts) - 1)
        routed.add(part.routed, part.documents)
    null = divide(hits, np.broadcast_to(counts[..., 3].sum(), hits.shape))
    return CacheUse(
        *_estimate(
            counts,
            [null[:, 0], None, null[:, 1]],
            num_blocks=len(counts),
            n_tokens=routed.tokens,
            n_documents=routed.num_documents,
        ),
        capacity=size,
        segment=segment,
    )


def default_capacity(slots: int, num_experts: int) -> int:
    """Return the number of experts in a cache by default: a quarter of the layer's, or those of a token if more."""
    return max(slots, num_experts // 4)


def count_hits(
    layer: LayerInput, blocks: NDArray[np.int32], *, capacity: int, segment: int = SEGMENT
) -> NDArray[np.float64]:
    """Count the slots that caches serve, as `measure_cache` does, by block of documents.

    Args:
        layer: the routing decisions, in memory or on disk.
        blocks: int32 [documents], the block of each document with tokens.
        capacity: number of experts in the cache.
        segment: number of tokens of a segment.

    Returns:
        float64 [block, 1, 4]: hits of the LRU cache, of the best cache, slots that the best groups of segments cover,
        and all slots.
    """
    counts = np.zeros((int(blocks.max(initial=-1)) + 1, 1, 4))
    for part in layer.parts():
        check_part(part)
        starts, own = _documents_of(part, blocks)
        count_cached(counts[:, 0], part.experts, starts, own, layer.num_experts, capacity, segment)
    return counts


def _documents_of(part: LayerInput, blocks: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the first token of each document with tokens, with the number of tokens, and the blocks of these."""
    present = np.flatnonzero(part.counts)
    return np.append(part.starts[present], len(part.experts)), blocks[part.first_document + present]


def _estimate(
    counts: NDArray[np.float64], nulls: list[NDArray[np.float64] | None], **counted: Any
) -> tuple[Estimate, Estimate, Estimate]:
    value = hit_shares(counts.sum(axis=0)) if len(counts) else np.full(3, np.nan)
    error = jackknife_values(counts, hit_shares)[1] if len(counts) else value
    recent, optimal, segments = (
        make_estimates(value[part], error[part], unit=UNIT, null=null, **counted)[()] for part, null in enumerate(nulls)
    )
    return recent, optimal, segments


def hit_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the three kinds of hits by slots, [..., 3], from counts [..., 1, 4]."""
    return divide(counts[..., 0, :3], np.broadcast_to(counts[..., 0, 3:], counts[..., 0, :3].shape))
