"""Tokens whose id occurs in several documents, and how far the experts of an id's occurrences overlap."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.column import as_array
from specialize.measure.base.blocks import divide, group_documents
from specialize.measure.base.counting import check_distinct, check_range
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import LayerInput, cut_documents, cut_rows
from specialize.measure.base.nulls import shift_batches
from specialize.measure.base.scratch import Scratch
from specialize.measure.estimators.overlap_counts import add_all, count_runs, count_shifted, leave_out, note_groups

_BATCH_BYTES = 48 * 2**20  # of counts by id and expert


class RepeatedIds:
    """The token ids that occur in several groups of documents; use as a context manager.

    Args:
        ids: int64 [ids], ascending.
        groups: int64 [documents], the group of each document, numbered in order of appearance.
        counts: int64 [documents], number of tokens of each document.
        numbers: of each token, the place of its id in ``ids``; -1 if it is not counted.

    Attributes:
        ids: as given.
        groups: as given.
        lengths: int64 [documents], number of tokens of these ids in each document.
    """

    def __init__(
        self, ids: NDArray[np.int64], groups: NDArray[np.int64], counts: NDArray[np.int64], numbers: Scratch
    ) -> None:
        self.ids, self.groups = ids, groups
        self._counts, self._numbers = counts, numbers
        self.lengths = np.zeros(len(counts), dtype=np.int64)
        for documents, own in self.parts():
            np.add.at(self.lengths, documents[own >= 0], 1)

    def __enter__(self) -> "RepeatedIds":
        return self

    def __exit__(self, *_: object) -> None:
        self._numbers.__exit__()

    def parts(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.signedinteger]]]:
        """Yield each token's document, and the number of its id, -1 if it is not counted, for the parts of layers."""
        return ((documents, own) for _, documents, own in _read(self._numbers, self._counts))


def find_repeated(layers: Sequence[LayerInput], types: Any) -> RepeatedIds | None:
    """Find the token ids that occur in at least two groups of documents, among tokens that all layers routed.

    Args:
        layers: routing decisions of the same tokens, in memory or on disk.
        types: integers [tokens], token ids, in memory or as a column; negative where unknown.

    Returns:
        The ids; None if there are none.
    """
    counts, distinct = layers[0].counts, Distinct()
    signed = np.promote_types(as_array(types).dtype, np.int32)
    numbers = Scratch(int(counts.sum()), signed)  # ids at first
    for parts in zip(*(layer.parts() for layer in layers), strict=True):
        for part in parts:
            check_range("experts", part.experts, part.num_experts)
            check_distinct("experts", part.experts, part.first_row)
        routed = np.logical_and.reduce([part.routed for part in parts])
        own = np.where(routed, types[parts[0].rows], -1).astype(signed)
        distinct.add(own[own >= 0].astype(np.int64))
        numbers.write(parts[0].first_row, own)
    ids = distinct.counts()[0]
    of_documents = group_documents(np.arange(len(counts)), layers[0].groups)
    _, first, inverse = np.unique(of_documents, return_index=True, return_inverse=True)
    groups = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    seen_in, several = np.full(len(ids), -1, dtype=np.int64), np.zeros(len(ids), dtype=np.bool_)
    for place, documents, own in _read(numbers, counts):
        usable = np.flatnonzero(own >= 0)
        found = np.full(len(own), -1, dtype=signed)
        found[usable] = np.searchsorted(ids, own[usable])
        note_groups(seen_in, several, found[usable], groups[documents[usable]])
        numbers.write(place, found)
    if not several.any():
        numbers.__exit__()
        return None
    kept = np.append(np.where(several, np.cumsum(several) - 1, -1), -1).astype(signed)  # that of no id is the last
    for place, _, own in _read(numbers, counts):
        numbers.write(place, kept[own])
    return RepeatedIds(ids[several], groups, counts, numbers)


def _read(
    numbers: Scratch, counts: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.signedinteger]]]:
    """Yield the place of the first token, the document of each and its number, for the parts of layers."""
    for first, last, rows in cut_rows(counts):
        documents = np.repeat(np.arange(first, last), counts[first:last])
        yield rows.start, documents, numbers.read(rows.start, rows.stop)


class RepeatedTokens:
    """The tokens of repeated ids, without their experts; use as a context manager.

    Documents of a block, and in it those that belong together, are next to each other; the tokens are in memory a part
    at a time.

    Args:
        kept: the repeated ids.
        blocks: int32 [documents], the block of each document with tokens.
    """

    def __init__(self, kept: RepeatedIds, blocks: NDArray[np.int32]) -> None:
        self.kept, self.num_blocks = kept, int(blocks.max(initial=-1)) + 1
        present = np.flatnonzero(kept.lengths)
        order = np.lexsort((kept.groups[present], blocks[present]))  # a group is whole in a block
        self.documents = order  # place in the corpus, among those with such tokens, of each document as stored
        self.lengths, self.groups = kept.lengths[present][order], kept.groups[present][order]
        self.blocks = blocks[present][order]
        self.corpus_lengths = kept.lengths[present]
        self._starts = np.zeros(len(kept.lengths), dtype=np.int64)
        self._starts[present[order]] = np.cumsum(self.lengths) - self.lengths
        size = int(self.lengths.sum())
        self.ids, self.order = (Scratch(size, np.dtype(np.int32)) for _ in range(2))
        for documents, own in kept.parts():
            chosen = np.flatnonzero(own >= 0)
            self.store(self.ids, documents[chosen], own[chosen].astype(np.int32))
        for place, first, end in self.parts():
            groups = np.repeat(self.groups[first:end], self.lengths[first:end])
            ids = self.ids.read(place, place + len(groups))
            self.order.write(place, np.lexsort((ids, groups)).astype(np.int32))

    def __enter__(self) -> "RepeatedTokens":
        return self

    def __exit__(self, *_: object) -> None:
        self.ids.__exit__()
        self.order.__exit__()

    def store(self, scratch: Scratch, documents: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write a value of each token of a part where its document is stored; documents are those of the tokens."""
        if not len(documents):
            return
        own = documents[np.append(0, np.flatnonzero(np.diff(documents)) + 1)]
        lengths, starts = self.kept.lengths[own], self._starts[own]
        apart = np.flatnonzero(starts[1:] != starts[:-1] + lengths[:-1]) + 1
        begins = np.append(0, np.cumsum(lengths))
        for first, end in pairwise([0, *apart.tolist(), len(own)]):
            scratch.write(int(starts[first]), values[begins[first] : begins[end]])

    def sort(
        self, place: int, first: int, end: int, *, by_id: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Return ids and order of a part's tokens sorted by group and id, and the first of each run of both.

        Args:
            place: of the first token.
            first: number of the first document, as stored.
            end: number after the last document.
            by_id: whether ids count; otherwise all are 0.
        """
        groups = np.repeat(self.groups[first:end], self.lengths[first:end])  # in ascending order
        if by_id:
            order = self.order.read(place, place + len(groups))
            ids = self.ids.read(place, place + len(groups))[order]
        else:
            order, ids = np.arange(len(groups), dtype=np.int32), np.zeros(len(groups), dtype=np.int32)
        new = np.append(True, (ids[1:] != ids[:-1]) | (groups[1:] != groups[:-1]))
        return ids, order, np.append(np.flatnonzero(new), len(groups))

    def parts(self, blocks: Sequence[int] | None = None) -> Iterator[tuple[int, int, int]]:
        """Yield the place of the first token and the range of documents of a part: whole groups of a block.

        Args:
            blocks: which blocks; all by default.
        """
        ends = np.append(0, np.cumsum(self.lengths))
        for block in range(self.num_blocks) if blocks is None else blocks:
            start, stop = np.searchsorted(self.blocks, [block, block + 1])
            groups = self.groups[start:stop]
            edges = start + np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups))
            for first, last in cut_documents(np.diff(ends[edges])):
                begin, end = int(edges[first]), int(edges[last])
                yield int(ends[begin]), begin, end


class TokenExperts:
    """The experts of one layer that chose the tokens of repeated ids; use as a context manager.

    Args:
        tokens: the tokens.
        layer: the routing decisions.
    """

    def __init__(self, tokens: RepeatedTokens, layer: LayerInput) -> None:
        self._tokens, self._num_experts, self._slots = tokens, layer.num_experts, layer.experts.shape[1]
        self._num_ids, self._num_blocks = len(tokens.kept.ids), tokens.num_blocks
        self._experts = Scratch(int(tokens.lengths.sum()), np.dtype((np.int16, (self._slots,))))
        for part, (documents, own) in zip(layer.parts(), tokens.kept.parts(), strict=True):
            chosen = np.flatnonzero(own >= 0)
            tokens.store(self._experts, documents[chosen], part.experts[chosen])

    def __enter__(self) -> "TokenExperts":
        return self

    def __exit__(self, *_: object) -> None:
        self._experts.__exit__()

    def overlaps(self) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id and of any tokens, without each block and overall, [block + 1, 2]."""
        shares, every = [], np.arange(self._num_blocks)
        for num_ids in (self._num_ids, 1):
            step = self._batch_size(num_ids)
            apart = self._count(every, num_ids) if step >= len(every) else None
            if apart is None:
                whole = tuple(each[0] for each in self._count(every, num_ids, apart=False))
            else:  # a group is whole in a block, and so are its pairs
                whole = tuple(each.sum(axis=0, dtype=each.dtype) for each in apart)
            sums = np.zeros((self._num_blocks + 1, 2))
            add_all(sums[-1], *whole)
            for first in range(0, len(every), step):
                batch = every[first : first + step]
                for block, *lost in zip(batch, *(apart or self._count(batch, num_ids)), strict=True):
                    leave_out(sums[block], whole, tuple(lost))
            sums[:-1] += sums[-1]
            shares.append(divide(sums[:, 0], self._slots * sums[:, 1]))
        return np.stack(shares, axis=-1)

    def permute(self, *, permutations: int, seed: int) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id with ids shifted within documents, float64 [permutation]."""
        stored = self._tokens
        _, _, pairs, sizes = self._count(np.arange(self._num_blocks), self._num_ids, apart=False)
        sums = np.zeros((permutations, 2))
        how: Any = {"permutations": permutations, "seed": seed, "size": self._batch_size(self._num_ids)}
        for batch, shifts in shift_batches(stored.corpus_lengths, **how):
            counts = np.zeros((len(shifts), self._num_ids, self._num_experts), dtype=np.int32)
            inside = np.zeros((len(shifts), self._num_ids), dtype=np.int64)
            for place, first, end in stored.parts() if len(shifts) else ():
                starts = np.append(0, np.cumsum(stored.lengths[first:end]))
                documents = np.repeat(np.arange(end - first), stored.lengths[first:end])
                own = np.ascontiguousarray(shifts[:, stored.documents[first:end]])
                experts = self._experts.read(place, place + len(documents))
                count_shifted(counts, inside, stored.sort(place, first, end), experts, documents, starts, own)
            for number in range(len(shifts)):
                add_all(sums[batch.start + number], counts[number], inside[number], pairs[0], sizes[0])
        return divide(sums[:, 0], self._slots * sums[:, 1])

    def _batch_size(self, num_ids: int) -> int:
        return max(2, _BATCH_BYTES // (4 * num_ids * self._num_experts))

    def _count(
        self, blocks: NDArray[np.int64], num_ids: int, *, apart: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Count the tokens of some blocks: by id and expert; overlaps and pairs within groups, and tokens, by id.

        Args:
            blocks: which blocks.
            num_ids: number of ids; 1 to count all tokens as one.
            apart: whether each block has a row of its own, or all have one.
        """
        size = len(blocks) if apart else 1
        counts = np.zeros((size, num_ids, self._num_experts), dtype=np.int32)
        inside, pairs, sizes = (np.zeros((size, num_ids), dtype=np.int64) for _ in range(3))
        row = np.full(self._num_blocks, 0, dtype=np.int64)
        if apart:
            row[blocks] = np.arange(size)
        stored = self._tokens
        for place, first, end in stored.parts(blocks.tolist()):
            tokens = stored.sort(place, first, end, by_id=num_ids > 1)
            rows = np.repeat(row[stored.blocks[first:end]], stored.lengths[first:end])
            experts = self._experts.read(place, place + len(rows))
            count_runs((counts, inside, pairs, sizes), tokens, experts, rows)
        return counts, inside, pairs, sizes
