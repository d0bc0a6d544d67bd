"""Rank correlation of rows."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FEWEST_PAIRS = 3


def rank_correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Spearman's rank correlation of each row of two arrays; ties have their mean rank.

    Args:
        first: float64 [rows, pairs].
        second: float64 [rows, pairs]; pairs in which either value is NaN are left out.

    Returns:
        float64 [rows]; NaN with fewer than three pairs, and where all values of a side are equal.

    Source:
        Spearman (1904), The proof and measurement of association between two things.
    """
    found = np.full(len(first), np.nan)
    known = ~(np.isnan(first) | np.isnan(second))
    left = np.arange(len(first))
    while len(left):  # rows with the same pairs are correlated together
        pairs = known[left[0]]
        same = (known[left] == pairs).all(axis=1)
        rows, left = left[same], left[~same]
        if np.count_nonzero(pairs) >= FEWEST_PAIRS:
            found[rows] = _correlate(first[rows][:, pairs], second[rows][:, pairs])
    return found


def step_up(correlation: float) -> float:
    """Compute the reliability of a measurement from the correlation of its halves, ``2 r / (1 + |r|)``.

    Source:
        Spearman (1910), Correlation calculated from faulty data; Brown (1910), Some experimental results in the
        correlation of mental abilities.
    """
    return 2 * correlation / (1 + abs(correlation))


def _correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlate rows without NaN."""
    one, other = (rankdata(each, axis=1) - (each.shape[1] + 1) / 2 for each in (first, second))
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide((one * other).sum(axis=1), size, out=np.full(len(one), np.nan), where=size > 0)
