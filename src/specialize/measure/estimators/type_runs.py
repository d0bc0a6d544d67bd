"""Entropies by word type, from tokens sorted by type.

A table [block, type, label, expert] would be sparse and too large for memory. Instead, one table [label, expert] is
filled and cleared for each type in turn, and the change from leaving out a block of documents is computed from the
tokens of that block alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from specialize.measure.base.mersenne import draw_below, seed_states
from specialize.measure.base.nulls import permutation_batches

_BATCH_BYTES = 48 * 2**20
_MOST_KNOWN = 2**20


@dataclass(frozen=True)
class TypeRuns:
    """Tokens sorted by type, within a type by block, and within a block in corpus order.

    A cell is the tokens of one type in one document.

    Attributes:
        codes: int32 [tokens], the label of each token.
        documents: int64 [tokens], the document of each token, counted from 0.
        experts: int16 [tokens, slots]; negative where a slot holds no expert.
        masses: float64 [tokens, slots], or [tokens, 1]; all 1 where all masses are equal.
        unit: factor from these masses to tokens.
        blocks: int32 [tokens], the block of each token's document.
        starts: int64 [types + 1], the first token of each type.
        cells: int64 [cells + 1], the first token of each cell.
        order: int64 [cells], cells sorted by type and then by size.
        groups: int64 [groups + 1], indices into ``order`` of the first cell of each group of one type and size.
        known: float64 [count], table of n log2 n for the first integers n where masses are 1, else empty.
    """

    codes: NDArray[np.int32]
    documents: NDArray[np.int64]
    experts: NDArray[np.int16]
    masses: NDArray[np.float64]
    unit: float
    blocks: NDArray[np.int32]
    starts: NDArray[np.int64]
    cells: NDArray[np.int64]
    order: NDArray[np.int64]
    groups: NDArray[np.int64]
    known: NDArray[np.float64]

    def expert_entropy(self, codes: NDArray[np.int32], num_labels: int, num_experts: int) -> NDArray[np.float64]:
        """Compute the mass of all tokens times H(expert | type, label), in bits.

        Args:
            codes: int32 [permutation, tokens], labels in the order of these tokens.
            num_labels: number of labels.
            num_experts: number of experts.

        Returns:
            float64 [permutation, block + 1]: without each block and, last, overall.
        """
        result = np.zeros((len(codes), int(self.blocks.max()) + 2))
        self.add_entropy(result, codes, num_labels, num_experts)
        return sum_entropy(result, self.unit)

    def add_entropy(
        self, result: NDArray[np.float64], codes: NDArray[np.int32], num_labels: int, num_experts: int
    ) -> None:
        """Add to ``result`` [permutation, block + 1] what `sum_entropy` turns into the entropy of all tokens."""
        shape = (num_labels, num_experts)
        _entropies(result, codes, self.experts, self.masses, self.blocks, self.starts, self.known, shape)

    def exchange(
        self, *, permutations: int, seed: int, states: NDArray[np.uint64] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield batches of labels int32 [permutation, tokens], permuted within types between documents.

        The labels of a cell move as a whole, circularly shifted, to another document in which the type occurs equally
        often. These permutations form a group, so that the test is exact where documents are exchangeable. They
        depend on the seed and the labels only, not on the routing or the number of threads. Each batch comes with its
        slice of the permutations.

        Args:
            permutations: number of permutations.
            seed: seed of the permutations.
            states: of the generator of each permutation, where the types are drawn in parts, from the first to the
                last; they are advanced.
        """
        drawn = seed_states(seed, permutations) if states is None else states
        for batch in self._batches(permutations):
            codes = np.empty((batch.stop - batch.start, len(self.codes)), dtype=np.int32)
            _exchange(codes, self.codes, self.cells, self.order, self.groups, drawn[batch])
            yield batch, codes

    def permute(
        self, labels: NDArray[np.int32], groups: NDArray[np.integer], *, permutations: int, seed: int
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield batches of labels int32 [permutation, tokens], with the labels of documents permuted across documents.

        All tokens of a document receive the label of one other document, whatever their types. Each batch comes with
        its slice of the permutations.

        Args:
            labels: int32 [documents], the label of each document.
            groups: integers [documents], the group of each document, see `draw_permutations`.
            permutations: number of permutations.
            seed: seed of the permutations.
        """
        size = self._batch_size()
        for batch, sources in permutation_batches(groups, permutations=permutations, seed=seed, size=size):
            if len(sources):
                yield batch, labels[sources][:, self.documents]

    def _batches(self, permutations: int) -> Iterator[slice]:
        """Yield slices of the permutations, whose labels take `_BATCH_BYTES` at most."""
        size = self._batch_size()
        for first in range(0, permutations, size):
            yield slice(first, min(first + size, permutations))

    def _batch_size(self) -> int:
        return max(1, _BATCH_BYTES // max(1, 4 * len(self.codes)))


def sum_entropy(result: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    """Return the mass of all tokens times the entropy, from changes without each block, and the overall sum."""
    return np.concatenate([result[:, :-1] + result[:, -1:], result[:, -1:]], axis=1) * unit


def sort_tokens(
    codes: NDArray[np.int32],
    documents: NDArray[np.integer],
    types: NDArray[np.integer],
    *,
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    blocks: NDArray[np.int32],
    unit: float | None,
) -> TypeRuns:
    """Sort labelled tokens, all those of some types, by type.

    Args:
        codes: int32 [tokens], the label of each token, in document order; at least one.
        documents: integers [tokens], the document of each.
        types: integers [tokens], the type of each.
        experts: int16 [tokens, slots].
        masses: float64 [tokens, slots] or [tokens, 1].
        blocks: int32 [documents], the block of each document.
        unit: the mass of every token, where all are equal; None where they are not.
    """
    order = np.lexsort((blocks[documents], types))
    sorted_types, places = types[order], documents[order].astype(np.int64)
    new_type = np.append(True, sorted_types[1:] != sorted_types[:-1])
    new_cell = new_type | np.append(True, places[1:] != places[:-1])
    starts = np.append(np.flatnonzero(new_type), len(order)).astype(np.int64)
    cells = np.append(np.flatnonzero(new_cell), len(order)).astype(np.int64)
    sizes, type_of_cell = np.diff(cells), np.cumsum(new_type)[cells[:-1]]
    by_size = np.lexsort((sizes, type_of_cell))
    same = (np.diff(sizes[by_size]) == 0) & (np.diff(type_of_cell[by_size]) == 0)
    known = np.empty(0)
    if unit is not None:
        largest = int(np.diff(starts).max()) * experts.shape[1]
        counts = np.arange(min(largest + 1, _MOST_KNOWN), dtype=np.float64)
        known = counts * np.log2(np.maximum(counts, 1.0))
    return TypeRuns(
        codes=codes[order],
        documents=places,
        experts=experts[order],
        masses=masses[order] if unit is None else np.ones((len(order), 1)),
        unit=1.0 if unit is None else unit,
        blocks=blocks[places],
        starts=starts,
        cells=cells,
        order=by_size.astype(np.int64),
        groups=np.flatnonzero(np.concatenate([[True], ~same, [True]])).astype(np.int64),
        known=known,
    )


@njit(cache=True, nogil=True, inline="always")
def _n_log_n(mass, known):  # type: ignore[no-untyped-def]
    if mass < len(known):
        return known[int(mass)]
    return mass * np.log2(mass) if mass > 0 else 0.0


@njit(cache=True, nogil=True, parallel=True)
def _entropies(result, codes, experts, masses, blocks, starts, known, shape):  # type: ignore[no-untyped-def]
    """Add to ``result`` [permutation, block + 1]; permutations run in parallel, each into its own row."""
    for permutation in prange(len(codes)):
        _add_types(result[permutation], codes[permutation], experts, masses, blocks, starts, known, shape)


@njit(cache=True, nogil=True)
def _add_types(result, codes, experts, masses, blocks, starts, known, shape):  # type: ignore[no-untyped-def]
    """Add sums of n log n over (type, label) minus those over (type, label, expert): overall, and changes by block."""
    table, lost = np.zeros(shape), np.zeros(shape)
    rows, lost_rows = np.zeros(shape[0]), np.zeros(shape[0])
    last = len(result) - 1
    for word in range(len(starts) - 1):
        first, end = starts[word], starts[word + 1]
        _move(table, rows, codes, experts, masses, first, end)
        run = first
        while run < end:  # the tokens of one block, which are consecutive
            stop = run
            while stop < end and blocks[stop] == blocks[run]:
                stop += 1
            _move(lost, lost_rows, codes, experts, masses, run, stop)
            result[blocks[run]] += _clear(lost, lost_rows, table, rows, codes[run:stop], experts[run:stop], known)
            run = stop
        result[last] += _empty(table, rows, codes, experts, first, end, known)


@njit(cache=True, nogil=True, inline="always")
def _move(table, rows, codes, experts, masses, first, end):  # type: ignore[no-untyped-def]
    step = 1 if masses.shape[1] > 1 else 0
    for token in range(first, end):
        label = codes[token]
        for slot in range(experts.shape[1]):
            expert = experts[token, slot]
            if expert >= 0:
                mass = masses[token, slot * step]
                table[label, expert] += mass
                rows[label] += mass


@njit(cache=True, nogil=True, inline="always")
def _clear(lost, lost_rows, table, rows, codes, experts, known):  # type: ignore[no-untyped-def]
    """Return the change from subtracting ``lost`` from ``table``; clear ``lost``."""
    change = 0.0
    for token in range(len(codes)):
        label = codes[token]
        gone = lost_rows[label]
        if gone > 0:
            change += _n_log_n(max(rows[label] - gone, 0.0), known) - _n_log_n(rows[label], known)
            lost_rows[label] = 0.0
        for slot in range(experts.shape[1]):
            expert = experts[token, slot]
            if expert >= 0:
                gone = lost[label, expert]
                if gone > 0:
                    was = table[label, expert]
                    change -= _n_log_n(max(was - gone, 0.0), known) - _n_log_n(was, known)
                    lost[label, expert] = 0.0
    return change


@njit(cache=True, nogil=True, inline="always")
def _empty(table, rows, codes, experts, first, end, known):  # type: ignore[no-untyped-def]
    """Return the sum of n log n over rows minus that over cells of the table; clear both."""
    total = 0.0
    for token in range(first, end):
        label = codes[token]
        if rows[label] > 0:
            total += _n_log_n(rows[label], known)
            rows[label] = 0.0
        for slot in range(experts.shape[1]):
            expert = experts[token, slot]
            if expert >= 0 and table[label, expert] > 0:
                total -= _n_log_n(table[label, expert], known)
                table[label, expert] = 0.0
    return total


@njit(cache=True, nogil=True, parallel=True)
def _exchange(result, codes, cells, order, groups, states):  # type: ignore[no-untyped-def]
    for permutation in prange(len(states)):
        _exchange_once(result[permutation], codes, cells, order, groups, states[permutation])


@njit(cache=True, nogil=True)
def _exchange_once(result, codes, cells, order, groups, state):  # type: ignore[no-untyped-def]
    source = order.copy()
    for group in range(len(groups) - 1):
        first, end = groups[group], groups[group + 1]
        size = cells[order[first] + 1] - cells[order[first]]
        for place in range(end - 1, first, -1):
            other = first + draw_below(state, place + 1 - first)
            source[place], source[other] = source[other], source[place]
        for place in range(first, end):
            read, write = cells[source[place]], cells[order[place]]
            shift = draw_below(state, size)
            for token in range(size):
                result[write + token] = codes[read + (token + shift) % size]
