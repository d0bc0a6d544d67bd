"""Entropies by word type, from tokens sorted by type.

A table [block, type, label, expert] would be sparse and too large for memory. Instead, one table [label, expert] is
filled and cleared for each type in turn, and the change from leaving out a block of documents is computed from the
tokens of that block alone.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from specialize.measure.estimators.label_runs import LabelRuns

_MOST_KNOWN = 2**17


@dataclass(frozen=True)
class TypeRuns:
    """Tokens sorted as their labels are, with their experts.

    Attributes:
        labels: their labels.
        experts: int16 [tokens, slots]; negative where a slot holds no expert.
        masses: float64 [tokens, slots], or [tokens, 1]; all 1 where all masses are equal.
        unit: factor from these masses to tokens.
        blocks: int32 [tokens], the block of each token's document.
        known: float64 [count], table of n log2 n for the first integers n where masses are 1, else empty.
    """

    labels: LabelRuns
    experts: NDArray[np.int16]
    masses: NDArray[np.float64]
    unit: float
    blocks: NDArray[np.int32]
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
        _entropies(result, codes, self.experts, self.masses, self.blocks, self.labels.starts, self.known, shape)


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
    sorted_types, places = types[order], documents[order].astype(np.int32)
    labels = LabelRuns.of(codes[order], places, np.append(True, sorted_types[1:] != sorted_types[:-1]))
    largest = int(np.diff(labels.starts).max())
    return TypeRuns(
        labels=labels,
        experts=experts[order],
        masses=masses[order] if unit is None else np.ones((len(order), 1)),
        unit=1.0 if unit is None else unit,
        blocks=blocks[places],
        known=know_entropies(largest * experts.shape[1], unit),
    )


def know_entropies(largest: int, unit: float | None) -> NDArray[np.float64]:
    """Return n log2 n for integers up to the largest count, or up to a limit; nothing where masses are not equal."""
    if unit is None:
        return np.empty(0)
    counts = np.arange(min(largest + 1, _MOST_KNOWN), dtype=np.float64)
    return counts * np.log2(np.maximum(counts, 1.0))


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
        move(table, rows, codes, experts, masses, first, end)
        run = first
        while run < end:  # the tokens of one block, which are consecutive
            stop = run
            while stop < end and blocks[stop] == blocks[run]:
                stop += 1
            move(lost, lost_rows, codes, experts, masses, run, stop)
            result[blocks[run]] += clear(lost, lost_rows, table, rows, codes[run:stop], experts[run:stop], known)
            run = stop
        result[last] += empty(table, rows, codes, experts, first, end, known, 0.0)


@njit(cache=True, nogil=True, inline="always")
def move(table, rows, codes, experts, masses, first, end):  # type: ignore[no-untyped-def]
    """Add tokens to a table [label, expert] and to the sums of its rows."""
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
def clear(lost, lost_rows, table, rows, codes, experts, known):  # type: ignore[no-untyped-def]
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
def empty(table, rows, codes, experts, first, end, known, total):  # type: ignore[no-untyped-def]
    """Add the sum of n log n over rows minus that over cells of the table to ``total``; clear both."""
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
