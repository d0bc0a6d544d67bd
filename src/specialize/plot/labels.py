"""Which labels a figure shows, and how their names fit beside it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from specialize.names import shorten
from specialize.plot.frames import break_line
from specialize.plot.style import MUTED
from specialize.text import clean_text, count_columns, cut_columns

COLUMN = 0.062  # inches of a column of a label of 6.5 or 7 points
SMALLEST_ROW = 0.105  # inches of a row whose label is legible: 6 points and what keeps it from the next
ROW = 0.14  # the same for 7 points
LINES = 2  # that a name is broken into at most where it is too wide; what is longer is cut
TWO_LINES = 0.215  # inches of a row whose label has two lines of 6 or 6.5 points


def fit_rows(ax: Axes | None, most: int, *, row: float = ROW) -> int:
    """Return `most`, or the number of rows of so many inches that `ax`, the caller's, has room for if that is less."""
    if ax is None:
        return most
    height = ax.bbox.height / ax.figure.dpi
    return max(1, min(most, int(height / row)))


def choose_strongest(strength: np.ndarray, most: int) -> np.ndarray:
    """Return the places of the `most` largest values of `strength` [labels], largest first; missing ones come last."""
    filled = np.where(np.isnan(strength), -np.inf, strength)
    return np.argsort(-filled, kind="stable")[: max(most, 1)]


def choose_ends(strength: np.ndarray, most: int) -> np.ndarray:
    """Return the places of values, largest first: all of them, or two thirds of `most` the largest, the rest the least.

    Args:
        strength: [labels]; missing values come last and are not among the least as long as there are others.
        most: number of places at most.
    """
    order = choose_strongest(strength, len(strength))
    if len(order) <= most:
        return order
    least = most // 3
    known = int(np.isfinite(strength).sum())
    end = known if known >= most else len(order)
    return np.concatenate([order[: most - least], order[end - least : end]])


def mark_gap(ax: Axes, shown: int, total: int, most: int) -> None:
    """Draw a line between the largest and the smallest of `choose_ends` where some rows between them are left out."""
    if shown < total:
        line = shown - most // 3 - 0.5
        ax.axhline(line, color=MUTED, linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=1, gid="left-out")


def tell_shown(axis: str, shown: int, total: int, how: str) -> str:
    """Return the label of an axis of labels; where some are left out, with how many and by which rule."""
    return axis if shown >= total else f"{axis}\n{shown} of {total}: {how}"


def wrap_apart(names: Sequence[object], *, width: int, lines: int = LINES) -> list[str]:
    """Return the cleaned `names` in lines of at most `width` columns, at most so many of them; see `shorten_apart`."""
    cleaned = [clean_text(name) for name in names]
    broken = [break_line(name, width) for name in cleaned]
    if all(len(own) <= lines for own in broken):
        return ["\n".join(own) for own in broken]
    # a line that is broken between words has fewer columns than it may have
    for room in range(lines * width, 0, -1):
        broken = [break_line(name, width) for name in shorten_apart(cleaned, width=room)]
        if all(len(own) <= lines for own in broken):
            break
    return ["\n".join(own) for own in broken]


def fit_lines(names: Sequence[object], *, width: int, most: int) -> tuple[int, int]:
    """Return the columns and lines of names: one line where all have at most `width` columns.

    Else `LINES` lines of at least `width` columns, and of more, up to `most`, where some would be cut otherwise.
    """
    cleaned = [clean_text(name) for name in names]
    if all(count_columns(name) <= width for name in cleaned):
        return width, 1
    whole = (room for room in range(width, most) if all(len(break_line(name, room)) <= LINES for name in cleaned))
    return next(whole, max(width, most)), LINES


def shorten_apart(names: Sequence[object], *, width: int) -> list[str]:
    """Return the cleaned `names`, each at most `width` columns wide; those that were different stay different.

    A longer name is cut at its end, or in its middle where only the end tells it from another one; where that does not
    either, names are numbered.
    """
    cleaned = [clean_text(name) for name in names]
    short = [shorten(name, width=width) for name in cleaned]
    clashing = _find_clashing(cleaned, short)
    short = [_cut_middle(own, width) if each in clashing else each for own, each in zip(cleaned, short, strict=True)]
    clashing = _find_clashing(cleaned, short)
    numbers = {own: number for number, own in enumerate(dict.fromkeys(cleaned), 1)}
    return [
        f"{shorten(own, width=max(width - 1 - len(str(numbers[own])), 1))} {numbers[own]}" if each in clashing else each
        for own, each in zip(cleaned, short, strict=True)
    ]


def _find_clashing(names: Sequence[str], short: Sequence[str]) -> set[str]:
    """Return the short names that stand for several names."""
    counted = Counter(each for _, each in set(zip(names, short, strict=True)))
    return {each for each, count in counted.items() if count > 1}


def _cut_middle(name: str, width: int) -> str:
    head = (width - 1) // 2
    tail = cut_columns(name[::-1], width - 1 - head)[::-1]
    return f"{cut_columns(name, head).rstrip()}…{tail.lstrip()}"


def fit_columns(ax: Axes) -> int:
    """Return the columns that names beside the rows of `ax` may have: two fifths of the figure, from 12 to 36.

    Where the figure has other axes beside it, 24 at most.
    """
    alone = ax.bbox.width > 0.6 * ax.figure.bbox.width
    return int(np.clip(0.4 * ax.figure.bbox.width / ax.figure.dpi / COLUMN, 12, 36 if alone else 24))


def measure_room(ax: Axes, names: Sequence[str], *, own_figure: bool) -> float:
    """Return the inches beside the `names` of rows for title and axis label: what they leave of a figure of one axes.

    In the caller's axes, names stand outside of them.
    """
    width = ax.bbox.width / ax.figure.dpi
    if not own_figure:
        return width
    return max(ax.figure.bbox.width / ax.figure.dpi - 0.45 - COLUMN * widest(names), 1.0)


def widest(names: Sequence[str]) -> int:
    """Return the number of columns of the widest line of `names`, 1 at least."""
    return max((count_columns(line) for name in names for line in name.split("\n")), default=1) or 1
