"""Differences between two routers over the same documents, paired by block: interval, t test, equivalence test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from specialize.errors import MeasurementError
from specialize.measure.base.estimate import Estimate, Statistic, make_estimates
from specialize.measure.base.nulls import TIE


@dataclass(frozen=True)
class Difference:
    """A paired difference and, with a margin, its equivalence test.

    Attributes:
        difference: first minus second, with a 95 % interval and the p-value of the two-sided t test against 0.
        equivalence: the same value with a 90 % interval and the p-value of two one-sided t tests, which is small
            where the difference is within the margin. None without a margin.
    """

    difference: Estimate
    equivalence: Estimate | None


def pseudo_values(blocks: ArrayLike, statistic: Statistic) -> NDArray[np.float64]:
    """Compute jackknife pseudo-values, ``g s - (g - 1) s_i`` with s_i the statistic without block i of g.

    Their mean is the bias-corrected estimate, their standard deviation divided by the square root of g its standard
    error, as in `specialize.measure.jackknife`.

    Args:
        blocks: float64 [block, label, expert].
        statistic: maps counts [..., label, expert] to values [..., *shape].

    Returns:
        float64 [block, *shape], in the unit of the statistic. With one block the uncorrected statistic.

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
    note: str = "",
) -> Difference:
    """Estimate and test the difference of two statistics over the same blocks of documents.

    Pseudo-values are subtracted block by block, which deletes each block from both sides at once, so that variation
    between documents that affects both sides cancels. The interval and both tests are Student's t on these
    differences.

    Args:
        first: pseudo-values float64 [block] of the first side, see `pseudo_values`.
        second: pseudo-values float64 [block] of the second side, over the same blocks.
        unit: unit of the statistic.
        margin: equivalence margin, the largest negligible absolute difference, in the unit of the statistic.
        n_tokens: number of tokens counted; copied to the estimates.
        n_documents: number of documents counted; copied to the estimates.
        note: appended to the description of the intervals.

    Returns:
        The difference, first minus second. Intervals and p-values are NaN with fewer than two blocks; the value is
        NaN where a side is undefined.

    Raises:
        MeasurementError: the sides have different numbers of blocks, or the margin is not positive.

    Source:
        Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise MeasurementError(
            f"expected pseudo-values [block] of both sides, got shapes {one.shape} and {other.shape}: "
            "count both in the same blocks"
        )
    if margin is not None and not 0 < margin < np.inf:
        raise MeasurementError(f"margin must be above 0, got {margin}: give the largest negligible difference")
    apart, count = one - other, len(one)
    value = np.asarray(apart.mean())
    error = np.asarray(apart.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan)

    def estimate(confidence: float, p_value: float, test: str = "") -> Estimate:
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
            note=note + test,
        )[()]

    def above(distance: float) -> float:
        """Compute P(T >= distance / error); 0 or 1 where all blocks agree up to rounding, so that the error is 0."""
        if error <= TIE:
            return 0.0 if distance > TIE else 1.0
        return float(student_t.sf(distance / error, count - 1)) if count > 1 else float("nan")

    difference = estimate(0.95, float(np.minimum(1.0, 2 * above(abs(float(value))))))  # NaN stays NaN
    if margin is None:
        return Difference(difference, None)
    both = max(above(float(value) + margin), above(margin - float(value)))
    return Difference(difference, estimate(0.90, both, test=f", two one-sided tests, margin {margin:g}"))
