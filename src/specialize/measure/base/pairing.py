"""Differences between two models over the same documents: paired by block, with interval, test and equivalence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from specialize.errors import MeasurementError
from specialize.measure.base.estimate import Estimate, Statistic, make_estimates
from specialize.measure.base.nulls import TIE


@dataclass(frozen=True)
class Difference:
    """A difference, and where it was asked for the test that it is small.

    Attributes:
        difference: the first minus the second, with a 95 % interval; the p-value is that of the two-sided t test
            against 0.
        equivalence: the same value with a 90 % interval; the p-value is that of two one-sided t tests, small where
            the difference lies within the margin. None without a margin.
    """

    difference: Estimate
    equivalence: Estimate | None


def pseudo_values(blocks: ArrayLike, statistic: Statistic) -> NDArray[np.float64]:
    """Compute the jackknife's pseudo-values, ``g s - (g - 1) s_i`` with s_i the statistic without block i.

    Their mean is the estimate corrected for bias, their standard deviation over the square root of g its standard
    error: the numbers of `specialize.measure.jackknife`.

    Args:
        blocks: float64 [block, label, expert].
        statistic: maps counts [..., label, expert] to [..., *shape].

    Returns:
        float64 [block, *shape]. With one block the plain statistic.

    Source:
        Tukey (1958), Bias and confidence in not-quite large samples.
    """
    tables = np.asarray(blocks, dtype=np.float64)
    total, count = tables.sum(axis=0), len(tables)
    whole = np.asarray(statistic(total))
    if count < 2:
        return whole[None]
    return count * whole - (count - 1) * np.asarray(statistic(total - tables))


def estimate_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    unit: str,
    margin: float | None = None,
    n_tokens: int | None = None,
    n_documents: int | None = None,
) -> Difference:
    """Estimate and test the difference of two statistics that were counted over the same blocks of documents.

    Pseudo-values are subtracted block by block, which deletes block i from both sides at once: what the two share
    through the documents cancels. The interval and both tests are Student's t on these differences.

    Args:
        first: pseudo-values float64 [block] of one side.
        second: those of the other, over the same blocks.
        unit: unit of the statistic.
        margin: test for equivalence within plus and minus this, in the unit of the statistic.
        n_tokens: passed through.
        n_documents: passed through.

    Returns:
        The difference; without interval and p-values below two blocks, NaN where a side is undefined.

    Raises:
        MeasurementError: the sides have different blocks, or the margin is not positive.

    Source:
        Schuirmann (1987), for two one-sided tests.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise MeasurementError(
            f"expected pseudo-values [blocks] of both sides, got shapes {one.shape} and {other.shape}: count both in "
            "the same blocks"
        )
    if margin is not None and not 0 < margin < np.inf:
        raise MeasurementError(f"margin must be above 0, got {margin}: give the largest difference that is negligible")
    apart, count = one - other, len(one)
    value = np.asarray(apart.mean())
    error = np.asarray(apart.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan)

    def estimate(confidence: float, p_value: float, note: str = "") -> Estimate:
        return make_estimates(
            value,
            error,
            unit=unit,
            num_blocks=count,
            n_tokens=n_tokens,
            n_documents=n_documents,
            p_value=p_value,
            confidence=confidence,
            method="paired jackknife",
            note=note,
        )[()]

    def above(distance: float) -> float:
        """P(T >= distance / error); where all blocks agree but for rounding there is no error, and no doubt."""
        if error <= TIE:
            return 0.0 if distance > TIE else 1.0
        return float(student_t.sf(distance / error, count - 1)) if count > 1 else float("nan")

    difference = estimate(0.95, float(np.minimum(1.0, 2 * above(abs(float(value))))))  # NaN stays NaN
    if margin is None:
        return Difference(difference, None)
    both = max(above(float(value) + margin), above(margin - float(value)))
    return Difference(difference, estimate(0.90, both, note=f", two one-sided tests, margin {margin:g}"))
