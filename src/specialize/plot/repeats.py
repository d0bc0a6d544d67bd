"""Consecutive tokens that share an expert, by label, against chance."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.labels import choose_ends, fit_columns, fit_rows, mark_gap, measure_room, shorten_apart, tell_shown
from specialize.plot.profile import add_legend
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, Palette, new_axes, read_palette, series_look, use_style


def repeats_by_label(
    frame: pd.DataFrame,
    *,
    label_set: str | None = None,
    metric: str = "first_expert_repeats",
    run_name: str | None = None,
    layers: tuple[int, ...] | None = None,
    most: int = 24,
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of consecutive token pairs that share an expert, one row per label, beside chance.

    Each point is a layer with its 95 % interval; the tick in its colour is the same tokens in shuffled order.

    Args:
        frame: result frame with rows of `metric` for the labels of documents.
        label_set: required if the frame holds several.
        metric: ``first_expert_repeats`` or ``any_expert_repeats``.
        run_name: required if the frame holds several.
        layers: layers to draw; by default the first, the middle and the last.
        most: the most labels to draw; two thirds of them have the largest share in the last layer drawn, one third the
            smallest, below a line. The axis says how many are left out.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the layers, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Points of layer l have the gid ``value-l``, the ticks ``chance-l``.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    labelled = frame[frame["label"].notna()] if "label" in frame else frame
    rows = select_rows(labelled, metric=metric, label_set=label_set, run_name=run_name, routing="learned")
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    present = np.unique(rows["layer"].dropna()).astype(int)
    chosen = layers or tuple(dict.fromkeys(int(present[place]) for place in (0, len(present) // 2, -1)))
    total, most = rows["label"].nunique(), fit_rows(ax, most)
    names = _choose_labels(rows, chosen[-1], most)
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 1.2 + 0.22 * max(len(names), 3)) if ax is None else ax
        handles = []
        for number, layer in enumerate(chosen):
            look = series_look(number, colors)
            own = rows[rows["layer"] == layer].set_index("label").reindex(names)
            places = np.arange(len(names)) + 0.5 * ((number + 0.5) / len(chosen) - 0.5)
            ax.hlines(places, own["ci_low"], own["ci_high"], color=look.color, linewidth=0.9)
            ax.plot(own["value"], places, color=look.color, marker=look.marker, markersize=3.5, linestyle="none",
                    gid=f"value-{layer}")  # fmt: skip
            ax.plot(own["null_mean"], places, color=look.color, marker="|", markersize=6, linestyle="none",
                    gid=f"chance-{layer}")  # fmt: skip
            handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=4, linestyle="none"))
        shown = shorten_apart(names, width=fit_columns(ax))
        ax.set_yticks(range(len(names)), shown, parse_math=False)
        mark_gap(ax, len(names), total, most)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(left=0.0)
        ax.grid(axis="x")
        quantity = name_quantity(metric, label_set)
        set_plain(
            ax,
            title=choose_title(title, f"{quantity.title}\n{shorten(run_name, width=34)}"),
            xlabel=quantity.axis,
            ylabel=tell_shown(name_label_set(label_set).axis, len(names), total, "largest and smallest share"),
            room=measure_room(ax, shown, own_figure=own_figure),
        )
        handles.append(Line2D([], [], color=MUTED, marker="|", markersize=6, linestyle="none"))
        add_legend(ax, handles, [*(f"layer {layer}" for layer in chosen), "shuffled order"], own_figure=own_figure)
    return ax


def _choose_labels(rows: pd.DataFrame, layer: int, most: int) -> list[str]:
    """Return all labels in the frame's order, or those with the largest and smallest share in `layer`."""
    names = [str(name) for name in pd.unique(rows["label"])]
    if len(names) <= most:
        return names
    own = rows[rows["layer"] == layer].drop_duplicates("label").set_index("label")["value"].reindex(names)
    return [names[place] for place in choose_ends(own.to_numpy(dtype=float), most)]
