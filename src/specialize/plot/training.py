"""Quantities over training, and the perplexity of the trained models."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, NullLocator

from specialize.errors import MeasurementError
from specialize.names import name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.labels import choose_strongest, fit_columns, fit_rows, measure_room, shorten_apart, tell_shown
from specialize.plot.profile import add_legend
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, Palette, new_axes, read_palette, series_look, use_style


def training_curves(
    frame: pd.DataFrame,
    *,
    metric: str = "saturation",
    label_set: str | None = None,
    time: str = "tokens",
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw `metric` over training: the mean over layers of each run (thick), its layers (thin) and its null (dotted).

    Args:
        frame: result frame with the additional column `time`.
        metric: name of a quantity of whole layers: ``saturation``, whose null is agreement by chance, or
            ``uncertainty_coefficient``.
        label_set: required if the frame holds several.
        time: column of training tokens or steps.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the runs, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. Thick lines have the gid ``mean-N``, N counting the runs, thin ones ``layer-N``, dotted ``null-N``.

    Raises:
        MeasurementError: the frame has no such rows or column, or several label sets and none was named.
    """
    if time not in frame.columns:
        raise MeasurementError(f"time: expected a column of training tokens or steps, got no column {time!r}")
    rows = select_rows(frame, metric=metric, label_set=label_set, routing="learned")
    rows = rows[rows["layer"].notna()]
    label_set = only_value(rows, "label_set") or None
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 2.4) if ax is None else ax
        handles: list[Any] = []
        names = []
        for number, (run, own) in enumerate(rows.groupby("run", sort=False)):
            look = series_look(number, colors)
            for _, layer in own.sort_values(time).groupby("layer"):
                ax.plot(layer[time], layer["value"], color=look.color, linewidth=0.6, alpha=0.45, gid=f"layer-{number}")
            mean = own.groupby(time)[["value", "null_mean"]].mean()
            ax.plot(mean.index, mean["value"], color=look.color, linewidth=1.6, marker=look.marker, markersize=3,
                    gid=f"mean-{number}")  # fmt: skip
            ax.plot(mean.index, mean["null_mean"], color=look.color, linewidth=0.9, linestyle=":", gid=f"null-{number}")
            handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=3))
            names.append(shorten(run, width=34))
        times = np.unique(rows[time])
        later = times[times > 0]
        if len(later) == len(times):
            ax.set_xscale("log")
        else:  # with the model before training
            ax.set_xscale("symlog", linthresh=float(later[0]) if len(later) else 1.0, linscale=0.4)
        ax.set_xticks(_spread_ticks(times))
        ax.xaxis.set_major_formatter(EngFormatter(sep="", places=0))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.grid(axis="y")
        quantity = name_quantity(metric, label_set)
        set_plain(ax, title=choose_title(title, quantity.title), xlabel=f"training {time}", ylabel=quantity.axis)
        if rows["null_mean"].notna().any():
            handles.append(Line2D([], [], color=MUTED, linestyle=":", linewidth=0.9))
            names.append("chance" if metric.startswith("saturation") else "null")
        add_legend(ax, handles, names, own_figure=own_figure)
    return ax


def _spread_ticks(times: np.ndarray) -> list[float]:
    """Return times that are far enough apart to be labelled, the last one included."""
    kept: list[float] = []
    for value in times[::-1]:
        if not kept or value <= kept[-1] / 2.2:
            kept.append(float(value))
    return kept[::-1]


def perplexity_by_choice(
    frame: pd.DataFrame,
    *,
    most: int = 30,
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw perplexities with their intervals: one row per design, one colour and marker per variant.

    Args:
        frame: ``design`` (a row of the figure), ``variant`` (its colour and marker), ``perplexity``, ``ci_low``,
            ``ci_high`` (missing with a single seed).
        most: the most designs to draw, those with the smallest perplexity in the order of the frame. The axis says how
            many are left out.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the variants, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure.

    Returns:
        The axes. Points of variant v carry the gid ``value-v``, their intervals ``interval-v``.

    Raises:
        MeasurementError: a column is missing.
    """
    needed = ("design", "variant", "perplexity", "ci_low", "ci_high")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise MeasurementError(f"perplexities: expected the columns {', '.join(needed)}, got no {missing[0]!r}")
    designs, variants = (list(pd.unique(frame[name])) for name in ("design", "variant"))
    total = len(designs)
    smallest = frame.groupby("design")["perplexity"].min().reindex(designs).to_numpy(dtype=float)
    designs = [designs[place] for place in np.sort(choose_strongest(-smallest, fit_rows(ax, most)))]
    frame = frame[frame["design"].isin(designs)]
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(1.5 * COLUMN_WIDTH, 1.0 + 0.3 * max(len(designs), 3)) if ax is None else ax
        handles = []
        for number, variant in enumerate(variants):
            look = series_look(number, colors)
            own = frame[frame["variant"] == variant]
            places = np.array([_place(frame, designs, design, variant) for design in own["design"]])
            ax.hlines(places, own["ci_low"], own["ci_high"], color=look.color, linewidth=0.9, gid=f"interval-{variant}")
            ax.plot(own["perplexity"], places, color=look.color, marker=look.marker, markersize=4, linestyle="none",
                    gid=f"value-{variant}")  # fmt: skip
            handles.append(Line2D([], [], color=look.color, marker=look.marker, markersize=4, linestyle="none"))
        names = shorten_apart(designs, width=fit_columns(ax))
        ax.set_yticks(range(len(designs)), names, parse_math=False)
        ax.set_ylim(len(designs) - 0.5, -0.5)
        ax.grid(axis="both")
        told = tell_shown("design", len(designs), total, "smallest perplexity") if len(designs) < total else ""
        own_title = "Perplexity by design choice"
        room = measure_room(ax, names, own_figure=own_figure)
        set_plain(ax, title=choose_title(title, own_title), xlabel="held-out perplexity", ylabel=told, room=room)
        add_legend(ax, handles, [shorten(variant) for variant in variants], own_figure=own_figure)
    return ax


def _place(frame: pd.DataFrame, designs: list[str], design: str, variant: str) -> float:
    """Return the height of a variant within the row of its design; variants are spaced evenly."""
    present = list(pd.unique(frame.loc[frame["design"] == design, "variant"]))
    return designs.index(design) + 0.6 * ((present.index(variant) + 0.5) / len(present) - 0.5)
