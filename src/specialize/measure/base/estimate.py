"""Estimates that carry their uncertainty, and the delete-one-block jackknife that makes them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from specialize.errors import MeasurementError
from specialize.measure.base.nulls import p_values, summarize_null

NOT_A_NUMBER = float("nan")
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A number with what is needed to judge it.

    Attributes:
        value: the estimate. Corrected for bias, it can fall slightly below zero for a quantity that cannot:
            cutting it off there would bring the bias back.
        unit: bits, ratio, count, or share (of what).
        ci_low: lower end of the interval; NaN where there is none.
        ci_high: upper end of the interval; NaN where there is none.
        ci_kind: how the interval was made and its level; None where there is none.
        null_mean: mean of the same estimator under the null; NaN where there is no null.
        p_value: share of null draws, the observed value among them, that are at least as extreme.
        n_tokens: tokens counted.
        n_documents: documents counted.
        null_low: 2.5th percentile of the null.
        null_high: 97.5th percentile of the null.
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


@dataclass(frozen=True)
class EstimateArray:
    """Estimates of one quantity for every expert, or every label and expert.

    The attributes are those of `Estimate`; those that differ between cells are arrays of one shape.
    Indexing with a full index gives the `Estimate` of that cell, `part` an array of some of them.
    """

    value: NDArray[np.float64]
    unit: str
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    ci_kind: str | None
    null_mean: NDArray[np.float64]
    p_value: NDArray[np.float64]
    n_tokens: int | None
    n_documents: int | None
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]

    def __getitem__(self, index: int | tuple[int, ...]) -> Estimate:
        cell: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in cell.items():
            if isinstance(value, np.ndarray):
                cell[name] = float(value[index])
        return Estimate(**cell)

    def part(self, index: Any) -> "EstimateArray":
        """Return the estimates of an index such as ``np.s_[:-1]``."""
        return self._map(lambda cells: cells[index])

    def transposed(self) -> "EstimateArray":
        """Return the estimates with their axes reversed."""
        return self._map(np.transpose)

    def _map(self, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> "EstimateArray":
        cells: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return EstimateArray(
            **{name: change(value) if isinstance(value, np.ndarray) else value for name, value in cells.items()}
        )


def jackknife(
    blocks: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    unit: str = "bits",
    n_documents: int | None = None,
) -> Estimate:
    """Estimate a scalar statistic of a table, corrected for bias, with an interval over blocks of documents.

    With ``s`` the statistic of all g blocks and ``s_i`` that of all but block i, the value is
    ``g s - (g - 1) mean(s_i)`` and the interval ``value +- t(g - 1) sqrt((g - 1)/g sum (s_i - mean)^2)``.

    Args:
        blocks: float64 [block, label, expert], blocks of equal numbers of documents (`count_blocks`).
        statistic: maps counts [..., label, expert] to [...], for instance `mutual_information`.
        confidence: probability of the interval.
        unit: unit of the statistic.
        n_documents: documents counted, passed through.

    Returns:
        The estimate, without null. With fewer than two blocks the value is the uncorrected statistic and
        the interval NaN. The value is NaN where deleting one block leaves the statistic undefined.

    Raises:
        MeasurementError: for blocks that are not three-dimensional or hold no block.

    Source:
        Quenouille (1956), Notes on bias in estimation; Tukey (1958); Efron & Stein (1981).
    """
    tables = np.asarray(blocks, dtype=np.float64)
    if tables.ndim != 3 or not len(tables):
        raise MeasurementError(f"blocks must be [block, label, expert] with a block at least, got shape {tables.shape}")
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
    log_scale: bool = False,
    method: str = "jackknife",
    note: str = "",
) -> EstimateArray:
    """Make estimates of a value and its standard error; every estimate of this package comes from here.

    Args:
        value: float64 [*shape].
        error: standard errors float64 [*shape], NaN where there are none.
        unit: unit of the value.
        num_blocks: document blocks behind the error; fewer than two leave no interval.
        n_tokens: tokens counted.
        n_documents: documents counted.
        null: the same estimator under the null, float64 [permutation, *shape].
        tested: what the p-value compares, the value [*shape] and its null [permutation, *shape], where it is not the
            value itself (such as a distance from 1).
        chance: expected value where it is known without permutations, float64 [*shape]; in place of the null's mean.
        p_value: the p-value [*shape] where it does not come from a null.
        confidence: probability of the interval.
        log_scale: interval that is symmetric on the log scale, for ratios, see `ratio_interval`.
        method: how the error was found, for `describe_interval`.
        note: what else to say of the interval.

    Returns:
        Estimates [*shape]; index with ``[()]`` for a single `Estimate`.
    """
    values, errors = np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64)
    ends = ratio_interval if log_scale else interval
    low, high = ends(values, errors, num_blocks=num_blocks, confidence=confidence)
    under_null = np.empty((0, *values.shape)) if null is None else np.asarray(null)
    null_mean, null_low, null_high = summarize_null(under_null)
    if p_value is None:
        p_value = p_values(*(tested or (values, under_null)))
    return EstimateArray(
        value=values,
        unit=unit,
        ci_low=np.asarray(low),
        ci_high=np.asarray(high),
        ci_kind=describe_interval(
            num_blocks, confidence=confidence, method=method, note=", log scale" if log_scale else note
        ),
        null_mean=np.asarray(null_mean if chance is None else chance),
        p_value=np.asarray(p_value, dtype=np.float64),
        n_tokens=n_tokens,
        n_documents=n_documents,
        null_low=np.asarray(null_low),
        null_high=np.asarray(null_high),
    )


def jackknife_values(
    blocks: NDArray[np.float64], statistic: Statistic
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct a statistic for bias and find its standard error, for every leading axis at once.

    Args:
        blocks: float64 [..., block, label, expert].
        statistic: maps counts [..., label, expert] to [..., *shape].

    Returns:
        Value and standard error, both float64 [..., *shape]; with one block the plain statistic and NaN.
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
    """Correct a statistic that is known of all blocks and with each one left out.

    Args:
        whole: float64 [..., *shape].
        without_one: float64 [..., block, *shape], of two blocks at least.
        axis: the axis of the blocks.

    Returns:
        Value and standard error, both float64 [..., *shape].
    """
    num_blocks = without_one.shape[axis]
    mean = without_one.mean(axis=axis)
    spread = ((without_one - np.expand_dims(mean, axis)) ** 2).sum(axis=axis)
    error = np.sqrt(spread * (num_blocks - 1) / num_blocks)
    return num_blocks * whole - (num_blocks - 1) * mean, error


def interval(
    value: NDArray[np.float64], error: NDArray[np.float64], *, num_blocks: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the Student t interval with ``num_blocks - 1`` degrees of freedom."""
    if not 0 < confidence < 1:
        raise MeasurementError(f"confidence: expected a probability between 0 and 1, got {confidence}; 0.95 is usual")
    reach = student_t.ppf((1 + confidence) / 2, num_blocks - 1) if num_blocks > 1 else np.nan
    return value - reach * error, value + reach * error


def ratio_interval(
    value: NDArray[np.float64], error: NDArray[np.float64], *, num_blocks: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of an interval that is symmetric on the log scale, for a ratio such as the lift.

    The error of the logarithm is ``error / value`` (delta method): unlike the jackknife of the logarithm
    itself it stays finite when all of a cell's mass lies in one block. NaN where the ratio is zero.
    """
    positive = value > 0
    safe = np.where(positive, value, np.nan)
    low, high = interval(np.log(safe), error / safe, num_blocks=num_blocks, confidence=confidence)
    return np.exp(low), np.exp(high)


def describe_interval(
    num_blocks: int, *, confidence: float = 0.95, method: str = "jackknife", note: str = ""
) -> str | None:
    """Name the interval and its confidence; None where too few blocks leave none."""
    if num_blocks < 2:
        return None
    return f"{100 * confidence:g} % {method} over {num_blocks} document blocks (Student t{note})"
