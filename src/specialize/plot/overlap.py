"""How far the labels of documents use the same experts."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from specialize.names import name_label_set, shorten
from specialize.plot.cells import QUANTILE, add_notes, color_numbers, mark_insignificant
from specialize.plot.frames import AUTO, break_line, choose_title, only_value, select_rows, set_plain, wrap
from specialize.plot.labels import LINES, SMALLEST_ROW, TWO_LINES, tell_shown, wrap_apart
from specialize.plot.sizes import choose_limits
from specialize.plot.style import NO_DATA, SHARE_COLORS, new_axes, use_style
from specialize.text import clean_text

_NUMBER = 0.21  # inches of a cell into which a number fits
_LETTER = 0.06  # inches of a column of a label
_BAR = 0.75  # inches of the colour bar and the margins
_NAMES = 0.6  # largest share of the square and the names that names may take
_ROOM = 1.9  # inches for the title beside long names of labels


def label_overlap(
    frame: pd.DataFrame,
    *,
    layer: int,
    label_set: str | None = None,
    run_name: str | None = None,
    routing: str = "learned",
    alpha: float = 0.05,
    most: int | None = None,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw how far each pair of labels uses the same experts of a layer, the weighted Jaccard similarity.

    Pairs whose overlap is not smaller than that of labels permuted over documents, by a q-value above `alpha`, are
    hatched, or faded where cells are too small for a hatch: they may be alike, or have too few documents. Colours start
    at the tenth below the 2 % quantile of the overlaps, and the bar has a tip where some are smaller.

    Args:
        frame: result frame with rows of ``label_overlap``, and of ``committee_size``, which name the labels.
        layer: layer number as the frame has it.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        alpha: q-value up to which an overlap counts as smaller than that of permuted labels.
        most: the most labels to draw, those that share the fewest experts with others; by default as many as are
            legible in the figure. The axis says how many are left out.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds the similarity, [label, label]; NaN on the diagonal and
        where there is none. Labels are sorted by their mean overlap with the others, smallest first.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    named = {"label_set": label_set, "run_name": run_name, "layer": layer, "routing": routing}
    rows = select_rows(frame, metric="label_overlap", **named)  # type: ignore[arg-type]
    label_set, run = only_value(rows, "label_set"), only_value(rows, "run")
    sizes = select_rows(frame, metric="committee_size", **named | {"label_set": label_set, "run_name": run})  # type: ignore[arg-type]
    table, q_values = _tabulate(rows, [str(name) for name in pd.unique(sizes["label"])])
    total = len(table)
    with use_style():
        width = float(np.clip(0.32 * total + 1.6, *choose_limits()))
        width = width if ax is None else ax.bbox.width / ax.figure.dpi + 0.4
        sides = [width] if ax is None else [width, ax.bbox.height / ax.figure.dpi + _BAR]
        fits = [_fit_names(list(table), min(sides) - _BAR, lines, most or total) for lines in (1, LINES)]
        _, shown, label_width, lines_of_name, side = max(fits, key=lambda fit: fit[:2])
        chosen = _sort_labels(table)[:shown]
        table, q_values = (each.iloc[chosen, chosen] for each in (table, q_values))
        title = choose_title(title, f"Overlap of the experts of two labels\n{shorten(run, width=30)}, layer {layer}")
        axis = tell_shown(name_label_set(label_set).axis, len(table), total, "smallest overlap")
        lines = wrap(title, max(side + 0.5, _ROOM)).count("\n") + axis.count("\n") + 2
        ax = new_axes(width, side + _LETTER * label_width + 0.15 * lines + 0.55) if ax is None else ax
        names = wrap_apart(list(table), width=label_width, lines=lines_of_name)
        cell = side / max(len(table), 1)  # in inches
        low = _start_colors(table.to_numpy())
        look = {"cmap": SHARE_COLORS, "vmin": low, "vmax": 1.0, "linewidths": 0}
        numbers = {"annot": cell >= _NUMBER, "fmt": ".2f", "annot_kws": {"fontsize": 6}}
        seaborn.heatmap(
            table,
            ax=ax,
            mask=table.isna(),
            cbar=False,
            square=True,
            xticklabels=False,
            yticklabels=False,
            **look,
            **numbers,
        )
        ax.collections[0].set_gid("cells")
        ax.set_facecolor(NO_DATA)
        color_numbers(ax, table)
        notes = mark_insignificant(ax, (q_values > alpha).to_numpy(), hatch=cell >= 0.1, reason=f"q > {alpha:g}")
        if notes:
            add_notes(ax, notes)
        places = np.arange(len(names)) + 0.5
        text: Any = {"fontsize": 7 if cell >= 0.13 else 6, "parse_math": False}
        ax.set_xticks(places, names, rotation=90, **text)
        ax.set_yticks(places, names, rotation=0, **text)
        ax.tick_params(length=2 if cell >= 0.13 else 0, pad=2)
        set_plain(
            ax,
            title=title,
            xlabel=axis,
            room=max(side + 0.5, _ROOM),
        )
        beyond = bool((table.to_numpy() < low).any())
        bar = ax.figure.colorbar(ax.collections[0], ax=ax, shrink=0.8, pad=0.03, extend="min" if beyond else "neither")
        bar.outline.set_visible(False)
        bar.set_label("Σ min ÷ Σ max of the shares")
    return ax


def _fit_names(names: list[str], room: float, lines: int, most: int) -> tuple[bool, int, int, int, float]:
    """Return how many labels a square has room for whose names have so many lines.

    Args:
        names: of all labels.
        room: inches of the square and the names beside it.
        lines: of a name, 1 or `LINES`.
        most: the most labels to show.

    Returns:
        Whether names are whole; the number of labels, 2 at least; the columns of a name; the lines; inches of the
        square.
    """
    cleaned = [" ".join(clean_text(name).split()) for name in names]
    widths = range(1, max(2, int(_NAMES * room / _LETTER)))
    whole = next((width for width in widths if all(_is_whole(name, width, lines) for name in cleaned)), None)
    columns = whole or widths[-1]
    side = room - _LETTER * columns
    row = SMALLEST_ROW if lines == 1 else TWO_LINES
    return whole is not None, max(2, min(int(side / row), most, len(names))), columns, lines, side


def _is_whole(name: str, width: int, lines: int) -> bool:
    broken = break_line(name, width)
    return len(broken) <= lines and " ".join(broken) == name  # no word is broken


def _start_colors(cells: np.ndarray) -> float:
    """Return the overlap at which colours start: a tenth below nearly all, so that large ones do not look alike."""
    known = cells[np.isfinite(cells)]
    return float(np.floor(10 * np.quantile(known, 1 - QUANTILE)) / 10) if known.size else 0.0


def _sort_labels(table: pd.DataFrame) -> np.ndarray:
    """Return the places of labels by their mean overlap with the others, smallest first, without any last."""
    means = table.mean(axis=1).fillna(np.inf).to_numpy()
    return np.argsort(means, kind="stable")


def _tabulate(rows: pd.DataFrame, labels: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return overlap and q-value of each pair of those labels that are in a pair, both [label, label]."""
    pairs = [f"{first} × {second}" for first, second in combinations(labels, 2)]
    found = rows.drop_duplicates("label").set_index("label")[["value", "q_value"]].reindex(pairs)
    tables = np.full((2, len(labels), len(labels)), np.nan)
    places = np.triu_indices(len(labels), 1)
    tables[:, places[0], places[1]] = tables[:, places[1], places[0]] = found.to_numpy().T
    kept = np.isfinite(tables[0]).any(axis=0) | ~np.isfinite(tables[0]).any()
    names = np.array(labels, dtype=object)[kept]
    overlap, q_values = (pd.DataFrame(table[kept][:, kept], index=names, columns=names) for table in tables)
    return overlap, q_values
