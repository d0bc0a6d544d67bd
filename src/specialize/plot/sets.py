"""The selectivity of the experts that lead each label, against random sets of the same load."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, complete_frame, only_value, select_rows, set_plain
from specialize.plot.labels import choose_strongest, fit_columns, fit_rows, measure_room, shorten_apart, tell_shown
from specialize.plot.profile import add_legend
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, PALETTE, PAPER, new_axes, use_style

_TITLE = "Selectivity of the experts that lead each label: effect on it − on all other tokens, in bits"


def set_selectivity(
    frame: pd.DataFrame,
    *,
    label_set: str | None = None,
    run_name: str | None = None,
    most: int = 30,
    alpha: float = 0.05,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the selectivity of the experts that lead each label, a row a label, beside that of random sets.

    Selectivity is the effect of switching the set off on the label − on all other tokens, in bits, with its 95 %
    interval. The bar is the range of random sets of the same load, the tick their mean. Labels are sorted by
    selectivity; those whose p-value, the rank among the random sets, exceeds `alpha` are hollow.

    Args:
        frame: result frame of ``specialize ablate`` with rows of ``effect_selectivity`` without ``expert``: of sets.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        most: the most labels to draw, those with the largest selectivity. The axis says how many are left out.
        alpha: p-value up to which a set counts as significant.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Significant points have the gid ``significant``, the others ``not-significant``; intervals
        ``interval``, ranges of random sets ``random-range`` and their means ``random-mean``.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    rows = select_rows(_of_sets(frame), metric="effect_selectivity", label_set=label_set, run_name=run_name)
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    rows = rows[rows["label"].notna() & rows["value"].notna()]
    total = len(rows)
    rows = rows.iloc[choose_strongest(rows["value"].to_numpy(), fit_rows(ax, most))]
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 1.6 + 0.17 * max(len(rows), 4)) if ax is None else ax
        places = np.arange(len(rows))
        value = rows["value"].to_numpy()
        ax.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="zero")
        low, high, mean = (rows[name].to_numpy() for name in ("null_low", "null_high", "null_mean"))
        band: dict[str, Any] = {"color": MUTED, "alpha": 0.35, "linewidth": 5.0, "zorder": 1.5}
        ax.hlines(places, low, high, gid="random-range", **band)
        ax.plot(mean, places, color=MUTED, marker="|", markersize=7, linestyle="none", zorder=2, gid="random-mean")
        ax.hlines(places, rows["ci_low"], rows["ci_high"], color=PALETTE[0], linewidth=0.9, zorder=2, gid="interval")
        significant = (rows["p_value"] <= alpha).to_numpy()
        point: dict[str, Any] = {"s": 18, "edgecolors": PALETTE[0], "linewidths": 0.9, "zorder": 3}
        for chosen, gid, face in ((significant, "significant", PALETTE[0]), (~significant, "not-significant", PAPER)):
            ax.scatter(value[chosen], places[chosen], color=face, gid=gid, **point)
        names = shorten_apart(rows["label"].tolist(), width=fit_columns(ax))
        ax.set_yticks(places, names, parse_math=False)
        ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        ax.locator_params(axis="x", nbins=5)
        ax.grid(axis="x")
        set_plain(
            ax,
            title=choose_title(title, f"{_TITLE}\n{shorten(run_name, width=34)}"),
            xlabel=name_quantity("effect_selectivity", label_set).axis,
            ylabel=tell_shown(name_label_set(label_set).axis, len(rows), total, "largest selectivity"),
            room=measure_room(ax, names, own_figure=own_figure),
        )
        look: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "linestyle": "none", "markersize": 4}
        handles: list[Any] = [
            Line2D([], [], **look),
            Line2D([], [], markerfacecolor=PAPER, **look),
            (Patch(color=MUTED, alpha=0.35, linewidth=0), Line2D([], [], color=MUTED, marker="|", linestyle="none")),
        ]
        texts = [f"p ≤ {alpha:g}", f"p > {alpha:g}", _name_random(rows)]
        add_legend(ax, handles, texts, own_figure=own_figure)
    return ax


def _of_sets(frame: pd.DataFrame) -> pd.DataFrame:
    rows = complete_frame(frame)
    return rows[rows["expert"].isna()]


def _name_random(rows: pd.DataFrame) -> str:
    numbers = sorted({int(number) for number in rows["n_permutations"].dropna()})
    if not numbers:
        return "random sets: range and mean"
    number = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"{number} random sets: range and mean"
