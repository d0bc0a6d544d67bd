"""Tables of labels and experts as cells: the size of the figure, its ticks and its colour bar."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from specialize.names import shorten
from specialize.plot.load import power_of_two
from specialize.plot.style import COLUMN_WIDTH, INK, MUTED, PAGE_WIDTH


@dataclass(frozen=True)
class Layout:
    """Inches of a figure, of one of its cells, and the width of its labels in characters."""

    width: float
    height: float
    cell_width: float
    cell_height: float
    label_width: int


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


def lay_out(labels: list[str], num_experts: int, *, panels: int = 1) -> Layout:
    """Choose the size of a figure with a row a label and a column an expert, in one or more panels side by side."""
    label_width = min(max((len(label) for label in labels), default=1), 30)
    margins = 0.3 + 0.45 * panels + 0.062 * label_width  # axis label, tick labels, colour bars
    width = float(np.clip(margins + panels * max(0.3 * num_experts, 1.7), COLUMN_WIDTH, PAGE_WIDTH))
    cell_height = float(np.clip(4.2 / len(labels), 0.115, 0.19))
    cells_high = max(cell_height * len(labels), 0.9)
    return Layout(
        width=width,
        height=cells_high + 1.25,
        cell_width=(width - margins) / (panels * num_experts),
        cell_height=cell_height,
        label_width=label_width,
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
        [shorten(label, width=layout.label_width) for label in values.index],
        rotation=0,
        fontsize=6 if layout.cell_height < 0.13 else 6.5,
        va="center",
        parse_math=False,
    )
    ax.tick_params(length=0, pad=2.5)
    if every > 1:
        ax.tick_params(axis="x", length=2)


def add_color_bar(ax: Axes, limit: float, drawn: tuple[np.ndarray, Layout], *, name: str, log2: bool) -> None:
    """Draw the colour bar of the cells in `ax`, titled `name`; `log2`: the cells hold log2 of what is written."""
    cells, layout = drawn
    finite = cells[np.isfinite(cells)]
    below, above = (finite < -limit).any(), (finite > limit).any()
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = ax.figure.colorbar(
        ax.collections[0],
        ax=ax,
        extend=extend[bool(below), bool(above)],
        shrink=min(1.0, 1.9 / max(layout.height - 1.25, 0.1)),
        anchor=(0.0, 1.0),
        aspect=18,
        pad=0.02,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, color=MUTED, labelsize=6.5, labelcolor=INK)
    if log2:
        step = max(1, int(np.ceil(limit / 3)))
        whole = np.arange(0, limit + 1e-9, step)
        exponents = np.unique(np.concatenate([-whole, whole]))
        bar.ax.yaxis.set_major_locator(FixedLocator(exponents.tolist()))
        bar.ax.set_yticks(exponents, [power_of_two(exponent) for exponent in exponents], parse_math=False)
        bar.ax.minorticks_off()
    bar.ax.set_title(name, fontsize=6.5, loc="left", pad=6)
