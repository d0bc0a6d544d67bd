"""Ambiguous word types, those that occur with several labels, and their tokens in parts of consecutive types."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.column import compute_column
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import cut_documents, cut_rows
from specialize.measure.base.scratch import Scratch

MIN_COUNT = 10
MIN_LABELS = 2
PART_TOKENS = 2**18  # of whole types, which are in memory together
_LARGEST_TABLE = 2**24  # of a byte for each type


class AmbiguousTypes:
    """Types with enough labelled occurrences and enough different labels.

    Args:
        types: integers [tokens], the word type of each token, in memory or as a column; negative where unknown.
        labels: integers [tokens], the label of each token, likewise; negative where there is none.
        num_labels: number of labels; codes are below it.
        min_count: minimum number of labelled occurrences of a type.
        min_labels: minimum number of different labels of a type.

    Attributes:
        types: int64 [types], the ambiguous ones, ascending.
        sizes: int64 [types], number of labelled occurrences of each.
    """

    def __init__(
        self, types: Any, labels: Any, *, num_labels: int, min_count: int = MIN_COUNT, min_labels: int = MIN_LABELS
    ) -> None:
        pairs = Distinct()
        for first in range(0, len(labels), PART_TOKENS):
            rows = slice(first, first + PART_TOKENS)
            words, codes = np.asarray(types[rows]), np.asarray(labels[rows])
            labelled = (words >= 0) & (codes >= 0)
            pairs.add(words[labelled].astype(np.int64) * num_labels + codes[labelled])
        distinct, times = pairs.counts()
        words, first_pair, different = np.unique(distinct // num_labels, return_index=True, return_counts=True)
        sizes = np.add.reduceat(times, first_pair) if len(words) else times
        enough = (sizes >= min_count) & (different >= min_labels)
        self.types, self.sizes = words[enough], sizes[enough]
        self._known = np.zeros(0, dtype=bool)
        if len(self.types) and self.types[-1] < _LARGEST_TABLE:
            self._known = np.zeros(int(self.types[-1]) + 2, dtype=bool)  # the last entry stands for larger types
            self._known[self.types] = True

    def hold(self, types: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return whether types are ambiguous, bool [tokens]."""
        if len(self._known):
            return (types >= 0) & self._known[np.minimum(types, len(self._known) - 1)]
        return np.isin(types, self.types)

    def restrict(self, labels: Any, types: Any) -> Any:
        """Return the labels of tokens of ambiguous types, and -1 for the others, as a column int32 [tokens]."""

        def compute(rows: slice) -> NDArray[np.int32]:
            return np.where(self.hold(np.asarray(types[rows])), labels[rows], -1).astype(np.int32)

        return compute_column(len(labels), compute, dtype=np.int32)


class TypeParts:
    """Tokens of ambiguous types, divided into parts of consecutive types; many are in a temporary file.

    A type with more than `PART_TOKENS` tokens is a part of its own, whose tokens are stored by block.

    Args:
        ambiguous: the types.
        labels: integers [tokens], the label of each token of such a type, in memory or as a column; negative elsewhere.
        types: integers [tokens], likewise.
        counts: int64 [documents], number of tokens of each document.
        blocks: int32 [documents], the block of each document with such tokens.
        slots: number of slots of a token.
        masses: number of masses of a token, as `spread_mass` returns them.
    """

    def __init__(
        self,
        ambiguous: AmbiguousTypes,
        labels: Any,
        types: Any,
        *,
        counts: NDArray[np.int64],
        blocks: NDArray[np.int32],
        slots: int,
        masses: int,
    ) -> None:
        cuts, ends = list(cut_documents(ambiguous.sizes, PART_TOKENS)), np.append(0, np.cumsum(ambiguous.sizes))
        self._last = np.array([ambiguous.types[last - 1] for _, last in cuts], dtype=np.int64)
        filled = np.array([ends[last] - ends[first] for first, last in cuts], dtype=np.int64)
        self._large = filled > PART_TOKENS
        bins = np.where(self._large, int(blocks.max(initial=-1)) + 1, 1)  # one of a part, or one of each block
        self._first_bin = np.append(0, np.cumsum(bins))
        if self._large.any():
            filled = np.zeros(int(self._first_bin[-1]), dtype=np.int64)
            for first, last, rows in cut_rows(counts):
                own = np.flatnonzero(np.asarray(labels[rows]) >= 0)
                places = np.repeat(blocks[first:last], counts[first:last])[own]
                filled += np.bincount(self._find_bins(np.asarray(types[rows])[own], places), minlength=len(filled))
        self._starts = np.append(0, np.cumsum(filled))
        self._next = self._starts[:-1].copy()  # place of the next token
        self._fields = np.dtype(
            [
                ("code", np.int32),
                ("document", np.int32),
                ("type", np.int64),
                ("masses", np.float64, (masses,)),
                ("experts", np.int16, (slots,)),
            ]
        )
        self._scratch = Scratch(int(ends[-1]), self._fields)

    def __enter__(self) -> "TypeParts":
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.__exit__()

    def _find_bins(self, types: NDArray[np.integer], blocks: NDArray[np.int32]) -> NDArray[np.int64]:
        part = np.searchsorted(self._last, types)
        bins: NDArray[np.int64] = self._first_bin[part] + np.where(self._large[part], blocks, 0)
        return bins

    def add(self, *, block: NDArray[np.int32], **columns: Any) -> None:
        """Add tokens in the order of the corpus.

        Args:
            block: int32 [tokens], the block of each.
            columns: code, document, type, masses and experts, see `spread_mass`.
        """
        tokens = np.empty(len(block), dtype=self._fields)
        for name, values in columns.items():
            tokens[name] = values
        bins = self._find_bins(tokens["type"], block)
        tokens = tokens[np.argsort(bins, kind="stable")] if len(self._next) > 1 else tokens
        edges = np.append(0, np.cumsum(np.bincount(bins, minlength=len(self._next))))
        for number, (first, end) in enumerate(pairwise(edges.tolist())):
            if end > first:
                self._scratch.write(int(self._next[number]), tokens[first:end])
                self._next[number] += end - first

    def __len__(self) -> int:
        return len(self._last)

    def is_large(self, number: int) -> bool:
        """Return whether a part is a single type, whose tokens need not be in memory together."""
        return bool(self._large[number])

    def read(self, number: int, block: int = 0) -> NDArray[Any]:
        """Return the tokens of a part, or what a large one has of a block, as records in the order of the corpus."""
        chosen = int(self._first_bin[number]) + block
        return self._scratch.read(int(self._starts[chosen]), int(self._starts[chosen + 1]))
