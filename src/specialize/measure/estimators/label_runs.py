"""Labels of tokens that are sorted by type, and their permutations."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from specialize.measure.base.mersenne import draw_below, seed_states
from specialize.measure.base.nulls import permutation_batches

_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class LabelRuns:
    """Labels of tokens sorted by type, within a type by block, and within a block in corpus order.

    A cell is the tokens of one type in one document.

    Attributes:
        codes: int32 [tokens], the label of each token.
        documents: int32 [tokens], the document of each token, counted from 0.
        starts: int64 [types + 1], the first token of each type.
        cells: int64 [cells + 1], the first token of each cell.
        order: int64 [cells], cells sorted by type and then by size.
        groups: int64 [groups + 1], indices into ``order`` of the first cell of each group of one type and size.
    """

    codes: NDArray[np.int32]
    documents: NDArray[np.int32]
    starts: NDArray[np.int64]
    cells: NDArray[np.int64]
    order: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int32], documents: NDArray[np.int32], new_type: NDArray[np.bool_]) -> "LabelRuns":
        """Find the cells of sorted tokens, and those of one size.

        Args:
            codes: int32 [tokens].
            documents: int32 [tokens].
            new_type: bool [tokens], whether a type begins with a token.
        """
        new_cell = new_type | np.append(True, documents[1:] != documents[:-1])
        starts = np.append(np.flatnonzero(new_type), len(codes)).astype(np.int64)
        cells = np.append(np.flatnonzero(new_cell), len(codes)).astype(np.int64)
        sizes, type_of_cell = np.diff(cells), np.searchsorted(starts, cells[:-1], side="right")
        by_size = np.lexsort((sizes, type_of_cell))
        same = (np.diff(sizes[by_size]) == 0) & (np.diff(type_of_cell[by_size]) == 0)
        groups = np.flatnonzero(np.concatenate([[True], ~same, [True]])).astype(np.int64)
        return cls(codes, documents, starts, cells, by_size.astype(np.int64), groups)

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
