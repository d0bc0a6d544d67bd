"""A quantity over the layers of one or several runs."""

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from specialize.names import name_quantity, shorten
from specialize.plot.frames import AUTO, average_random, by_run, choose_title, only_value, select_rows, set_plain
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, PAPER, Palette, SeriesLook, new_axes, read_palette, series_look, use_style

_LEGEND_ROWS = 4  # rows that fit the height of a figure
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # between the layers that are labelled
_SPREAD = 0.16  # share of a layer's width over which runs are spread, so that their intervals do not overlap


def layer_profile(
    frame: pd.DataFrame,
    *,
    metric: str = "uncertainty_coefficient",
    label_set: str | None = None,
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw `metric` by layer: a line for each run, its 95 % intervals and its null distribution.

    A line is drawn for the learned router (solid) and, if the frame has one, for the random router (dashed, hollow
    markers); where several random routers were measured, for their mean, with a hatched band from the smallest to the
    largest of them (rows of ``METRIC_among_random_routers``). The null is a band from its 2.5th to its 97.5th
    percentile with a dotted mean, in the run's colour.

    Args:
        frame: result frame with one row of `metric` for each run, routing and layer.
        metric: name of a quantity of whole layers.
        label_set: required if the frame holds several.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the runs, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Lines have the gid ``value-ROUTING-N``, N counting the runs, and the run's name as their label.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets and none was named.
    """
    rows = select_rows(frame, metric=metric, label_set=label_set)
    rows = average_random(rows[rows["layer"].notna()], frame, metric=metric)
    label_set = only_value(rows, "label_set") or None
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 2.7) if ax is None else ax
        runs = list(by_run(rows))
        offsets = _SPREAD * (np.arange(len(runs)) - (len(runs) - 1) / 2) / max(len(runs) - 1, 1)
        for (index, run, parts), offset in zip(runs, offsets, strict=True):
            look = series_look(index, colors)
            for routing, part in parts.items():
                _draw_line(ax, part, (index, run, routing), look, offset)
            if "learned" in parts:
                _draw_null(ax, parts["learned"], (index, look.color))
        layers = np.unique(rows["layer"])
        mark_layers(ax, layers)
        low, high = ax.get_ylim()
        ax.set_ylim(min(0.0, low), max(high, 1e-6))
        ax.grid(axis="y")
        ax.locator_params(axis="y", nbins=6)
        name = name_quantity(metric, label_set)
        set_plain(ax, title=choose_title(title, name.title), xlabel="layer", ylabel=name.axis)
        _add_legend(ax, rows, colors, own_figure=own_figure)
    return ax


def _draw_line(ax: Axes, part: pd.DataFrame, names: tuple[int, str, str], look: SeriesLook, offset: float) -> None:
    index, run, routing = names
    control = routing == "random"
    averaged = bool(part["averaged"].any())
    thin = choose_step(len(part))
    x = part["layer"].to_numpy() + offset + (_SPREAD / 4 if control and not averaged else 0.0)
    if averaged:
        _draw_range(ax, x, part, (index, look.color))
    else:
        ax.vlines(
            x,
            part["ci_low"],
            part["ci_high"],
            color=look.color,
            linewidth=0.9 / thin,
            alpha=0.6 if control else 1.0,
            gid=f"interval-{routing}-{index}",
        )
    ax.plot(
        x,
        part["value"].to_numpy(),
        color=look.color,
        marker=look.marker,
        linestyle=(0, (3, 1.6)) if control else "-",
        linewidth=1.0 if control else 1.3,
        markersize=4,
        markerfacecolor=PAPER if control else look.color,
        markeredgecolor=look.color,
        markeredgewidth=0.8,
        markevery=thin,
        zorder=3,
        gid=f"value-{routing}-{index}",
        label=shorten(run),
    )


def _draw_range(ax: Axes, x: np.ndarray, part: pd.DataFrame, run: tuple[int, str]) -> None:
    """Draw the range of several random routers as a band, which needs a width where there is one layer."""
    low, high = part["ci_low"].to_numpy(dtype=float), part["ci_high"].to_numpy(dtype=float)
    if len(x) == 1:
        x, low, high = x + np.array([-0.3, 0.3]), np.repeat(low, 2), np.repeat(high, 2)
    ax.fill_between(x, low, high, gid=f"range-random-{run[0]}", **_range_look(run[1]))


def _range_look(color: str) -> dict[str, Any]:
    return {"facecolor": "none", "edgecolor": color, "hatch": "//////", "linewidth": 0.0, "alpha": 0.45, "zorder": 1.2}


def _draw_null(ax: Axes, part: pd.DataFrame, run: tuple[int, str]) -> None:
    index, color = run
    null = part[["layer", "null_mean", "null_low", "null_high"]].to_numpy(dtype=float)
    if len(null) == 1:  # a band needs a width
        null = np.repeat(null, 2, axis=0)
        null[:, 0] += (-0.3, 0.3)
    x, mean, low, high = null.T
    if np.isfinite(low).any():
        ax.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0, zorder=1, gid=f"null-band-{index}")
    if np.isfinite(mean).any():
        ax.plot(x, mean, color=color, linestyle=":", linewidth=0.9, zorder=1.5, gid=f"null-mean-{index}")


def mark_layers(ax: Axes, layers: np.ndarray) -> None:
    """Put ticks at those of `layers` whose numbers have room, with a margin of half a layer at both ends."""
    ticks = spread_layers(layers, 0.8 * ax.bbox.width / ax.figure.dpi)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], parse_math=False)
    if len(layers):
        ax.set_xlim(layers.min() - 0.5, layers.max() + 0.5)


def choose_step(num_layers: int) -> int:
    """Return that every n-th of many layers gets a marker, so that markers do not cover each other; 1 up to 26."""
    return max(1, -(-num_layers // 26))


def spread_layers(layers: np.ndarray, inches: float) -> list[float]:
    """Return the sorted `layers` that are labelled on an axis of so many inches: multiples of 1, 2, 5, 10, … if any."""
    if not len(layers):
        return []
    span = float(layers.max() - layers.min()) + 1
    least = (0.1 + 0.062 * len(f"{layers.max():g}")) * span / inches
    step = next((each for each in _STEPS if each >= least), np.inf)
    ticks = [float(layer) for layer in layers if layer % step == 0]
    if len(ticks) >= min(len(layers), 3):
        return ticks
    kept: list[float] = []
    for layer in layers:
        if not kept or layer - kept[-1] >= least:
            kept.append(float(layer))
    return kept


def _add_legend(ax: Axes, rows: pd.DataFrame, colors: tuple[str, ...], *, own_figure: bool) -> None:
    handles: list[Any] = []
    names = []
    for index, run, _ in by_run(rows):
        look = series_look(index, colors)
        handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=4, linewidth=1.3))
        names.append(shorten(run, width=34))
    if (rows["routing"] == "random").any():
        line = Line2D([], [], color=MUTED, marker="o", markersize=4, linewidth=1,
                      linestyle=(0, (3, 1.6)), markerfacecolor=PAPER)  # fmt: skip
        averaged = rows["averaged"].any()
        handles.append((Patch(**_range_look(MUTED)), line) if averaged else line)
        names.append("random routers (control): mean and range" if averaged else "random router (control)")
    if rows["null_mean"].notna().any() or rows["null_low"].notna().any():
        mean = Line2D([], [], color=MUTED, linestyle=":", linewidth=0.9)
        ranged = rows["null_low"].notna().any()
        handles.append((Patch(color=MUTED, alpha=0.25, linewidth=0), mean) if ranged else mean)
        names.append("null: mean and 95 % range" if ranged else "null: mean")
    add_legend(ax, handles, names, own_figure=own_figure)


def add_legend(ax: Axes, handles: list[Any], names: list[str], *, own_figure: bool) -> None:
    """Put a legend below the axes if the figure was made here, inside the axes if it is the caller's."""
    if not handles:
        return
    options: dict[str, Any] = {"handler_map": {tuple: HandlerTuple(ndivide=1)}}
    if own_figure:
        figure = cast(Figure, ax.figure)
        longest = max(len(name) for name in names)
        columns = max(1, min(len(names), int(figure.get_figwidth() * 18 / (longest + 8))))
        more_rows = max(0, -(-len(names) // columns) - _LEGEND_ROWS)
        figure.set_figheight(figure.get_figheight() + 0.15 * more_rows)
        legend = figure.legend(handles, names, loc="outside lower left", ncols=columns, **options)
    else:
        legend = ax.legend(handles, names, loc="best", **options)
    for text in legend.get_texts():
        text.set_parse_math(False)
