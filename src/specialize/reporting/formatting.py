"""Shares, intervals and p-values as a report writes them."""

import math

from specialize.text import MINUS, NBSP, NO_VALUE, format_number

ALPHA = 0.05  # p-value up to which a value counts as above chance


def percent(share: float, *, unit: bool = True) -> str:
    """Return a share as a percentage with two or three significant digits; an en dash for NaN."""
    if not math.isfinite(share):
        return NO_VALUE
    number = 100 * share
    size = abs(number)
    digits = 1 if size >= 9.95 else 2 if size >= 0.0995 or size < 5e-7 else 3
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = "0"
    return text.replace("-", MINUS) + (f"{NBSP}%" if unit else "")


def percent_range(low: float, high: float) -> str:
    """Return an interval of shares as ``1.2 to 3.4``, in %, the unit left to the caller; empty where it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{percent(low, unit=False)} to {percent(high, unit=False)}"


def format_share(share: float) -> str:
    """Return a share in %, with two decimals and without the sign; a dash for NaN."""
    return format_number(100 * share, digits=2)


def format_interval(low: float, high: float) -> str:
    """Return an interval of shares in %, as ``[1.20, 3.40]``; a dash where it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_VALUE
    return f"[{format_share(low)}, {format_share(high)}]"


def round_number(value: float) -> float | None:
    """Return a number as data of the page hold it, with three significant digits; None if it is not finite."""
    return float(f"{value:.3g}") if math.isfinite(value) else None
