"""Tokens whose id occurs in several documents, and how far the experts of an id's occurrences overlap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.blocks import divide, group_documents
from specialize.measure.base.counting import check_distinct, check_range
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import LayerInput, cut_documents
from specialize.measure.base.nulls import shift_batches
from specialize.measure.base.scratch import Scratch
from specialize.measure.estimators.overlap_counts import add_all, count_runs, count_shifted, leave_out, note_groups

_BATCH_BYTES = 48 * 2**20  # of counts by id and expert


@dataclass(frozen=True)
class RepeatedIds:
    """The token ids that occur in several groups of documents.

    Attributes:
        ids: int64 [ids], ascending.
        groups: int64 [documents], the group of each document, numbered in order of appearance.
        lengths: int64 [documents], number of tokens of these ids in each document.
        layers: those that have to route a token, for it to be counted.
    """

    ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    lengths: NDArray[np.int64]
    layers: Sequence[LayerInput]

    def number(self, part: LayerInput, types: NDArray[np.integer], routed: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the place of the id of each token of a part; -1 for tokens that are not counted, int32 [tokens]."""
        place = np.minimum(np.searchsorted(self.ids, types), max(len(self.ids) - 1, 0))
        return np.where(routed & (self.ids[place] == types), place, -1).astype(np.int32)


def find_repeated(layers: Sequence[LayerInput], types: Any) -> RepeatedIds | None:
    """Find the token ids that occur in at least two groups of documents, among tokens that all layers routed.

    Args:
        layers: routing decisions of the same tokens, in memory or on disk.
        types: integers [tokens], token ids, in memory or as a column; negative where unknown.

    Returns:
        The ids; None if there are none.
    """
    first_layer, distinct = layers[0], Distinct()
    for part, _, own in _read(layers, types):
        for each in part:
            check_range("experts", each.experts, each.num_experts)
            check_distinct("experts", each.experts, each.first_row)
        distinct.add(own[own >= 0].astype(np.int64))
    ids = distinct.counts()[0]
    if not len(ids):
        return None
    of_documents = group_documents(np.arange(len(first_layer.counts)), first_layer.groups)
    _, first, inverse = np.unique(of_documents, return_index=True, return_inverse=True)
    groups = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    seen_in, several = np.full(len(ids), -1, dtype=np.int64), np.zeros(len(ids), dtype=np.bool_)
    for part, routed, own in _read(layers, types):
        usable = np.flatnonzero(routed & (own >= 0))
        note_groups(seen_in, several, np.searchsorted(ids, own[usable]), groups[part[0].documents[usable]])
    found = RepeatedIds(ids[several], groups, np.zeros(len(groups), dtype=np.int64), layers)
    if not len(found.ids):
        return None
    for part, routed, own in _read(layers, types):
        np.add.at(found.lengths, part[0].documents[found.number(part[0], own, routed) >= 0], 1)
    return found


def _read(
    layers: Sequence[LayerInput], types: Any
) -> Iterator[tuple[tuple[LayerInput, ...], NDArray[np.bool_], NDArray[np.integer]]]:
    """Yield the parts of all layers, which tokens all routed, and their ids."""
    for parts in zip(*(layer.parts() for layer in layers), strict=True):
        routed = np.logical_and.reduce([part.routed for part in parts])
        yield parts, routed, np.asarray(types[parts[0].rows])


class RepeatedTokens:
    """The tokens of repeated ids, with the experts of one layer; use as a context manager.

    Documents of a block, and in it those that belong together, are next to each other; the tokens are in memory a part
    at a time.

    Args:
        kept: the repeated ids.
        layer: the routing decisions.
        types: integers [tokens], token ids.
        blocks: int32 [documents], the block of each document with tokens.
    """

    def __init__(self, kept: RepeatedIds, layer: LayerInput, types: Any, blocks: NDArray[np.int32]) -> None:
        self._num_experts, self._slots = layer.num_experts, layer.experts.shape[1]
        self._num_ids, self._num_blocks = len(kept.ids), int(blocks.max(initial=-1)) + 1
        present = np.flatnonzero(kept.lengths)
        order = np.lexsort((kept.groups[present], blocks[present]))  # a group is whole in a block
        self._documents = order  # place in the corpus, among those with such tokens, of each document as stored
        self._lengths, self._groups = kept.lengths[present][order], kept.groups[present][order]
        self._blocks = blocks[present][order]
        self._corpus_lengths = kept.lengths[present]
        starts = np.zeros(len(kept.lengths), dtype=np.int64)
        starts[present[order]] = np.cumsum(self._lengths) - self._lengths
        fields = np.dtype([("id", np.int32), ("experts", np.int16, (self._slots,))])
        self._scratch = Scratch(int(self._lengths.sum()), fields)
        for part, routed, own in _read(kept.layers, types):
            numbers = kept.number(part[0], own, routed)
            chosen = np.flatnonzero(numbers >= 0)
            experts = next(each for each, one in zip(part, kept.layers, strict=True) if one is layer).experts
            tokens = np.empty(len(chosen), dtype=fields)
            tokens["id"], tokens["experts"] = numbers[chosen], experts[chosen]
            begin = 0
            for first, end in _runs(starts, kept.lengths, part[0]):
                size = int(kept.lengths[first:end].sum())
                self._scratch.write(int(starts[first]), tokens[begin : begin + size])
                begin += size
        self._order = Scratch(int(self._lengths.sum()), np.dtype(np.int32))
        for place, first, end, tokens in self._parts():
            groups = np.repeat(self._groups[first:end], self._lengths[first:end])
            self._order.write(place, np.lexsort((tokens["id"], groups)).astype(np.int32))

    def __enter__(self) -> "RepeatedTokens":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.__exit__()
        self._order.__exit__()

    def overlaps(self) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id and of any tokens, without each block and overall, [block + 1, 2]."""
        shares = []
        for num_ids in (self._num_ids, 1):
            whole = self._count(np.zeros(self._num_blocks, dtype=np.int64), 1, num_ids)
            sums = np.zeros((self._num_blocks + 1, 2))
            add_all(sums[-1], *(each[0] for each in whole))
            step = self._batch_size(num_ids)
            for first in range(0, self._num_blocks, step):
                size = min(step, self._num_blocks - first)
                place = np.full(self._num_blocks, -1, dtype=np.int64)
                place[first : first + size] = np.arange(size)
                blocks = self._count(place, size, num_ids)
                for number in range(size):
                    leave_out(
                        sums[first + number], tuple(each[0] for each in whole), tuple(each[number] for each in blocks)
                    )
            sums[:-1] += sums[-1]
            shares.append(divide(sums[:, 0], self._slots * sums[:, 1]))
        return np.stack(shares, axis=-1)

    def permute(self, *, permutations: int, seed: int) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id with ids shifted within documents, float64 [permutation]."""
        _, _, pairs, sizes = self._count(np.zeros(self._num_blocks, dtype=np.int64), 1, self._num_ids)
        sums = np.zeros((permutations, 2))
        how: Any = {"permutations": permutations, "seed": seed, "size": self._batch_size(self._num_ids)}
        for batch, shifts in shift_batches(self._corpus_lengths, **how):
            counts = np.zeros((len(shifts), self._num_ids, self._num_experts), dtype=np.int32)
            inside = np.zeros((len(shifts), self._num_ids), dtype=np.int64)
            for place, first, end, tokens in self._parts() if len(shifts) else ():
                lengths, documents = (
                    self._lengths[first:end],
                    np.repeat(np.arange(end - first), self._lengths[first:end]),
                )
                own = np.ascontiguousarray(shifts[:, self._documents[first:end]])
                starts = np.append(0, np.cumsum(lengths))
                experts = np.ascontiguousarray(tokens["experts"])
                by_id = self._sort(tokens["id"], documents, first, place)
                count_shifted(counts, inside, by_id, experts, documents, starts, own)
            for number in range(len(shifts)):
                add_all(sums[batch.start + number], counts[number], inside[number], pairs[0], sizes[0])
        return divide(sums[:, 0], self._slots * sums[:, 1])

    def _batch_size(self, num_ids: int) -> int:
        return max(2, _BATCH_BYTES // (4 * num_ids * self._num_experts))

    def _parts(self, blocks: Sequence[int] | None = None) -> Iterator[tuple[int, int, int, NDArray[Any]]]:
        """Yield the place of the first token, the range of documents, whole groups of a block, and the tokens.

        Args:
            blocks: which blocks; all by default.
        """
        ends = np.append(0, np.cumsum(self._lengths))
        for block in range(self._num_blocks) if blocks is None else blocks:
            start, stop = np.searchsorted(self._blocks, [block, block + 1])
            groups = self._groups[start:stop]
            edges = start + np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups))
            for first, last in cut_documents(np.diff(ends[edges])):
                begin, end = int(edges[first]), int(edges[last])
                yield int(ends[begin]), begin, end, self._scratch.read(int(ends[begin]), int(ends[end]))

    def _sort(
        self, ids: NDArray[np.int32], documents: NDArray[np.int64], first: int, place: int | None
    ) -> tuple[NDArray[np.int32], NDArray[np.integer], NDArray[np.int64]]:
        """Return ids and order of a part's tokens sorted by group and id, and the first of each run of both.

        Args:
            ids: int32 [tokens]; all are 0 where ``place`` is None.
            documents: int64 [tokens], the document of each, from 0.
            first: number of the first document.
            place: where the tokens are stored, and their order.
        """
        order = np.arange(len(ids), dtype=np.int32) if place is None else self._order.read(place, place + len(ids))
        own, groups = ids[order], self._groups[first + documents[order]]
        new = np.append(True, (own[1:] != own[:-1]) | (groups[1:] != groups[:-1]))
        return own, order, np.append(np.flatnonzero(new), len(ids))

    def _count(
        self, place: NDArray[np.int64], size: int, num_ids: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Count the tokens of some blocks: by id and expert; overlaps and pairs within groups, and tokens, by id.

        Args:
            place: row of each block; -1 for those that are not counted.
            size: number of rows.
            num_ids: number of ids; 1 to count all tokens as one.
        """
        counts = np.zeros((size, num_ids, self._num_experts), dtype=np.int32)
        inside, pairs, sizes = (np.zeros((size, num_ids), dtype=np.int64) for _ in range(3))
        for place_of, first, end, tokens in self._parts(np.flatnonzero(place >= 0).tolist()):
            documents = np.repeat(np.arange(end - first), self._lengths[first:end])
            words = tokens["id"] if num_ids > 1 else np.zeros(len(tokens), dtype=np.int32)
            stored = place_of if num_ids > 1 else None
            rows, experts = place[self._blocks[first + documents]], np.ascontiguousarray(tokens["experts"])
            count_runs((counts, inside, pairs, sizes), self._sort(words, documents, first, stored), experts, rows)
        return counts, inside, pairs, sizes


def _runs(starts: NDArray[np.int64], lengths: NDArray[np.int64], part: LayerInput) -> Iterator[tuple[int, int]]:
    """Yield ranges of documents of a part whose tokens are stored next to each other."""
    first, last = part.first_document, part.first_document + len(part.counts)
    documents = first + np.flatnonzero(lengths[first:last])
    if len(documents):
        apart = np.flatnonzero(starts[documents[1:]] != starts[documents[:-1]] + lengths[documents[:-1]])
        begins, ends = np.append(0, apart + 1), np.append(apart, len(documents) - 1)
        for begin, end in zip(begins, ends, strict=True):
            yield int(documents[begin]), int(documents[end]) + 1
