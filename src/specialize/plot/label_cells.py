"""Tables of labels and experts as cells: the size of the figure, its ticks and its colour bar."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.ticker import FixedLocator

from specialize.plot.labels import COLUMN, TWO_LINES, fit_lines, widest, wrap_apart
from specialize.plot.load import power_of_two
from specialize.plot.sizes import choose_limits
from specialize.plot.style import INK, MUTED
from specialize.text import format_number

_BESIDE = 4.5  # inches from which two panels have room side by side


@dataclass(frozen=True)
class Layout:
    """Inches of a figure, of one of its cells, the columns and lines of its labels, and how its panels stand."""

    width: float
    height: float
    cell_width: float
    cell_height: float
    label_width: int
    label_lines: int = 1
    stacked: bool = False


def tabulate_labels(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return `column` as a table of labels and experts, both in the order of the frame."""
    table = rows.drop_duplicates(["label", "expert"]).pivot(index="label", columns="expert", values=column)
    table = table.reindex(index=pd.unique(rows["label"]), columns=pd.unique(rows["expert"]))
    return table.set_axis(table.columns.astype(int), axis="columns")


def order_labels(scaled: pd.DataFrame) -> np.ndarray:
    """Return the places of the rows of a table [labels, experts] by the expert with their largest value."""
    filled = np.where(np.isnan(scaled.to_numpy()), -np.inf, scaled.to_numpy())
    return np.lexsort((-filled.max(axis=1), filled.argmax(axis=1)))


def find_insignificant(rows: pd.DataFrame, values: pd.DataFrame, alpha: float) -> np.ndarray:
    """Return which cells of `values` have a value and a q-value above `alpha`, bool [labels, experts]."""
    q = tabulate_labels(rows, "q_value")
    q = q.reindex(index=values.index, columns=values.columns)
    return ((q > alpha) & values.notna()).to_numpy()


def choose_labels(table: pd.DataFrame, faint: np.ndarray, most: int) -> pd.DataFrame:
    """Return the rows of the `most` labels whose largest value that is not faint is largest, in the order of `table`.

    Args:
        table: [labels, experts], larger is stronger.
        faint: cells that are not significant, bool [labels, experts]; they count only among themselves.
        most: number of labels.
    """
    if len(table) <= most:
        return table
    cells = table.to_numpy(dtype=float)
    filled = np.where(np.isnan(cells), -np.inf, cells)
    clear = np.where(faint, -np.inf, filled).max(axis=1, initial=-np.inf)
    ranks = np.lexsort((-filled.max(axis=1, initial=-np.inf), -clear))
    return table.iloc[np.sort(ranks[: max(most, 1)])]


def lay_out(labels: list[str], num_experts: int, *, panels: int = 1, ax: Axes | None = None) -> Layout:
    """Choose the size of a figure with a row a label and a column an expert, in one or more panels.

    Panels stand side by side, or one above the other in a printed width in which they have no room. In `ax`, the
    caller's, cells have the size that it leaves them.
    """
    if ax is not None:
        width, height = (size / ax.figure.dpi for size in (ax.bbox.width, ax.bbox.height))
        label_width = int(np.clip(widest(labels), 1, 24))
        return Layout(width, height, 0.85 * width / num_experts, 0.9 * height / len(labels), label_width)
    least, most = choose_limits()
    room = min(30, int(0.36 * most / COLUMN))
    label_width, label_lines = fit_lines(labels, width=min(widest(labels), room), most=int(1.25 * room))
    stacked = panels > 1 and most < _BESIDE
    across = 1 if stacked else panels
    margins = 0.3 + 0.45 * across + COLUMN * label_width  # axis label, tick labels, colour bars
    width = float(np.clip(margins + across * max(0.3 * num_experts, 1.7), least, most))
    cell_height = TWO_LINES if label_lines > 1 else float(np.clip(4.2 / len(labels), 0.115, 0.19))
    cells_high = max(cell_height * len(labels), 0.9)
    return Layout(
        width=width,
        height=(panels if stacked else 1) * (cells_high + 0.75) + 0.5,
        cell_width=(width - margins) / (across * num_experts),
        cell_height=cell_height,
        label_width=label_width,
        label_lines=label_lines,
        stacked=stacked,
    )


def mark_axes(ax: Axes, values: pd.DataFrame, layout: Layout) -> None:
    """Write the names of the labels and experts of a table beside its cells, as far as there is room."""
    every = max(1, int(np.ceil(0.16 / layout.cell_width)))
    places = np.arange(0, values.shape[1], every)
    crowded = every > 1 or layout.cell_width < 0.2
    ax.set_xticks(
        places + 0.5,
        [str(values.columns[place]) for place in places],
        rotation=90 if crowded else 0,
        fontsize=6 if crowded else 6.5,
        parse_math=False,
    )
    ax.set_yticks(
        np.arange(len(values)) + 0.5,
        wrap_apart(list(values.index), width=layout.label_width, lines=layout.label_lines),
        rotation=0,
        fontsize=6 if layout.cell_height < 0.13 or layout.label_lines > 1 else 6.5,
        linespacing=1.0,
        va="center",
        parse_math=False,
    )
    ax.tick_params(length=0, pad=2.5)
    if every > 1:
        ax.tick_params(axis="x", length=2)


def add_color_bar(ax: Axes, limit: float, drawn: tuple[np.ndarray, Layout], *, name: str, log2: bool) -> None:
    """Draw the colour bar of the cells in `ax`, titled `name`; `log2`: the cells hold log2 of what is written.

    Where cells are beyond the colours, the bar has a tip, and the most extreme value is written at it.
    """
    cells, layout = drawn
    rows = layout.cell_height * len(cells)
    bar = ax.figure.colorbar(
        ax.collections[0],
        ax=ax,
        extend=choose_extend(cells, limit),
        shrink=min(1.0, 1.9 / max(rows, 0.9)),
        anchor=(0.0, 1.0),
        aspect=18,
        pad=0.02,
    )
    finish_color_bar(bar, cells, limit, log2=log2, name=name or "value")
    bar.ax.set_title(name, fontsize=6.5, loc="left", pad=14 if bar.extend in ("max", "both") else 6)


def choose_extend(cells: np.ndarray, limit: float) -> str:
    """Return at which ends cells are beyond colours from -`limit` to `limit`, as `extend` of a colour bar."""
    finite = cells[np.isfinite(cells)]
    below, above = bool((finite < -limit).any()), bool((finite > limit).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def finish_color_bar(bar: Colorbar, cells: np.ndarray, limit: float, *, log2: bool, name: str = "ratio") -> None:
    """Put ticks at a colour bar from -`limit` to `limit`, and at its tips the most extreme of `cells` beyond them."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, color=MUTED, labelsize=6.5, labelcolor=INK)
    if log2:
        step = max(1, int(np.ceil(limit / 3)))
        whole = np.arange(0, limit + 1e-9, step)
        exponents = np.unique(np.concatenate([-whole, whole]))
        bar.ax.yaxis.set_major_locator(FixedLocator(exponents.tolist()))
        bar.ax.set_yticks(exponents, [power_of_two(exponent) for exponent in exponents], parse_math=False)
        bar.ax.minorticks_off()
    else:
        bar.ax.locator_params(axis="y", nbins=5)
    finite = cells[np.isfinite(cells)]
    for tip, extreme, height, side in (
        (("max", "both"), finite.max(initial=-np.inf), 1.0, "bottom"),
        (("min", "both"), finite.min(initial=np.inf), 0.0, "top"),
    ):
        if bar.extend in tip:
            bar.ax.annotate(
                f"to {_write_extreme(float(extreme), log2=log2)}",
                (1.0, height),
                xycoords="axes fraction",
                xytext=(2.0, 5.0 if height else -5.0),
                textcoords="offset points",
                fontsize=6.5,
                va=side,
                color=INK,
                parse_math=False,
                gid=f"beyond-{tip[0]}-{name}",
            )


def _write_extreme(cell: float, *, log2: bool) -> str:
    value = 2.0**cell if log2 else cell
    if log2 and cell <= -60:
        return "0"
    if log2 and value < 1 / 32:
        return f"1/{round(1 / value):,}"
    return format_number(value, digits=0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2)
