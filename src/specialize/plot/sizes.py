"""Widths of figures as they are printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from specialize.choices import FigureWidth, check_choice

COLUMN_WIDTH = 3.35
"""Width of a figure in one column of a two-column paper, in inches."""
PAGE_WIDTH = 6.9
"""Width of a figure over both columns, in inches."""
WIDTHS: dict[FigureWidth, float] = {
    "single": COLUMN_WIDTH,
    "double": PAGE_WIDTH,
    "neurips": 5.5,
    "icml": 3.25,
    "acl": 3.03,
}
"""Printed widths by name, in inches: one column and a page in general, the text of NeurIPS, a column of ICML or ACL."""

_printed: ContextVar[float | None] = ContextVar("printed", default=None)


@contextmanager
def print_at(width: FigureWidth | None) -> Iterator[None]:
    """Make every new figure within a ``with`` block as wide as `width` says; None changes nothing.

    Raises:
        SpecializeError: no such width.
    """
    if width is None:
        yield
        return
    check_width(width)
    token = _printed.set(WIDTHS[width])
    try:
        yield
    finally:
        _printed.reset(token)


def check_width(width: str | None) -> None:
    """Raise `SpecializeError` unless `width` is None or one of `WIDTHS`."""
    if width is not None:
        check_choice("width", width, FigureWidth)


def choose_width(own: float) -> float:
    """Return the printed width in inches that was asked for, else `own`, that of the figure itself."""
    return _printed.get() or own


def choose_limits(least: float = COLUMN_WIDTH, most: float = PAGE_WIDTH) -> tuple[float, float]:
    """Return the least and the largest width of a figure that fits its content; both are the printed one if any."""
    printed = _printed.get()
    return (least, most) if printed is None else (printed, printed)
