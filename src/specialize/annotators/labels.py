"""Label sets that are built while labels are read."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL


class LabelEncoder:
    """Integer codes of labels, in the order of a closed label set or of first occurrence.

    Args:
        closed: the labels of a closed set, in order; any other string is encoded as no label. By default the set is
            open: every new string becomes a label.
    """

    def __init__(self, closed: Sequence[str] | None = None) -> None:
        self._codes = {label: code for code, label in enumerate(closed or ())}
        self._closed = closed is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels so far, by their codes."""
        return tuple(self._codes)

    def encode(self, labels: Iterable[str | None]) -> NDArray[np.int32]:
        """Return the codes of labels, int32 [labels]; ``NO_LABEL`` for None and for the empty string."""
        return np.fromiter((self._encode(label) for label in labels), dtype=np.int32)

    def finish(self, codes: NDArray[np.int32]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return the labels (those of an open set in alphabetical order) and the codes that index into them.

        Args:
            codes: what `encode` returned, int32 of any shape.
        """
        names = tuple(self._codes)
        if self._closed:
            return names, codes
        order = sorted(range(len(names)), key=names.__getitem__)
        ranks = np.empty(len(names) + 1, dtype=np.int32)
        ranks[order] = np.arange(len(names))
        ranks[-1] = NO_LABEL  # selected by NO_LABEL, which is -1
        return tuple(names[place] for place in order), ranks[codes]

    def _encode(self, label: str | None) -> int:
        if not label:
            return NO_LABEL
        if self._closed:
            return self._codes.get(label, NO_LABEL)
        return self._codes.setdefault(label, len(self._codes))
