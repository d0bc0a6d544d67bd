"""Syntax against topics: the position of each layer of each run."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from specialize.errors import MeasurementError
from specialize.names import name_label_set, shorten
from specialize.plot.frames import AUTO, ROUTINGS, average_random, by_run, choose_title, select_rows, set_plain
from specialize.plot.profile import add_legend, choose_step
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import (
    INK,
    MUTED,
    PAPER,
    Palette,
    SeriesLook,
    new_axes,
    read_palette,
    series_look,
    use_style,
)

_METRIC = "uncertainty_coefficient"
_SIZE = 6.5  # points of the number of a layer
# from a marker to the number of its layer, in points, in the order of preference
_MOVES = ((7, 7), (-7, 7), (7, -7), (-7, -7), (0, 9), (0, -9), (11, 0), (-11, 0), (15, 12), (-15, 12), (15, -12))


def syntax_topic_plane(
    frame: pd.DataFrame,
    *,
    syntax: str = "upos",
    topic: str | None = None,
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the uncertainty coefficient of syntax (x) against that of topics (y), one marker a run and layer.

    Each axis is normalised by the entropy of its own label, which makes them comparable. A line joins the layers of a
    run in order, its first and last layer are numbered, crosses are 95 % intervals, and a plus sign in the run's
    colour marks the null mean, averaged over the layers. Hollow markers are the random router; where several were
    measured, their mean, with crosses from the smallest to the largest of them.

    Args:
        frame: result frame with rows of ``uncertainty_coefficient`` for both label sets.
        syntax: label set of the x axis.
        topic: label set of the y axis; by default ``bertopic``, else the only other one.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the runs, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Lines have the gid ``value-ROUTING-N``, N counting the runs, and the run's name as their label.

    Raises:
        MeasurementError: one of the label sets is missing, or no run and layer has both.
    """
    rows = average_random(select_rows(frame, metric=_METRIC), frame, metric=_METRIC)
    topic = topic or _choose_topic(rows, syntax)
    pairs = _pair(rows, syntax, topic)
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 3.3) if ax is None else ax
        handles: list[Any] = []
        names = []
        for index, run, parts in by_run(pairs):
            look = series_look(index, colors)
            for routing, part in parts.items():
                _draw_path(ax, part, (index, run, routing), look)
            if "learned" in parts:
                _draw_null(ax, parts["learned"], (index, look.color))
            handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=4))
            names.append(shorten(run, width=34))
        if (pairs["routing"] == "random").any():
            handles.append(Line2D([], [], color=MUTED, marker="o", markersize=4, linewidth=1,
                                  linestyle=(0, (3, 1.6)), markerfacecolor=PAPER))  # fmt: skip
            averaged = pairs[["averaged_x", "averaged_y"]].any(axis=None)
            names.append("random routers (control): mean, range" if averaged else "random router (control)")
        if pairs["null_mean_x"].notna().any() and pairs["null_mean_y"].notna().any():
            handles.append(Line2D([], [], color=MUTED, marker="+", linestyle="none", markersize=6))
            names.append("null mean over layers")
        ax.set_xlim(min(0.0, ax.get_xlim()[0]), ax.get_xlim()[1])
        ax.set_ylim(min(0.0, ax.get_ylim()[0]), ax.get_ylim()[1])
        ax.grid(axis="both")
        ax.locator_params(nbins=5)
        x, y = name_label_set(syntax), name_label_set(topic)
        set_plain(
            ax,
            title=choose_title(
                title, f"U({x.short} | expert) against U({y.short} | expert)\nshares of H(label) explained by routing"
            ),
            xlabel=f"U({x.short} | expert), share of H({x.short})",
            ylabel=f"U({y.short} | expert)\nshare of H({y.short})",
        )
        add_legend(ax, handles, names, own_figure=own_figure)
        if own_figure:
            ax.figure.draw_without_rendering()  # type: ignore[union-attr]  # numbers are placed in the final layout
        _number_ends(ax, pairs)
    return ax


def _choose_topic(rows: pd.DataFrame, syntax: str) -> str:
    others = [str(name) for name in pd.unique(rows["label_set"].dropna()) if name != syntax]
    if "bertopic" in others:
        return "bertopic"
    if len(others) != 1:
        raise MeasurementError(
            f"topic: expected one label set beside {syntax!r}, got {', '.join(others) or 'none'}; name one with topic="
        )
    return others[0]


def _pair(rows: pd.DataFrame, syntax: str, topic: str) -> pd.DataFrame:
    keys = ["run", "routing", "layer"]
    sides = [select_rows(rows, metric=_METRIC, label_set=name).dropna(subset=["layer"]) for name in (syntax, topic)]
    pairs = sides[0].merge(sides[1], on=keys, suffixes=("_x", "_y"))
    if pairs.empty:
        raise MeasurementError(
            f"expected runs and layers measured for both {syntax!r} and {topic!r}, got none with both; "
            "measure both on the same run"
        )
    return pairs


def _draw_path(ax: Axes, part: pd.DataFrame, names: tuple[int, str, str], look: SeriesLook) -> None:
    index, run, routing = names
    control = routing == ROUTINGS[1]
    x, y = part["value_x"].to_numpy(), part["value_y"].to_numpy()
    step = choose_step(len(part))
    cross: dict[str, Any] = {"color": look.color, "linewidth": 0.7 / step, "alpha": 0.55, "zorder": 2}
    ax.hlines(y, part["ci_low_x"], part["ci_high_x"], gid=f"interval-x-{routing}-{index}", **cross)
    ax.vlines(x, part["ci_low_y"], part["ci_high_y"], gid=f"interval-y-{routing}-{index}", **cross)
    ax.plot(
        x,
        y,
        color=look.color,
        marker=look.marker,
        markersize=4,
        linewidth=0.9,
        linestyle=(0, (3, 1.6)) if control else "-",
        markerfacecolor=PAPER if control else look.color,
        markeredgewidth=0.8,
        markevery=step,
        zorder=3,
        gid=f"value-{routing}-{index}",
        label=shorten(run),
    )


def _number_ends(ax: Axes, pairs: pd.DataFrame) -> None:
    """Write the number of the first and the last layer of each path beside its marker, where it covers no other."""
    taken: list[Bbox] = []
    for _, _, parts in by_run(pairs):
        for part in parts.values():
            for end in sorted({0, len(part) - 1}):
                row = part.iloc[end]
                if not np.isfinite([row["value_x"], row["value_y"]]).all():
                    continue
                at = (float(row["value_x"]), float(row["value_y"]))
                boxes = [_box_of(ax, at, move, f"{row['layer']:g}") for move in _MOVES]
                free = [place for place, box in enumerate(boxes) if not any(map(box.overlaps, taken))]
                place = free[0] if free else 0
                taken.append(boxes[place])
                ax.annotate(
                    f"{row['layer']:g}",
                    at,
                    xytext=_MOVES[place],
                    textcoords="offset points",
                    fontsize=_SIZE,
                    color=INK,
                    ha="center",
                    va="center",
                    parse_math=False,
                    gid=f"layer-{len(taken)}",
                )


def _box_of(ax: Axes, at: tuple[float, float], move: tuple[float, float], text: str) -> Bbox:
    """Return where the number of a layer would be, in points."""
    points = 72 / ax.figure.dpi
    x, y = ax.transData.transform(at) * points + move
    half = 0.32 * _SIZE * len(text) + 0.5, 0.5 * _SIZE
    return Bbox([(x - half[0], y - half[1]), (x + half[0], y + half[1])])


def _draw_null(ax: Axes, part: pd.DataFrame, run: tuple[int, str]) -> None:
    index, color = run
    means = part[["null_mean_x", "null_mean_y"]].mean()
    if means.notna().all():
        ax.plot(*means, marker="+", markersize=6, color=color, linestyle="none", gid=f"null-mean-{index}")
