"""One scheme of random numbers: everything drawn here follows from a seed, whatever the number of threads.

NumPy draws from its default generator. Compiled kernels have generators of their own, one for each thread: they get a
seed for each draw, or mix a counter.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

STEP = np.uint64(0x9E3779B97F4A7C15)  # of the counter that `mix_bits` scrambles


def generator(seed: int) -> np.random.Generator:
    """Return NumPy's default generator for a seed."""
    return np.random.default_rng(seed)


def kernel_seeds(seed: int, count: int) -> NDArray[np.uint32]:
    """Return seeds uint32 [count] for the draws of a compiled kernel."""
    return np.random.SeedSequence(seed).generate_state(count) if count else np.empty(0, dtype=np.uint32)


@njit(cache=True, nogil=True, inline="always")
def mix_bits(state):  # type: ignore[no-untyped-def]
    """Scramble a counter, uint64, into 64 random bits (SplitMix64; Steele, Lea & Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
