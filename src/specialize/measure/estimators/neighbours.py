"""Neighbouring tokens, and counts of the experts that they share."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes, check_distinct, check_range
from specialize.measure.base.layer_input import LayerInput
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


def check_neighbours(experts: ArrayLike, documents: ArrayLike) -> None:
    """Raise MeasurementError unless experts are [tokens, k] and documents [tokens]."""
    if np.ndim(experts) != 2 or len(np.asarray(experts)) != len(np.asarray(documents)):
        raise MeasurementError(
            "expected experts [tokens, k] and documents [tokens], "
            f"got shapes {np.shape(experts)} and {np.shape(documents)}"
        )


def check_part(part: LayerInput) -> None:
    """Raise MeasurementError if an expert of a part is out of range, or a token has one twice."""
    check_range("experts", part.experts, part.num_experts)
    check_distinct("experts", part.experts, part.first_row)


@dataclass(frozen=True)
class NeighbourCounter:
    """Counter of neighbours in the rows (blocks of groups of documents) of a table.

    Attributes:
        experts: int16 [tokens, k].
        runs: runs of these tokens.
        rows: int32 [documents, groups], the rows to which each document is added; negative for none.
    """

    experts: NDArray[np.int16]
    runs: Runs
    rows: NDArray[np.int32]

    def add_pairs(self, tables: NDArray[np.float64], *, shuffled: bool = False, seed: int = 0, drawn: int = 0) -> None:
        """Add neighbours and repeats to tables [permutation, row, 4], see `count_repeats`.

        Args:
            tables: the sums so far.
            shuffled: whether tokens are in random order within their run.
            seed: seed of the order.
            drawn: how many random numbers each permutation has drawn, for the parts before this one.
        """
        sets, first = _pack(self.experts), np.ascontiguousarray(self.experts[:, 0])
        _count_pairs(tables, first, sets, self.runs.starts, self.runs.documents, self.rows, (shuffled, seed, drawn))

    @property
    def num_draws(self) -> int:
        """How many random numbers a permutation of these tokens draws."""
        return len(self.experts) - len(self.runs.documents)

    def add_loads(self, tables: NDArray[np.float64], num_experts: int) -> None:
        """Add to [row, 2 E + k + 1]: first experts, chosen experts, and tokens with 0, 1, ..., k experts."""
        _count_loads(tables, self.experts, self.runs.starts, self.runs.documents, self.rows, num_experts)


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
def _count_pairs(tables, first, sets, starts, documents, rows, order_of):  # type: ignore[no-untyped-def]
    """Count neighbours, one token order per permutation: the result does not depend on the number of threads.

    ``order_of`` is whether tokens are in random order, the seed, and how many random numbers were drawn before.
    """
    shuffled, seed, drawn = order_of
    longest = 1
    for run in range(len(documents)):
        longest = max(longest, starts[run + 1] - starts[run])
    words = sets.shape[1]
    for permutation in prange(tables.shape[0]):
        order = np.empty(longest, dtype=np.int64)
        state = mix_bits(mix_bits(np.uint64(seed)) + np.uint64(permutation) * STEP) + np.uint64(drawn) * STEP
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
