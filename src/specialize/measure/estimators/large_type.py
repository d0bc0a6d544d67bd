"""Entropies of a word type with so many tokens that their experts are read a block of documents at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from specialize.measure.estimators.label_runs import LabelRuns
from specialize.measure.estimators.type_runs import clear, empty, know_entropies, move

_Piece = tuple[int, slice, NDArray[np.int16], NDArray[np.float64]]


class LargeType:
    """The tokens of one type; their labels are in memory, their experts are not. The sums are those of `TypeRuns`.

    Args:
        read: returns the tokens of a block, in corpus order, as records of `TypeParts`.
        num_blocks: number of blocks.
        unit: the mass of every token, where all are equal; None where they are not.

    Attributes:
        labels: the labels.
    """

    def __init__(self, read: Callable[[int], NDArray[Any]], num_blocks: int, *, unit: float | None) -> None:
        self._read, self._num_blocks, self._unit = read, num_blocks, unit
        records = [read(block) for block in range(num_blocks)]
        self._starts = np.append(0, np.cumsum([len(each) for each in records]))
        codes, documents = (np.concatenate([each[name] for each in records]) for name in ("code", "document"))
        self.labels = LabelRuns.of(codes, documents, np.arange(len(codes)) == 0)
        self._known = know_entropies(len(codes) * records[0]["experts"].shape[1], unit)

    def add_entropy(
        self, result: NDArray[np.float64], codes: NDArray[np.int32], num_labels: int, num_experts: int
    ) -> None:
        """Add to ``result`` [permutation, block + 1] what `sum_entropy` turns into the entropy of all tokens."""
        tables, lost = (np.zeros((len(codes), num_labels, num_experts)) for _ in range(2))
        rows, lost_rows = (np.zeros((len(codes), num_labels)) for _ in range(2))
        totals = np.zeros(len(codes))
        for _, tokens, experts, masses in self._pieces():
            _move_all(tables, rows, codes[:, tokens], experts, masses)
        for block, tokens, experts, masses in self._pieces():
            _move_all(lost, lost_rows, codes[:, tokens], experts, masses)
            _clear_all(result[:, block], lost, lost_rows, tables, rows, codes[:, tokens], experts, self._known)
        for _, tokens, experts, _ in self._pieces():
            _empty_all(totals, tables, rows, codes[:, tokens], experts, self._known)
        result[:, -1] += totals

    def _pieces(self) -> Iterator[_Piece]:
        """Yield blocks with tokens: number, places of the tokens, experts and masses."""
        for block in np.flatnonzero(np.diff(self._starts)).tolist():
            records = self._read(block)
            masses = records["masses"] if self._unit is None else np.ones((len(records), 1))
            tokens = slice(int(self._starts[block]), int(self._starts[block + 1]))
            yield block, tokens, np.ascontiguousarray(records["experts"]), np.ascontiguousarray(masses)


@njit(cache=True, nogil=True, parallel=True)
def _move_all(tables, rows, codes, experts, masses):  # type: ignore[no-untyped-def]
    for permutation in prange(len(codes)):
        move(tables[permutation], rows[permutation], codes[permutation], experts, masses, 0, len(experts))


@njit(cache=True, nogil=True, parallel=True)
def _clear_all(changes, lost, lost_rows, tables, rows, codes, experts, known):  # type: ignore[no-untyped-def]
    for permutation in prange(len(codes)):
        changes[permutation] += clear(
            lost[permutation], lost_rows[permutation], tables[permutation], rows[permutation], codes[permutation],
            experts, known,
        )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True)
def _empty_all(totals, tables, rows, codes, experts, known):  # type: ignore[no-untyped-def]
    for permutation in prange(len(codes)):
        totals[permutation] = empty(
            tables[permutation], rows[permutation], codes[permutation], experts, 0, len(experts), known,
            totals[permutation],
        )  # fmt: skip
