"""Tokens of frequent types (token ids) with the experts of one layer, and how often each type chooses each expert."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import check_range
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import LayerInput, block_documents, cut_rows
from specialize.measure.base.nulls import BATCH_BYTES, shift_batches
from specialize.measure.base.scratch import Scratch


@dataclass(frozen=True)
class TypeCounts:
    """Sums over the types x, without each block of documents and, last, overall.

    Attributes:
        squares: sum of N(x, e)^2 / N(x), float64 [block + 1, expert].
        num_types: number of types, float64 [block + 1].
        sizes: number of tokens, float64 [block + 1].
        load: number of tokens of each expert, float64 [block + 1, expert].
    """

    squares: NDArray[np.float64]
    num_types: NDArray[np.float64]
    sizes: NDArray[np.float64]
    load: NDArray[np.float64]


class FrequentTypes:
    """The routed tokens of types that occur often enough, in the order of the corpus; use as a context manager.

    They are in memory a part at a time, together with tables of types and experts.

    Args:
        layer: the routing decisions, in memory or on disk.
        types: integers [tokens], token ids, in memory or as a column; negative where unknown.
        min_count: minimum number of routed tokens of a type.

    Attributes:
        ids: int64 [types], ascending.
        counts: int64 [types], number of routed tokens of each.
        table: int32 [types, experts], number of tokens of each type that chose each expert.
        num_tokens: number of tokens of these types.
        num_documents: number of documents with any of them.

    Raises:
        MeasurementError: an expert is out of range, or no type reaches ``min_count``.
    """

    def __init__(self, layer: LayerInput, types: Any, *, min_count: int) -> None:
        self._layer, found = layer, Distinct()
        for part, own in _read(layer, types):
            check_range("experts", part.experts, layer.num_experts)
            found.add(own[own >= 0].astype(np.int64))
        ids, counts = found.counts()
        self.ids, self.counts = ids[counts >= min_count], counts[counts >= min_count]
        if not len(self.ids):
            raise MeasurementError(
                f"expected a token type with {min_count} occurrences, got none: trace more text or lower min_count"
            )
        self.num_tokens = int(self.counts.sum())
        self._lengths = np.zeros(len(layer.counts), dtype=np.int64)
        fields = np.dtype([("type", np.int32), ("experts", np.int16, (layer.experts.shape[1],))])
        self._scratch, place = Scratch(self.num_tokens, fields), 0
        for part, own in _read(layer, types):
            numbers = np.minimum(np.searchsorted(self.ids, own), len(self.ids) - 1)
            chosen = np.flatnonzero(self.ids[numbers] == own)
            tokens = np.empty(len(chosen), dtype=fields)
            tokens["type"], tokens["experts"] = numbers[chosen], part.experts[chosen]
            self._scratch.write(place, tokens)
            place += len(chosen)
            last = part.first_document + len(part.counts)
            own_documents = part.documents[chosen] - part.first_document
            self._lengths[part.first_document : last] = np.bincount(own_documents, minlength=len(part.counts))
        self.num_documents = int(np.count_nonzero(self._lengths))
        self.table = self._tabulate(np.zeros(len(self._lengths), dtype=np.int32), 1)[0][0]

    def __enter__(self) -> "FrequentTypes":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.__exit__()

    def count(self, *, num_blocks: int) -> TypeCounts:
        """Sum over the types without each block of documents, and overall.

        Args:
            num_blocks: maximum number of blocks, see `assign_blocks`.
        """
        blocks = block_documents(self._lengths > 0, self._layer.groups, num_blocks=num_blocks)
        size, num_experts = int(blocks.max()) + 1, self.table.shape[1]
        sums, load = np.zeros((size + 1, num_experts + 1)), np.zeros((size, num_experts))
        tokens, overall = np.zeros(size), np.zeros(num_experts + 1)
        _add_squares(overall, self.table, self.counts)
        step = self._batch_size()
        for first in range(0, size, step):
            batch = slice(first, min(first + step, size))
            inside = (blocks >= batch.start) & (blocks < batch.stop)
            tables, sizes = self._tabulate(np.where(inside, blocks - first, -1), batch.stop - first)
            load[batch], tokens[batch] = tables.sum(axis=1), sizes.sum(axis=1)
            for block in range(first, batch.stop):
                _leave_out(sums[block], self.table, self.counts, tables[block - first], sizes[block - first])
        sums[:-1] += overall
        sums[-1] = overall
        whole = np.append(tokens.sum() - tokens, tokens.sum())
        loads = np.vstack([load.sum(axis=0) - load, load.sum(axis=0)])
        return TypeCounts(sums[:, :-1], sums[:, -1], whole, loads)

    def permute(self, *, permutations: int, seed: int) -> NDArray[np.float64]:
        """Compute the squares with types circularly shifted within documents, float64 [permutation, expert]."""
        present = np.flatnonzero(self._lengths)
        sums = np.zeros((permutations, self.table.shape[1] + 1))
        how: Any = {"permutations": permutations, "seed": seed, "size": self._batch_size()}
        for batch, shifts in shift_batches(self._lengths[present], **how):
            tables, first = np.zeros((len(shifts), *self.table.shape), dtype=np.int32), 0
            for _, lengths, tokens in self._parts() if len(shifts) else ():
                starts = np.append(0, np.cumsum(lengths[lengths > 0]))
                own = np.ascontiguousarray(shifts[:, first : first + len(starts) - 1])
                _count_shifted(tables, tokens["type"], np.ascontiguousarray(tokens["experts"]), starts, own)
                first += len(starts) - 1
            for number in range(len(shifts)):
                _add_squares(sums[batch.start + number], tables[number], self.counts)
        return sums[:, :-1]

    def _tabulate(self, rows: NDArray[np.integer], size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Count tokens by type and expert, int32 [row, type, expert], and by type, int64 [row, type].

        Args:
            rows: the row of each document; -1 for those that are not counted.
            size: number of rows.
        """
        tables = np.zeros((size, len(self.ids), self._layer.num_experts), dtype=np.int32)
        sizes = np.zeros((size, len(self.ids)), dtype=np.int64)
        for documents, lengths, tokens in self._parts():
            own = np.repeat(rows[documents], lengths)
            _count_types(tables, sizes, own, tokens["type"], np.ascontiguousarray(tokens["experts"]))
        return tables, sizes

    def _parts(self) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[Any]]]:
        """Yield ranges of documents, their numbers of tokens, and the tokens."""
        for first, last, rows in cut_rows(self._lengths):
            yield slice(first, last), self._lengths[first:last], self._scratch.read(rows.start, rows.stop)

    def _batch_size(self) -> int:
        return max(1, BATCH_BYTES // (self.table.nbytes + 8 * len(self.ids) + 4 * self.num_documents))


def _read(layer: LayerInput, types: Any) -> Iterator[tuple[LayerInput, NDArray[np.integer]]]:
    """Yield the parts of a layer, and the types of their tokens; -1 for tokens without an expert."""
    for part in layer.parts():
        yield part, np.where(part.routed, types[part.rows], -1)


@njit(cache=True, nogil=True)
def _count_types(tables, sizes, rows, types, experts):  # type: ignore[no-untyped-def]
    """Add tokens to ``tables`` [row, type, expert] and ``sizes`` [row, type]; those of a negative row are skipped."""
    for token in range(len(types)):
        row, word = rows[token], types[token]
        if row >= 0:
            sizes[row, word] += 1
            for slot in range(experts.shape[1]):
                if experts[token, slot] >= 0:
                    tables[row, word, experts[token, slot]] += 1


@njit(cache=True, nogil=True, parallel=True)
def _count_shifted(tables, types, experts, starts, shifts):  # type: ignore[no-untyped-def]
    """Add tokens to ``tables`` [permutation, type, expert], with types shifted within documents."""
    for permutation in prange(tables.shape[0]):
        for document in range(len(starts) - 1):
            first, end = starts[document], starts[document + 1]
            for token in range(first, end):
                row = token + shifts[permutation, document]
                if row >= end:
                    row -= end - first
                for slot in range(experts.shape[1]):
                    if experts[row, slot] >= 0:
                        tables[permutation, types[token], experts[row, slot]] += 1


@njit(cache=True, nogil=True)
def _add_squares(result, table, sizes):  # type: ignore[no-untyped-def]
    """Add N(x, e)^2 / N(x) and, last, the types to ``result`` [expert + 1]."""
    for word in range(len(sizes)):
        for expert in range(table.shape[1]):
            result[expert] += float(table[word, expert]) ** 2 / sizes[word]
    result[table.shape[1]] += len(sizes)


@njit(cache=True, nogil=True)
def _leave_out(result, table, sizes, lost, fewer):  # type: ignore[no-untyped-def]
    """Add to ``result`` [expert + 1] what `_add_squares` changes by without the tokens of a block."""
    for word in range(len(sizes)):
        if fewer[word] == 0:
            continue
        left = sizes[word] - fewer[word]
        for expert in range(table.shape[1]):
            now = float(table[word, expert] - lost[word, expert]) ** 2 / left if left > 0 else 0.0
            result[expert] += now - float(table[word, expert]) ** 2 / sizes[word]
        if left == 0:
            result[table.shape[1]] -= 1
