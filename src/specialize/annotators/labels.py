"""Label sets that grow while labels are read."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL


class LabelEncoder:
    """Numbers for labels, in the order of their first appearance or of a closed set.

    Args:
        closed: the labels there are, in order; any other carries no label. An open set when not given.
    """

    def __init__(self, closed: Sequence[str] | None = None) -> None:
        self._codes = {label: code for code, label in enumerate(closed or ())}
        self._closed = closed is not None

    def encode(self, labels: Iterable[str | None]) -> NDArray[np.int32]:
        """Return the codes of labels, int32 [labels]; ``NO_LABEL`` for None and for the empty string."""
        return np.fromiter((self._encode(label) for label in labels), dtype=np.int32)

    def finish(self, codes: NDArray[np.int32]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Return the labels, an open set in alphabetical order, and codes that index into them.

        Args:
            codes: what `encode` gave, int32 of any shape.
        """
        names = tuple(self._codes)
        if self._closed:
            return names, codes
        order = sorted(range(len(names)), key=names.__getitem__)
        ranks = np.empty(len(names) + 1, dtype=np.int32)
        ranks[order] = np.arange(len(names))
        ranks[-1] = NO_LABEL  # which NO_LABEL, -1, picks
        return tuple(names[place] for place in order), ranks[codes]

    def _encode(self, label: str | None) -> int:
        if not label:
            return NO_LABEL
        if self._closed:
            return self._codes.get(label, NO_LABEL)
        return self._codes.setdefault(label, len(self._codes))
