"""Neighbouring tokens, and counts of the experts that they share."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import check_order
from specialize.measure.base.counting import as_codes, check_distinct, check_range
from specialize.measure.base.random import STEP, mix_bits


@dataclass(frozen=True)
class Runs:
    """Runs of consecutive tokens in one sequence of one document.

    Attributes:
        starts: int64 [runs + 1], first token of each run; the last entry is the number of tokens.
        documents: int32 [runs], document of each run.
    """

    starts: NDArray[np.int64]
    documents: NDArray[np.int32]


def find_runs(documents: ArrayLike, sequences: ArrayLike | None = None, positions: ArrayLike | None = None) -> Runs:
    """Divide tokens into runs, which end with a document, with a sequence, or at a gap in positions.

    Args:
        documents: integers [tokens], the document of each token.
        sequences: integers [tokens], the context window of each token; one per document by default.
        positions: integers [tokens], the position of each token in its window; consecutive by default.
    """
    places = as_codes(documents)
    broken = np.ones(len(places), dtype=bool)
    broken[1:] = places[1:] != places[:-1]
    if sequences is not None:
        broken[1:] |= np.diff(np.asarray(sequences)) != 0
    if positions is not None:
        broken[1:] |= np.diff(np.asarray(positions)) != 1
    starts = np.flatnonzero(broken)
    return Runs(np.append(starts, len(places)), places[starts])


def check_neighbours(
    experts: ArrayLike, documents: ArrayLike, num_experts: int
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Check experts and documents; return them as int16 [tokens, k] and int32 [tokens]."""
    chosen, places = np.ascontiguousarray(experts, dtype=np.int16), as_codes(documents)
    if chosen.ndim != 2 or len(chosen) != len(places):
        raise MeasurementError(
            f"expected experts [tokens, k] and documents [tokens], got shapes {chosen.shape} and {places.shape}"
        )
    check_range("experts", chosen, num_experts)
    check_distinct("experts", chosen)
    check_order(places)
    return chosen, places


@dataclass(frozen=True)
class NeighbourCounter:
    """Counter of neighbours in the rows (blocks of groups of documents) of a table.

    Attributes:
        experts: int16 [tokens, k].
        runs: runs of these tokens.
        rows: int32 [documents, groups], the rows to which each document is added; negative for none.
        num_rows: number of rows.
    """

    experts: NDArray[np.int16]
    runs: Runs
    rows: NDArray[np.int32]
    num_rows: int

    def count_pairs(self, *, shuffled: bool, permutations: int, seed: int) -> NDArray[np.float64]:
        """Count neighbours and repeats, float64 [permutation, row, 4], see `count_repeats`."""
        sets = _pack(self.experts)
        first = np.ascontiguousarray(self.experts[:, 0])
        tables = np.zeros((permutations, self.num_rows, 4))
        _count_pairs(tables, first, sets, self.runs.starts, self.runs.documents, self.rows, shuffled, seed)
        return tables

    def count_loads(self, num_experts: int) -> NDArray[np.float64]:
        """Count [row, 2 E + k + 1]: first experts, chosen experts, and tokens with 0, 1, ..., k experts."""
        out = np.zeros((self.num_rows, 2 * num_experts + self.experts.shape[1] + 1))
        _count_loads(out, self.experts, self.runs.starts, self.runs.documents, self.rows, num_experts)
        return out


@njit(cache=True, nogil=True)
def _pack(experts):  # type: ignore[no-untyped-def]
    """Encode each token's set of experts as a bit set, uint64 [tokens, words]."""
    words = max(1, (np.max(experts) // 64 + 1) if experts.size else 1)
    sets = np.zeros((experts.shape[0], words), dtype=np.uint64)
    for row in range(experts.shape[0]):
        for slot in range(experts.shape[1]):
            expert = experts[row, slot]
            if expert >= 0:
                sets[row, expert // 64] |= np.uint64(1) << np.uint64(expert % 64)
    return sets


@njit(cache=True, nogil=True, parallel=True)
def _count_pairs(tables, first, sets, starts, documents, rows, shuffled, seed):  # type: ignore[no-untyped-def]
    """Count neighbours, one token order per permutation: the result does not depend on the number of threads."""
    longest = 1
    for run in range(len(documents)):
        longest = max(longest, starts[run + 1] - starts[run])
    words = sets.shape[1]
    for permutation in prange(tables.shape[0]):
        order = np.empty(longest, dtype=np.int64)
        state = mix_bits(mix_bits(np.uint64(seed)) + np.uint64(permutation) * STEP)
        for run in range(len(documents)):
            length = starts[run + 1] - starts[run]
            for place in range(length):
                order[place] = starts[run] + place
            if shuffled:
                for place in range(length - 1, 0, -1):
                    state += STEP
                    other = np.int64(((mix_bits(state) >> np.uint64(32)) * np.uint64(place + 1)) >> np.uint64(32))
                    order[place], order[other] = order[other], order[place]
            same, firsts, shared, pairs = 0, 0, 0, 0
            last_first, last_present = -1, False
            for place in range(length):
                row = order[place]
                now, present, common = first[row], False, False
                last = order[max(place - 1, 0)]
                for word in range(words):
                    present |= sets[row, word] != 0
                    common |= (sets[row, word] & sets[last, word]) != 0
                if place > 0:
                    if present and last_present:
                        pairs += 1
                        shared += common
                    if now >= 0 and last_first >= 0:
                        firsts += 1
                        same += now == last_first
                last_first, last_present = now, present
            for group in range(rows.shape[1]):
                target = rows[documents[run], group]
                if target >= 0:
                    tables[permutation, target, 0] += same
                    tables[permutation, target, 1] += firsts
                    tables[permutation, target, 2] += shared
                    tables[permutation, target, 3] += pairs


@njit(cache=True, nogil=True)
def _count_loads(table, experts, starts, documents, rows, num_experts):  # type: ignore[no-untyped-def]
    for run in range(len(documents)):
        for group in range(rows.shape[1]):
            target = rows[documents[run], group]
            if target >= 0:
                for row in range(starts[run], starts[run + 1]):
                    size = 0
                    for slot in range(experts.shape[1]):
                        expert = experts[row, slot]
                        if expert >= 0:
                            size += 1
                            table[target, num_experts + expert] += 1
                            if slot == 0:
                                table[target, expert] += 1
                    table[target, 2 * num_experts + size] += 1
