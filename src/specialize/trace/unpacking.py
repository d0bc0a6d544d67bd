"""The compiled part of reading packed ids."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def unpack_words(words, bits, ids):  # type: ignore[no-untyped-def]
    """Write the ids in the lowest bits of integers, uint64 [tokens], to ``ids`` [tokens, k], of ``bits`` bits each."""
    step = np.uint64(bits)
    mask = (np.uint64(1) << step) - np.uint64(1)
    for token in range(ids.shape[0]):
        word = words[token]
        for slot in range(ids.shape[1]):
            ids[token, slot] = word & mask
            word >>= step
