"""Ambiguous word types, those that occur with several labels, and their tokens in parts of consecutive types."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.column import compute_column
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import cut_documents
from specialize.measure.base.scratch import Scratch

MIN_COUNT = 10
MIN_LABELS = 2
PART_TOKENS = 2**20  # of whole types, which are in memory together
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

    Args:
        ambiguous: the types.
        slots: number of slots of a token.
        masses: number of masses of a token, as `spread_mass` returns them.
    """

    def __init__(self, ambiguous: AmbiguousTypes, *, slots: int, masses: int) -> None:
        cuts = list(cut_documents(ambiguous.sizes, PART_TOKENS))
        ends = np.append(0, np.cumsum(ambiguous.sizes))
        self._last = np.array([ambiguous.types[last - 1] for _, last in cuts], dtype=np.int64)
        self._ranges = [(int(ends[first]), int(ends[last])) for first, last in cuts]
        self._next = np.array([first for first, _ in self._ranges], dtype=np.int64)  # place of the next token
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

    def add(self, **columns: NDArray[Any]) -> None:
        """Add tokens in the order of the corpus: code, document, type, masses and experts, see `spread_mass`."""
        tokens = np.empty(len(columns["code"]), dtype=self._fields)
        for name, values in columns.items():
            tokens[name] = values
        part = np.searchsorted(self._last, tokens["type"])
        tokens = tokens[np.argsort(part, kind="stable")] if len(self._last) > 1 else tokens
        edges = np.append(0, np.cumsum(np.bincount(part, minlength=len(self._last))))
        for number, (first, end) in enumerate(pairwise(edges.tolist())):
            self._scratch.write(int(self._next[number]), tokens[first:end])
            self._next[number] += end - first

    def __len__(self) -> int:
        return len(self._ranges)

    def read(self, number: int) -> NDArray[Any]:
        """Return the tokens of a part, as records in the order of the corpus."""
        return self._scratch.read(*self._ranges[number])
