"""Chance levels at the observed load: what tokens would share if each chose its experts independently.

The load fixes how often each expert is chosen, not which experts are chosen together. Of all distributions over
sets of experts that have the observed load, the one of maximum entropy is used: conditional Poisson sampling,
P(set of m experts) proportional to the product of its experts' odds. At equal loads all sets of m experts are
equally likely. The number of experts of a token, m, follows its observed distribution, which accounts for slots
without an expert.

Source:
    Chen, Dempster & Liu (1994), Weighted finite population sampling to maximize entropy.
"""

from math import comb

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

_MOST_ROUNDS = 2000
_CLOSE = 1e-13


def repeat_chance(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the probability that two independent draws from the load are the same expert, ``sum_e P(e)^2``.

    Args:
        counts: mass of each expert, float64 [..., expert].

    Returns:
        float64 [...] in [0, 1]; NaN where there is no mass.
    """
    mass = np.asarray(counts, dtype=np.float64)
    total = mass.sum(axis=-1)
    return np.where(total > 0, (mass**2).sum(axis=-1) / np.where(total > 0, total, 1.0) ** 2, np.nan)


def sharing_chance(chosen: ArrayLike, sizes: ArrayLike) -> NDArray[np.float64]:
    """Compute the probability that two tokens that choose their sets of experts independently share an expert.

    With odds w and elementary symmetric polynomials e, sets of m and n experts are disjoint with probability
    ``C(m + n, m) e_(m+n)(w) / (e_m(w) e_n(w))``; at equal loads and m = n = k this is ``C(E - k, k) / C(E, k)``.

    Args:
        chosen: number of tokens that chose each expert, [..., expert].
        sizes: number of tokens with 0, 1, ..., k experts, [..., k + 1].

    Returns:
        float64 [...] in [0, 1]; NaN where no token has an expert.
    """
    targets, shares = _normalize(np.asarray(chosen, dtype=np.float64), np.asarray(sizes, dtype=np.float64))
    most = shares.shape[-1]
    ways = np.array([[comb(m + n, m) for n in range(most)] for m in range(most)], dtype=np.float64)
    result = np.full(targets.shape[:-1], np.nan)
    for place in np.ndindex(result.shape):
        if shares[place].sum() > 0:
            result[place] = 1.0 - _disjoint(_fit(targets[place], shares[place]), shares[place], ways)
    return result


def pair_chance(chosen: ArrayLike, sizes: ArrayLike) -> NDArray[np.float64]:
    """Compute the probability that a token that chose expert i also chose expert j.

    Args:
        chosen: number of tokens that chose each expert, [expert].
        sizes: number of tokens with 0, 1, ..., k experts, [k + 1].

    Returns:
        float64 [i, j]; NaN on the diagonal and in the row of an expert that no token chose.
    """
    targets, shares = _normalize(np.asarray(chosen, dtype=np.float64), np.asarray(sizes, dtype=np.float64))
    return _pairs(_fit(targets, shares), targets, shares)


def _normalize(
    chosen: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide both counts by the number of tokens with an expert: share choosing each expert, share of each size."""
    present = sizes.copy()
    present[..., 0] = 0.0
    total = np.maximum(present.sum(axis=-1), 1.0)[..., None]
    return chosen / total, present / total


@njit(cache=True, nogil=True)
def _sums(probabilities, most, skipped):  # type: ignore[no-untyped-def]
    """Distribution of a sum of independent Bernoulli variables up to `most`, without the variable `skipped`."""
    out = np.zeros(most + 1)
    out[0] = 1.0
    for expert in range(len(probabilities)):
        if expert != skipped:
            chance = probabilities[expert]
            for size in range(most, 0, -1):
                out[size] = out[size] * (1.0 - chance) + out[size - 1] * chance
            out[0] *= 1.0 - chance
    return out


@njit(cache=True, nogil=True)
def _suffixes(probabilities, most, skipped):  # type: ignore[no-untyped-def]
    """Row e: distribution of the sum over the experts e, e + 1, ..., without `skipped`."""
    count = len(probabilities)
    out = np.zeros((count + 1, most + 1))
    out[count, 0] = 1.0
    for expert in range(count - 1, -1, -1):
        chance = 0.0 if expert == skipped else probabilities[expert]
        out[expert, 0] = out[expert + 1, 0] * (1.0 - chance)
        for size in range(1, most + 1):
            out[expert, size] = out[expert + 1, size] * (1.0 - chance) + out[expert + 1, size - 1] * chance
    return out


@njit(cache=True, nogil=True)
def _rest(probabilities, skipped, weights, missing):  # type: ignore[no-untyped-def]
    """For each expert e: sum over m of weights[m] P(the experts other than e and `skipped` sum to m - missing)."""
    count, most = len(probabilities), len(weights) - 1
    after = _suffixes(probabilities, most, skipped)
    before = np.zeros(most + 1)
    before[0] = 1.0
    out = np.zeros(count)
    for expert in range(count):
        for size in range(missing, most + 1):
            if weights[size] > 0:
                total = 0.0
                for part in range(size - missing + 1):
                    total += before[part] * after[expert + 1, size - missing - part]
                out[expert] += weights[size] * total
        if expert != skipped:
            chance = probabilities[expert]
            for size in range(most, 0, -1):
                before[size] = before[size] * (1.0 - chance) + before[size - 1] * chance
            before[0] *= 1.0 - chance
    return out


@njit(cache=True, nogil=True)
def _weights(probabilities, shares):  # type: ignore[no-untyped-def]
    """Divide the observed share of each set size by its probability under independent Bernoulli variables."""
    sums = _sums(probabilities, len(shares) - 1, -1)
    out = np.zeros(len(shares))
    for size in range(1, len(shares)):
        if shares[size] > 0 and sums[size] > 0:
            out[size] = shares[size] / sums[size]
    return out


@njit(cache=True, nogil=True)
def _fit(targets, shares):  # type: ignore[no-untyped-def]
    """Find Bernoulli probabilities that, conditioned on the set sizes, choose each expert as often as observed.

    Each iteration multiplies an expert's odds by the square root of observed over fitted odds. Without the square
    root the iteration oscillates, for instance with two experts of which one is chosen.
    """
    probabilities = np.minimum(targets, 1.0)
    for _ in range(_MOST_ROUNDS):
        chosen = probabilities * _rest(probabilities, -1, _weights(probabilities, shares), 1)
        worst = 0.0
        for expert in range(len(targets)):
            target, now, chance = targets[expert], chosen[expert], probabilities[expert]
            if 0.0 < chance < 1.0 and 0.0 < now < 1.0:
                odds = chance / (1.0 - chance) * np.sqrt(target / (1.0 - target) * ((1.0 - now) / now))
                probabilities[expert] = odds / (1.0 + odds)
                worst = max(worst, abs(now - target))
        if worst < _CLOSE:
            break
    return probabilities


@njit(cache=True, nogil=True)
def _disjoint(probabilities, shares, ways):  # type: ignore[no-untyped-def]
    most = len(shares) - 1
    sums = _sums(probabilities, 2 * most, -1)
    nobody = sums[0]
    total = 0.0
    for m in range(1, most + 1):
        for n in range(1, most + 1):
            if shares[m] > 0 and shares[n] > 0:
                total += shares[m] * shares[n] * ways[m, n] * nobody * sums[m + n] / (sums[m] * sums[n])
    return total


@njit(cache=True, nogil=True)
def _pairs(probabilities, targets, shares):  # type: ignore[no-untyped-def]
    count = len(probabilities)
    weights = _weights(probabilities, shares)
    out = np.full((count, count), np.nan)
    for expert in range(count):
        if targets[expert] > 0:
            out[expert] = _rest(probabilities, expert, weights, 2) * probabilities * probabilities[expert]
            out[expert] /= targets[expert]
            out[expert, expert] = np.nan
    return out
