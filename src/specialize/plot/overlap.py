"""How far the labels of documents use the same experts."""

from itertools import combinations

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from specialize.names import name_label_set, shorten
from specialize.plot.cells import add_notes, color_numbers, mark_insignificant
from specialize.plot.frames import only_value, select_rows, set_plain
from specialize.plot.style import COLUMN_WIDTH, NO_DATA, PAGE_WIDTH, SHARE_COLORS, new_axes, use_style

_MOST_NUMBERS = 12  # labels with which a number fits into each cell
_ROOM = 1.9  # inches for the title beside long names of labels


def label_overlap(
    frame: pd.DataFrame,
    *,
    layer: int,
    label_set: str | None = None,
    run_name: str | None = None,
    routing: str = "learned",
    alpha: float = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """Draw how far each pair of labels uses the same experts of a layer, the weighted Jaccard similarity.

    Pairs whose overlap is not smaller than that of labels permuted over documents, by a q-value above `alpha`, are
    hatched, or faded where cells are too small for a hatch: they may be alike, or have too few documents.

    Args:
        frame: result frame with rows of ``label_overlap``, and of ``committee_size``, which name the labels.
        layer: layer number as the frame has it.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        alpha: q-value up to which an overlap counts as smaller than that of permuted labels.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds the similarity, [label, label]; NaN on the diagonal and
        where there is none. Labels are in the order of the frame.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    named = {"label_set": label_set, "run_name": run_name, "layer": layer, "routing": routing}
    rows = select_rows(frame, metric="label_overlap", **named)  # type: ignore[arg-type]
    label_set, run = only_value(rows, "label_set"), only_value(rows, "run")
    sizes = select_rows(frame, metric="committee_size", **named | {"label_set": label_set, "run_name": run})  # type: ignore[arg-type]
    table, q_values = _tabulate(rows, [str(name) for name in pd.unique(sizes["label"])])
    with use_style():
        if ax is None:
            width = float(np.clip(0.32 * len(table) + 1.6, COLUMN_WIDTH, PAGE_WIDTH))
            ax = new_axes(width, width * 0.8)
        names = [shorten(name, width=18) for name in table]
        step = max(1, -(-len(names) // 30))
        look = {"cmap": SHARE_COLORS, "vmin": 0.0, "vmax": 1.0, "linewidths": 0}
        numbers = {"annot": len(table) <= _MOST_NUMBERS, "fmt": ".2f", "annot_kws": {"fontsize": 6}}
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
        cell = ax.bbox.width / ax.figure.dpi / max(len(table), 1)  # in inches
        notes = mark_insignificant(ax, (q_values > alpha).to_numpy(), hatch=cell >= 0.1, reason=f"q > {alpha:g}")
        if notes:
            add_notes(ax, notes)
        places = np.arange(0, len(names), step)
        ax.set_xticks(places + 0.5, [names[place] for place in places], rotation=90, parse_math=False)
        ax.set_yticks(places + 0.5, [names[place] for place in places], rotation=0, parse_math=False)
        set_plain(
            ax,
            title=f"Overlap of the experts of two labels\n{shorten(run, width=30)}, layer {layer}",
            xlabel=name_label_set(label_set).axis,
            room=_ROOM,
        )
        bar = ax.figure.colorbar(ax.collections[0], ax=ax, shrink=0.8, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label("Σ min ÷ Σ max of the shares")
    return ax


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
