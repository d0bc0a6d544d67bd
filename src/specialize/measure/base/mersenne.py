"""The Mersenne Twister, with a state that is kept between calls of compiled kernels.

Numba's generator is one per thread: a permutation that is drawn in several parts needs one of its own. A state seeded
with s gives the numbers of ``np.random.seed(s)`` and ``np.random.randint`` in a compiled kernel.

Source:
    Matsumoto & Nishimura (1998), Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number
    generator.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from specialize.measure.base.random import kernel_seeds

_WORDS, _MIDDLE = 624, 397
_LOW = np.uint64(0xFFFFFFFF)


def seed_states(seed: int, count: int) -> NDArray[np.uint64]:
    """Return a state for each permutation, uint64 [count, 625]: words of 32 bits and the number of those used."""
    states = np.zeros((count, _WORDS + 1), dtype=np.uint64)
    _fill(states, kernel_seeds(seed, count).astype(np.uint64))
    return states


@njit(cache=True, nogil=True)
def _fill(states, seeds):  # type: ignore[no-untyped-def]
    for row in range(len(seeds)):
        word = seeds[row]
        for place in range(_WORDS):
            states[row, place] = word
            word = (np.uint64(1812433253) * (word ^ (word >> np.uint64(30))) + np.uint64(place + 1)) & _LOW
        states[row, _WORDS] = np.uint64(_WORDS)


@njit(cache=True, nogil=True)
def _renew(state):  # type: ignore[no-untyped-def]
    for place in range(_WORDS - _MIDDLE):
        state[place] = state[place + _MIDDLE] ^ _twist(state[place], state[place + 1])
    for place in range(_WORDS - _MIDDLE, _WORDS - 1):
        state[place] = state[place + _MIDDLE - _WORDS] ^ _twist(state[place], state[place + 1])
    state[_WORDS - 1] = state[_MIDDLE - 1] ^ _twist(state[_WORDS - 1], state[0])
    state[_WORDS] = np.uint64(0)


@njit(cache=True, nogil=True, inline="always")
def _twist(word, following):  # type: ignore[no-untyped-def]
    mixed = (word & np.uint64(0x80000000)) | (following & np.uint64(0x7FFFFFFF))
    return (mixed >> np.uint64(1)) ^ (np.uint64(0x9908B0DF) * (mixed & np.uint64(1)))


@njit(cache=True, nogil=True, inline="always")
def _next_word(state):  # type: ignore[no-untyped-def]
    if state[_WORDS] >= np.uint64(_WORDS):
        _renew(state)
    word = state[np.int64(state[_WORDS])]
    state[_WORDS] += np.uint64(1)
    word ^= word >> np.uint64(11)
    word ^= (word << np.uint64(7)) & np.uint64(0x9D2C5680)
    word ^= (word << np.uint64(15)) & np.uint64(0xEFC60000)
    return (word ^ (word >> np.uint64(18))) & _LOW


@njit(cache=True, nogil=True)
def draw_below(state, limit):  # type: ignore[no-untyped-def]
    """Draw an integer from 0 to ``limit`` - 1, below 2^32, uniformly; ``state`` is a row of `seed_states`."""
    if limit <= 1:
        return np.int64(0)
    mask = np.uint64(limit - 1)
    for shift in (1, 2, 4, 8, 16):
        mask |= mask >> np.uint64(shift)
    while True:
        drawn = np.int64(_next_word(state) & mask)
        if drawn < limit:
            return drawn
