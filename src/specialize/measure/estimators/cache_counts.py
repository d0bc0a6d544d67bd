"""Kernels that count the hits of caches of experts, document by document."""

import numpy as np
from numba import njit, prange

from specialize.measure.base.random import STEP, mix_bits


@njit(cache=True, nogil=True)
def count_cached(counts, experts, starts, blocks, num_experts, capacity, segment):  # type: ignore[no-untyped-def]
    """Add hits of the LRU and of the optimal cache, slots that segments cover, and all slots to ``counts`` [block, 4].

    Document d holds rows ``starts[d]`` to ``starts[d + 1]`` of ``experts`` int16 [tokens, k], and belongs to block
    ``blocks[d]``.
    """
    order = np.arange(len(experts))
    for document in range(len(starts) - 1):
        own = order[starts[document] : starts[document + 1]]
        target = counts[blocks[document]]
        target[0] += _count_recent(experts, own, num_experts, capacity)
        target[1] += _count_optimal(experts, own, num_experts, capacity)
        target[2] += _cover_segments(experts, own, num_experts, capacity, segment)
        for row in own:
            for expert in experts[row]:
                target[3] += expert >= 0


@njit(cache=True, nogil=True, parallel=True)
def count_in_order(hits, experts, starts, num_experts, capacity, segment, seed, drawn):  # type: ignore[no-untyped-def]
    """Add LRU hits and covered slots to ``hits`` [permutation, 2], with each document's tokens in random order.

    Each permutation has its own random numbers, of which it has ``drawn`` some for the documents before: the result
    does not depend on the number of threads, or on how documents are divided into parts.
    """
    for permutation in prange(hits.shape[0]):
        order = np.arange(len(experts))
        state = mix_bits(mix_bits(np.uint64(seed)) + np.uint64(permutation) * STEP) + np.uint64(drawn) * STEP
        for document in range(len(starts) - 1):
            own = order[starts[document] : starts[document + 1]]
            for place in range(len(own) - 1, 0, -1):
                state += STEP
                other = np.int64(((mix_bits(state) >> np.uint64(32)) * np.uint64(place + 1)) >> np.uint64(32))
                own[place], own[other] = own[other], own[place]
            hits[permutation, 0] += _count_recent(experts, own, num_experts, capacity)
            hits[permutation, 1] += _cover_segments(experts, own, num_experts, capacity, segment)


@njit(cache=True, nogil=True)
def _count_recent(experts, rows, num_experts, capacity):  # type: ignore[no-untyped-def]
    """Count the hits of an LRU cache that is empty at first.

    The experts in the cache form a list from the least to the most recently used one; ``after`` and ``before`` link
    them, and the place ``num_experts`` is both ends.
    """
    end = num_experts
    after, before = np.full(end + 1, end), np.full(end + 1, end)
    held = np.zeros(end, dtype=np.bool_)
    size, hits = 0, 0
    for row in rows:
        for expert in experts[row]:
            hits += expert >= 0 and held[expert]
        for slot in range(experts.shape[1] - 1, -1, -1):  # the first slot becomes the most recent
            expert = experts[row, slot]
            if expert < 0:
                continue
            if held[expert]:
                after[before[expert]] = after[expert]
                before[after[expert]] = before[expert]
            else:
                held[expert] = True
                size += 1
            last = before[end]
            after[last], before[expert], after[expert], before[end] = expert, last, end, expert
        while size > capacity:  # after the whole token, whose experts are the most recent
            oldest = after[end]
            after[end] = after[oldest]
            before[after[oldest]] = end
            held[oldest] = False
            size -= 1
    return hits


@njit(cache=True, nogil=True)
def _count_optimal(experts, rows, num_experts, capacity):  # type: ignore[no-untyped-def]
    """Count the hits of a cache that evicts the expert whose next use is farthest, and is empty at first."""
    never = len(rows)
    following = np.full(num_experts, never)
    next_use = np.empty((len(rows), experts.shape[1]), dtype=np.int64)
    for place in range(len(rows) - 1, -1, -1):
        for slot in range(experts.shape[1]):
            expert = experts[rows[place], slot]
            if expert >= 0:
                next_use[place, slot] = following[expert]
        for expert in experts[rows[place]]:
            if expert >= 0:
                following[expert] = place
    held = np.full(num_experts, -1)  # next use of each expert in the cache, else -1
    hits, size = 0, 0
    for place in range(len(rows)):
        for slot in range(experts.shape[1]):
            expert = experts[rows[place], slot]
            if expert >= 0:
                hits += held[expert] >= 0
                size += held[expert] < 0
                held[expert] = place  # the nearest use of all: not evicted for another expert of the token
        while size > capacity:
            held[np.argmax(held)] = -1
            size -= 1
        for slot in range(experts.shape[1]):
            expert = experts[rows[place], slot]
            if expert >= 0:
                held[expert] = next_use[place, slot]
    return hits


@njit(cache=True, nogil=True)
def _cover_segments(experts, rows, num_experts, capacity, segment):  # type: ignore[no-untyped-def]
    """Count the slots of the ``capacity`` most used experts of each segment."""
    covered = 0
    used = np.zeros(num_experts, dtype=np.int64)
    for first in range(0, len(rows), segment):
        used[:] = 0
        for row in rows[first : first + segment]:
            for expert in experts[row]:
                if expert >= 0:
                    used[expert] += 1
        covered += np.sort(used)[num_experts - capacity :].sum()
    return covered
