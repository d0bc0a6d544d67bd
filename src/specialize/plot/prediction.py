"""What predicts the experts of a token, over the layers of a run: the layer before, a cache, the token id."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from specialize.errors import MeasurementError
from specialize.names import CACHE_SIZE, shorten
from specialize.plot.frames import AUTO, choose_title, complete_frame, only_value, select_rows, set_plain
from specialize.plot.profile import add_legend, choose_step, mark_layers
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, Palette, new_axes, read_palette, series_look, use_style

_NAMES = {
    "next_layer_recall": "the layer before",
    "lru_hit_rate": "a cache, LRU",
    "optimal_hit_rate": "the best cache",
    "same_token_overlap": "the same token elsewhere",
}
PREDICTIONS = (*_NAMES, "any_token_overlap")
"""Metrics that `expert_prediction` draws."""


def expert_prediction(
    frame: pd.DataFrame,
    *,
    run_name: str | None = None,
    routing: str = "learned",
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw by layer the share of slots whose expert is predicted by the layer before, by caches, and by the token id.

    A dotted line in the colour of a quantity is its chance: the most loaded experts, a cache that sees the document's
    tokens in shuffled order, and any token instead of one with the same id. The recall of a layer's experts stands at
    the layer that is predicted.

    Args:
        frame: result frame with rows of ``next_layer_recall``, ``lru_hit_rate``, ``optimal_hit_rate`` and
            ``same_token_overlap``, of which some may be missing.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the quantities, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. The line of METRIC has the gid ``value-METRIC``, that of its chance ``chance-METRIC``.

    Raises:
        MeasurementError: the frame has no such rows, or several runs and none was named.
    """
    rows = complete_frame(frame)
    rows = rows[rows["metric"].isin(PREDICTIONS) & rows["expert"].isna() & rows["layer"].notna()]
    present = [metric for metric in _NAMES if (rows["metric"] == metric).any()]
    if not present:
        raise MeasurementError(
            f"metric: expected rows of {', '.join(_NAMES)}, got none: run `specialize routing` on a trace with tokens"
        )
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 2.7) if ax is None else ax
        handles: list[Any] = []
        names, layers = [], np.empty(0)
        for number, metric in enumerate(present):
            own = select_rows(rows, metric=metric, run_name=run_name, routing=routing).sort_values("layer")
            run = only_value(own, "run")
            chance = own["null_mean"].to_numpy()
            if metric == "same_token_overlap":
                any_two = rows[(rows["metric"] == "any_token_overlap") & (rows["run"] == run)]
                any_two = any_two[any_two["routing"] == routing].set_index("layer")["value"]
                chance = any_two.reindex(own["layer"]).to_numpy()
            at = own["layer"].to_numpy() + (metric == "next_layer_recall")
            look = series_look(number, colors)
            ax.vlines(at, own["ci_low"], own["ci_high"], color=look.color, linewidth=0.9 / choose_step(len(own)))
            ax.plot(at, own["value"], color=look.color, marker=look.marker, markersize=3.5,
                    markevery=choose_step(len(own)), gid=f"value-{metric}")  # fmt: skip
            ax.plot(at, chance, color=look.color, linestyle=":", linewidth=0.9, zorder=1.5, gid=f"chance-{metric}")
            handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=4))
            names.append(_NAMES[metric] + (_size(own) if own["label_set"].eq(CACHE_SIZE).any() else ""))
            layers = np.union1d(layers, at)
        mark_layers(ax, layers)
        ax.set_ylim(0.0, 1.0)
        ax.grid(axis="y")
        own_title = f"Experts predicted from what is known before\n{shorten(run, width=34)}"
        set_plain(ax, title=choose_title(title, own_title), xlabel="layer", ylabel="share of slots")
        handles.append(Line2D([], [], color=MUTED, linestyle=":", linewidth=0.9))
        add_legend(ax, handles, [*names, "chance"], own_figure=own_figure)
    return ax


def _size(rows: pd.DataFrame) -> str:
    sizes = sorted(rows["label"].dropna().astype(int).unique())
    return f" of {', '.join(map(str, sizes))}"
