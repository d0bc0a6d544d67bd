"""Distinct integers and how often they occur, counted part by part."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Distinct:
    """Counts how often distinct integers occur, part by part; memory grows with the distinct ones alone."""

    def __init__(self) -> None:
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, values: NDArray[np.int64]) -> None:
        """Count the occurrences of integers."""
        self._found.append(np.unique(values, return_counts=True))
        while len(self._found) > 1 and len(self._found[-2][0]) <= 2 * len(self._found[-1][0]):
            self._found[-2:] = [_merge(self._found[-2:])]

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct integers in ascending order, and how often each occurs."""
        self._found = [_merge(self._found)]
        return self._found[0]


def _merge(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    values = np.concatenate([np.zeros(0, dtype=np.int64), *(each for each, _ in found)])
    distinct, places = np.unique(values, return_inverse=True)
    counts = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(counts, places, np.concatenate([np.zeros(0, dtype=np.int64), *(times for _, times in found)]))
    return distinct, counts
