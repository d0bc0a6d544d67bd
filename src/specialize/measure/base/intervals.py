"""Student t intervals of jackknife estimates, and their description."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student_t

from specialize.errors import MeasurementError

Scale: TypeAlias = Literal["linear", "log", "logit"]  # on which an interval is symmetric


def interval(
    value: NDArray[np.float64], error: NDArray[np.float64], *, num_blocks: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both ends of the Student t interval with ``num_blocks - 1`` degrees of freedom."""
    if not 0 < confidence < 1:
        raise MeasurementError(f"confidence: expected a probability between 0 and 1, got {confidence}: 0.95 is usual")
    reach = student_t.ppf((1 + confidence) / 2, num_blocks - 1) if num_blocks > 1 else np.nan
    return value - reach * error, value + reach * error


def ratio_interval(
    value: NDArray[np.float64], error: NDArray[np.float64], *, num_blocks: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both ends of an interval that is symmetric on the log scale, for a ratio such as the lift.

    The standard error of the logarithm is ``error / value`` (delta method). Unlike a jackknife of the logarithm it
    remains finite when all mass of a cell lies in one block. Both ends are NaN where the ratio is zero.
    """
    positive = value > 0
    safe = np.where(positive, value, np.nan)
    low, high = interval(np.log(safe), error / safe, num_blocks=num_blocks, confidence=confidence)
    return np.exp(low), np.exp(high)


def share_interval(
    value: NDArray[np.float64], error: NDArray[np.float64], *, num_blocks: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both ends of an interval that is symmetric on the logit scale, for a share of few documents.

    The standard error of the logit is ``error / (value (1 - value))`` (delta method). Both ends lie between 0 and 1,
    and are NaN where the share is 0 or 1.
    """
    inside = (value > 0) & (value < 1)
    safe = np.where(inside, value, np.nan)
    low, high = interval(logit(safe), error / (safe * (1 - safe)), num_blocks=num_blocks, confidence=confidence)
    return expit(low), expit(high)


def describe_interval(
    num_blocks: int, *, confidence: float = 0.95, method: str = "jackknife", note: str = ""
) -> str | None:
    """Describe the interval's confidence and method; None where there are too few blocks for an interval."""
    if num_blocks < 2:
        return None
    return f"{100 * confidence:g} % {method} over {num_blocks} document blocks (Student t{note})"
