"""Statistics over seeds, which are the replication on which claims about ways of training are based."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds with its Student t interval and their standard deviation, which are NaN for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int
    deviation: float = float("nan")


def with_most_seeds(values: pd.Series, keys: list[str]) -> pd.Series:
    """Return the values of the cells that have the most seeds, so that the means of all seeds are over the same cells.

    Args:
        values: one per cell and seed; the index has the levels `keys`, which name a cell, and ``seed``.
        keys: levels of the index.
    """
    seeds = values.groupby(keys).transform("size")
    return values[seeds == seeds.max()]


def mean_by_seed(values: pd.Series, keys: list[str]) -> pd.Series:
    """Return the mean of each seed over the cells that have the most seeds; arguments of `with_most_seeds`."""
    return with_most_seeds(values, keys).groupby("seed").mean()


def over_seeds(values: ArrayLike, *, confidence: float = 0.95) -> OverSeeds:
    """Return the mean of values, one per seed, with its t interval of this confidence."""
    given = np.asarray(values, dtype=np.float64)
    mean, count = float(given.mean()), len(given)
    if count < 2:
        return OverSeeds(mean, np.nan, np.nan, count)
    deviation = float(given.std(ddof=1))
    reach = _reach(deviation, count, confidence)
    return OverSeeds(mean, mean - reach, mean + reach, count, deviation)


def _reach(deviation: float, count: int, confidence: float) -> float:
    """Return half the width of a t interval."""
    return float(stats.t.ppf(0.5 + confidence / 2, count - 1) * deviation / np.sqrt(count))


def seeds_to_decide(interval: OverSeeds, distance: float, *, confidence: float) -> float:
    """Return how many seeds of this mean and deviation have an interval that reaches less far than `distance`.

    Args:
        interval: over the seeds that there are.
        distance: from the mean to the bound that the interval must not include.
        confidence: of the interval.

    Returns:
        The number; infinite if 10,000 are not enough, NaN for a single seed.
    """
    if np.isnan(interval.deviation):
        return float("nan")
    enough = (count for count in range(2, 10_001) if _reach(interval.deviation, count, confidence) < distance)
    return float(next(enough, np.inf))


def equivalence_p_value(differences: ArrayLike, margin: float) -> float:
    """Return the p-value of two one-sided t tests that the absolute mean difference is smaller than the margin.

    It is at most 0.05 if and only if the 90 % interval lies within plus and minus the margin (Schuirmann 1987), and NaN
    for a single seed.
    """
    given = np.asarray(differences, dtype=np.float64)
    if len(given) < 2:
        return float("nan")
    above = stats.ttest_1samp(given, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(given, margin, alternative="less").pvalue
    return float(max(above, below))


def judge_equivalence(interval: OverSeeds, margin: float) -> str:
    """Return the verdict on "equivalent": whether a 90 % interval lies within plus and minus the margin."""
    if np.isnan(interval.low):
        return "undecided"
    if -margin < interval.low and interval.high < margin:
        return "supported"
    return "not supported" if interval.low > margin or interval.high < -margin else "undecided"


def judge_positive(interval: OverSeeds) -> str:
    """Return the verdict on "greater than zero"."""
    if np.isnan(interval.low):
        return "undecided"
    return "supported" if interval.low > 0 else "not supported" if interval.high < 0 else "undecided"


def judge_interaction(interval: OverSeeds, margin: float) -> str:
    """Return the verdict on "not zero"; it is refuted if the interval lies within plus and minus the margin."""
    if interval.low > 0 or interval.high < 0:
        return "supported"
    return "not supported" if -margin < interval.low and interval.high < margin else "undecided"
