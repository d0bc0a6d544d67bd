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
    return np.array([_correlate(one, other) for one, other in zip(first, second, strict=True)])


def _correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    known = ~(np.isnan(first) | np.isnan(second))
    if np.count_nonzero(known) < FEWEST_PAIRS:
        return float("nan")
    one, other = (ranks - ranks.mean() for ranks in (rankdata(first[known]), rankdata(second[known])))
    size = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / size) if size > 0 else float("nan")
