"""Estimates with interval, null and p-value, and the delete-one-block jackknife."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.intervals import Scale, describe_interval, interval, ratio_interval, share_interval
from specialize.measure.base.nulls import p_values, summarize_null
from specialize.measure.base.shortage import mark_shortage

NOT_A_NUMBER = float("nan")
_ON_THE_SCALE = ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high")
_INTERVALS = {"linear": interval, "log": ratio_interval, "logit": share_interval}
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval, null distribution, p-value and sample size.

    Attributes:
        value: the estimate. A bias-corrected estimate of a non-negative quantity can be slightly negative; truncating
            it at zero would reintroduce bias.
        unit: bits, ratio, count, or share, with the normaliser of a share.
        ci_low: lower end of the confidence interval; NaN where there is none.
        ci_high: upper end of the confidence interval; NaN where there is none.
        ci_kind: method and confidence of the interval, and whether there is too little data for it; where there is no
            interval, the reason if one is given, else None.
        null_mean: mean of the same estimator over permutations under the null, or the expected value under chance;
            NaN where there is neither.
        p_value: (1 + number of permutations at least as extreme) / (1 + number of permutations), or that of a test.
        n_tokens: number of tokens counted.
        n_documents: number of documents counted.
        null_low: 2.5th percentile of the null distribution.
        null_high: 97.5th percentile of the null distribution.
        n_permutations: number of permutations under the null that the p-value is based on; None where it is based on
            none.
    """

    value: float
    unit: str
    ci_low: float = NOT_A_NUMBER
    ci_high: float = NOT_A_NUMBER
    ci_kind: str | None = None
    null_mean: float = NOT_A_NUMBER
    p_value: float = NOT_A_NUMBER
    n_tokens: int | None = None
    n_documents: int | None = None
    null_low: float = NOT_A_NUMBER
    null_high: float = NOT_A_NUMBER
    n_permutations: int | None = None


@dataclass(frozen=True)
class EstimateArray:
    """Estimates of one quantity for each expert, or for each label and expert.

    The attributes are those of `Estimate`; those that vary between cells are arrays of one shape, float64 or, for
    ``ci_kind``, objects.
    A full index returns the `Estimate` of one cell, `part` the estimates of several.
    """

    value: NDArray[np.float64]
    unit: str
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    ci_kind: NDArray[np.object_]
    null_mean: NDArray[np.float64]
    p_value: NDArray[np.float64]
    n_tokens: int | None
    n_documents: int | None
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]
    n_permutations: int | None

    def __getitem__(self, index: int | tuple[int, ...]) -> Estimate:
        cell: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in cell.items():
            if isinstance(value, np.ndarray):
                cell[name] = value[index] if name == "ci_kind" else float(value[index])
        return Estimate(**cell)

    def part(self, index: Any) -> "EstimateArray":
        """Return the estimates that an index such as ``np.s_[:-1]`` selects."""
        return self._map(lambda cells: cells[index])

    def transposed(self) -> "EstimateArray":
        """Return the estimates with reversed axes."""
        return self._map(np.transpose)

    def at_most(self, limit: float) -> "EstimateArray":
        """Return the estimates with values, intervals and nulls cut at the largest possible value.

        Bias correction can lead beyond it: with equally frequent labels the entropy is at its maximum, every table
        without a block lies below it, and the corrected value lies above it.
        """
        return replace(self, **{name: np.minimum(getattr(self, name), limit) for name in _ON_THE_SCALE})

    def noted(self, note: str, where: NDArray[np.bool_]) -> "EstimateArray":
        """Return the estimates with a note at the end of the description of some of their intervals."""
        kinds = self.ci_kind.copy()
        for place in np.ndindex(kinds.shape):
            if np.asarray(where)[place] and kinds[place] is not None:
                kinds[place] = f"{kinds[place][:-1]}, {note})"
        return replace(self, ci_kind=kinds)

    def _map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> "EstimateArray":
        cells: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in cells.items():
            if isinstance(value, np.ndarray):
                cells[name] = change(value)
        return EstimateArray(**cells)


def jackknife(
    blocks: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    unit: str = "bits",
    n_documents: int | None = None,
) -> Estimate:
    """Estimate a scalar statistic of a table, bias-corrected, with a delete-one-block jackknife interval.

    With ``s`` the statistic of all g blocks and ``s_i`` the statistic without block i, the value is
    ``g s - (g - 1) mean(s_i)`` and the interval ``value +- t(g - 1) sqrt((g - 1)/g sum (s_i - mean)^2)``, where
    ``t(g - 1)`` is the quantile of Student's t distribution with g - 1 degrees of freedom.

    Args:
        blocks: float64 [block, label, expert], blocks of equal numbers of documents (see `count_blocks`).
        statistic: maps counts [..., label, expert] to values [...], for instance `mutual_information`.
        confidence: coverage probability of the interval.
        unit: unit of the statistic.
        n_documents: number of documents counted; copied to the estimate.

    Returns:
        The estimate, without a null. With fewer than two blocks the value is the uncorrected statistic and
        the interval NaN. The value is NaN where the statistic is undefined without one of the blocks.

    Raises:
        MeasurementError: ``blocks`` is not three-dimensional or is empty, or ``confidence`` is not between 0 and 1.

    Source:
        Quenouille (1956), Notes on bias in estimation; Tukey (1958); Efron & Stein (1981).
    """
    tables = np.asarray(blocks, dtype=np.float64)
    if tables.ndim != 3 or not len(tables):
        raise MeasurementError(f"expected blocks [block, label, expert], at least one, got shape {tables.shape}")
    value, error = jackknife_values(tables, statistic)
    return make_estimates(
        value,
        error,
        unit=unit,
        num_blocks=len(tables),
        n_tokens=round(float(tables.sum())),
        n_documents=n_documents,
        confidence=confidence,
    )[()]


def make_estimates(
    value: ArrayLike,
    error: ArrayLike,
    *,
    unit: str,
    num_blocks: int,
    n_tokens: int | None,
    n_documents: int | None,
    null: NDArray[np.float64] | None = None,
    tested: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    chance: NDArray[np.float64] | None = None,
    p_value: ArrayLike | None = None,
    confidence: float = 0.95,
    scale: Scale = "linear",
    ends: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    method: str = "jackknife",
    note: str = "",
    least: float | None = None,
    shortage: str = "",
) -> EstimateArray:
    """Make estimates from values and standard errors. All estimates of this package are made here.

    Args:
        value: float64 [*shape].
        error: standard errors float64 [*shape], NaN where there are none.
        unit: unit of the value.
        num_blocks: number of document blocks that the standard error is based on; below two there is no interval.
        n_tokens: number of tokens counted.
        n_documents: number of documents counted.
        null: the same estimator under the null, float64 [permutation, *shape].
        tested: test statistic [*shape] and its null distribution [permutation, *shape], where the test statistic is
            not the value itself but, for instance, its distance from 1.
        chance: expected value where it is known in closed form, float64 [*shape]; replaces the mean of the null.
        p_value: the p-value [*shape] of a test that uses no permutations.
        confidence: coverage probability of the interval.
        scale: on which the interval is symmetric: linear; log, for ratios (`ratio_interval`); or logit, for shares of
            few documents (`share_interval`).
        ends: both ends of the interval, float64 [*shape], where they do not follow from value and standard error.
        method: method of the standard error, as `describe_interval` names it.
        note: appended to the description of the interval.
        least: smallest possible true value; the upper end of the interval is at least that.
        shortage: why there is too little data, see `find_shortage`; ``ci_kind`` says so.

    Returns:
        Estimates [*shape]; index with ``[()]`` for a single `Estimate`.

    Raises:
        MeasurementError: ``confidence`` is not between 0 and 1.
    """
    values, errors = np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64)
    if ends is None:
        ends = _INTERVALS[scale](values, errors, num_blocks=num_blocks, confidence=confidence)
    low, high = ends
    scaled = "" if scale == "linear" else f", {scale} scale"
    kind = describe_interval(num_blocks, confidence=confidence, method=method, note=scaled + note)
    kind = mark_shortage(kind, shortage) if shortage else kind
    under_null = np.empty((0, *values.shape)) if null is None else np.asarray(null)
    null_mean, null_low, null_high = summarize_null(under_null)
    n_permutations = None
    if p_value is None:
        n_permutations = len(under_null) or None
        p_value = p_values(*(tested or (values, under_null)))
    return EstimateArray(
        value=values,
        unit=unit,
        ci_low=np.asarray(low),
        ci_high=np.asarray(high if least is None else np.maximum(high, least)),
        ci_kind=np.where(~np.isnan(low) | bool(shortage), np.asarray(kind, dtype=object), np.asarray(None)),
        null_mean=np.asarray(null_mean if chance is None else chance),
        p_value=np.asarray(p_value, dtype=np.float64),
        n_tokens=n_tokens,
        n_documents=n_documents,
        null_low=np.asarray(null_low),
        null_high=np.asarray(null_high),
        n_permutations=n_permutations,
    )


def jackknife_values(
    blocks: NDArray[np.float64], statistic: Statistic
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the bias-corrected value and the standard error of a statistic, vectorised over leading axes.

    Args:
        blocks: float64 [..., block, label, expert].
        statistic: maps counts [..., label, expert] to values [..., *shape].

    Returns:
        Value and standard error, both float64 [..., *shape]; with one block the uncorrected statistic and NaN.
    """
    axis = blocks.ndim - 3
    num_blocks = blocks.shape[axis]
    total = blocks.sum(axis=axis)
    whole = np.asarray(statistic(total))
    if num_blocks < 2:
        return whole, np.full_like(whole, np.nan)
    return correct_bias(whole, np.asarray(statistic(np.expand_dims(total, axis) - blocks)), axis=axis)


def correct_bias(
    whole: NDArray[np.float64], without_one: NDArray[np.float64], *, axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the jackknife value and standard error from a statistic of all blocks and without each block.

    Args:
        whole: the statistic of all blocks, float64 [..., *shape].
        without_one: the statistic without each block, float64 [..., block, *shape], at least two blocks.
        axis: axis of the blocks.

    Returns:
        Value and standard error, both float64 [..., *shape].
    """
    num_blocks = without_one.shape[axis]
    mean = without_one.mean(axis=axis)
    spread = ((without_one - np.expand_dims(mean, axis)) ** 2).sum(axis=axis)
    error = np.sqrt(spread * (num_blocks - 1) / num_blocks)
    return num_blocks * whole - (num_blocks - 1) * mean, error
