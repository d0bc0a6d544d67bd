"""Random numbers that depend on the seed only, not on the number of threads.

NumPy code uses NumPy's default generator. Compiled kernels have one generator per thread; they are seeded anew for
each permutation, or hash a counter.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Seed = int | tuple[int, int]  # or one of the streams of a seed: (seed, number)
STEP = np.uint64(0x9E3779B97F4A7C15)  # increment of the counter that `mix_bits` hashes


def generator(seed: Seed) -> np.random.Generator:
    """Return NumPy's default generator for a seed."""
    return np.random.default_rng(seed)


def kernel_seeds(seed: int, count: int) -> NDArray[np.uint32]:
    """Return seeds uint32 [count], one for each permutation of a compiled kernel."""
    seeds = np.random.SeedSequence(seed).generate_state(max(count, 1))[:count]
    return seeds.astype(np.uint32)


@njit(cache=True, nogil=True, inline="always")
def mix_bits(state):  # type: ignore[no-untyped-def]
    """Hash a uint64 counter into 64 random bits (SplitMix64; Steele, Lea & Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
