"""Which tokens have an expert, and how many tokens and documents that are."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def has_expert(experts):  # type: ignore[no-untyped-def]
    """Return whether each token of int16 [tokens, k] has an expert, bool [tokens]; NumPy is slow over short rows."""
    found = np.zeros(experts.shape[0], dtype=np.bool_)
    for row in range(experts.shape[0]):
        for slot in range(experts.shape[1]):
            if experts[row, slot] >= 0:
                found[row] = True
                break
    return found


@njit(cache=True, nogil=True)
def has_mass(experts, masses):  # type: ignore[no-untyped-def]
    """Return whether each token has an expert with a mass above 0, for masses as of `spread_mass`, bool [tokens]."""
    step = 1 if masses.shape[1] > 1 else 0
    found = np.zeros(experts.shape[0], dtype=np.bool_)
    for row in range(experts.shape[0]):
        for slot in range(experts.shape[1]):
            found[row] |= experts[row, slot] >= 0 and masses[row, slot * step] > 0
    return found


@njit(cache=True, nogil=True)
def count_sizes(sizes, experts):  # type: ignore[no-untyped-def]
    """Add the tokens of int16 [tokens, k] to ``sizes`` [k + 1], by number of experts."""
    for row in range(experts.shape[0]):
        size = 0
        for slot in range(experts.shape[1]):
            size += experts[row, slot] >= 0
        sizes[size] += 1.0


class RoutedCount:
    """Counts tokens, and documents that have any of them, part by part.

    Args:
        num_documents: number of documents of the corpus.

    Attributes:
        tokens: number of tokens.
        documents: bool [documents], those with a token.
    """

    def __init__(self, num_documents: int) -> None:
        self.tokens = 0
        self.documents = np.zeros(num_documents, dtype=bool)

    def add(self, counted: NDArray[np.bool_], documents: NDArray[np.integer]) -> None:
        """Count tokens.

        Args:
            counted: bool [tokens], which of them are counted.
            documents: integers [tokens], the document of each token.
        """
        self.tokens += int(np.count_nonzero(counted))
        self.documents[documents[counted]] = True

    @property
    def num_documents(self) -> int:
        """Number of documents with a token that is counted."""
        return int(np.count_nonzero(self.documents))
