"""The lift of each label in one expert, with intervals."""

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from specialize.errors import MeasurementError
from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.cells import log2_ratio
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.labels import (
    TWO_LINES,
    choose_ends,
    fit_columns,
    fit_lines,
    fit_rows,
    mark_gap,
    measure_room,
    tell_shown,
    wrap_apart,
)
from specialize.plot.load import power_of_two
from specialize.plot.profile import add_legend
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, PALETTE, PAPER, new_axes, use_style

_LOWEST = 2.0**-6


def expert_forest(
    frame: pd.DataFrame,
    *,
    layer: int,
    expert: int,
    label_set: str | None = None,
    run_name: str | None = None,
    routing: str = "learned",
    most: int = 20,
    alpha: float = 0.05,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the lift of each label in one expert, P(label | expert) / P(label), with 95 % intervals, largest on top.

    Lift is on a log2 scale; the dashed line is 1, as often as overall. Labels whose q-value exceeds `alpha` are hollow.
    Values below 1/64 are drawn at 1/64.

    Args:
        frame: result frame with rows of ``lift``.
        layer: layer number as the frame has it.
        expert: index of the expert.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        most: the most labels to draw; two thirds of them have the largest lift, one third the smallest, below a line.
            The axis says how many are left out.
        alpha: q-value up to which a label counts as significant.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Significant points have the gid ``significant``, the others ``not-significant``, and intervals
        ``interval``.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    rows = select_rows(frame, metric="lift", label_set=label_set, run_name=run_name, layer=layer, routing=routing)
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    known = sorted(int(each) for each in rows["expert"].dropna().unique())
    if expert not in known:
        raise MeasurementError(f"expert: expected one of {known[0]} to {known[-1]}, got {expert}")
    rows = rows[(rows["expert"] == expert) & rows["value"].notna() & rows["label"].notna()]
    total, most = len(rows), fit_rows(ax, most)
    rows = rows.iloc[choose_ends(log2_ratio(rows["value"].to_numpy(dtype=float)), most)]
    with use_style():
        own_figure = ax is None
        if ax is None:
            ax = new_axes(COLUMN_WIDTH, 1.1 + 0.17 * max(len(rows), 3))
            columns, lines = fit_lines(rows["label"].tolist(), width=fit_columns(ax), most=int(1.25 * fit_columns(ax)))
            if lines > 1:
                cast(Figure, ax.figure).set_figheight(1.1 + (TWO_LINES + 0.01) * max(len(rows), 3))
        else:
            columns, lines = fit_columns(ax), 1
        places = np.arange(len(rows))
        value = rows["value"].to_numpy().clip(_LOWEST)
        ax.axvline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="even")
        low, high = (rows[name].to_numpy().clip(_LOWEST) for name in ("ci_low", "ci_high"))
        ax.hlines(places, low, high, color=PALETTE[0], linewidth=0.9, zorder=2, gid="interval")
        significant = (rows["q_value"] <= alpha).to_numpy()
        for chosen, gid, face in ((significant, "significant", PALETTE[0]), (~significant, "not-significant", PAPER)):
            ax.scatter(
                value[chosen],
                places[chosen],
                s=18,
                color=face,
                edgecolors=PALETTE[0],
                linewidths=0.9,
                zorder=3,
                gid=gid,
            )
        _scale(ax, np.concatenate([value, low[np.isfinite(low)], high[np.isfinite(high)]]))
        names = wrap_apart(rows["label"].tolist(), width=columns, lines=lines)
        look_of_names: dict[str, Any] = {"linespacing": 1.0, "fontsize": 6.5} if lines > 1 else {}
        ax.set_yticks(places, names, parse_math=False, **look_of_names)
        mark_gap(ax, len(rows), total, most)
        ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        ax.grid(axis="x")
        origin = f"{shorten(run_name, width=28)}, layer {layer}, expert {expert}"
        quantity = name_quantity("lift", label_set)
        control = ", random router" if routing == "random" else ""
        set_plain(
            ax,
            title=choose_title(title, f"{origin}{control}"),
            xlabel=quantity.axis,
            ylabel=tell_shown(name_label_set(label_set).axis, len(rows), total, "largest and smallest lift"),
            room=measure_room(ax, names, own_figure=own_figure),
        )
        if not significant.all():
            look: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "linestyle": "none", "markersize": 4}
            handles = [Line2D([], [], **look), Line2D([], [], markerfacecolor=PAPER, **look)]
            add_legend(ax, handles, [f"q ≤ {alpha:g}", f"q > {alpha:g}"], own_figure=own_figure)
    return ax


def _scale(ax: Axes, drawn: np.ndarray) -> None:
    low = min(-1.0, float(np.floor(np.log2(drawn.min(initial=1.0)))))
    high = max(1.0, float(np.ceil(np.log2(drawn.max(initial=1.0)))))
    ax.set_xscale("log", base=2)
    ax.set_xlim(2.0 ** (low - 0.2), 2.0 ** (high + 0.2))
    exponents = np.arange(low, high + 1, max(1, int(np.ceil((high - low) / 6))))
    labels = [power_of_two(exponent) for exponent in exponents]
    if low == np.log2(_LOWEST):
        labels[0] = "≤ " + labels[0]
    ax.set_xticks(2.0**exponents, labels, parse_math=False)
    ax.minorticks_off()
