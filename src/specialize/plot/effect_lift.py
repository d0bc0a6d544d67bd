"""Association against function: the lift of each expert and label, and what the expert is worth to the label."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap

from specialize.errors import MeasurementError, did_you_mean
from specialize.names import name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, complete_frame, only_value, select_rows, set_plain
from specialize.plot.load import power_of_two
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import INK, MUTED, new_axes, use_style
from specialize.text import format_number

AGREEMENTS = {"per_use_effect": "per_use_agreement", "effect": "total_agreement"}
"""The rank correlation with lift of each metric that `effect_against_lift` draws."""
_LOWEST, _HIGHEST = 2.0**-6, 2.0**6
_MOST_INTERVALS = 300  # points beyond which their intervals would cover each other
_DENSE = 1500  # points from which they are embedded as an image
_FAINT = 0.3  # opacity of points that say little
_REACH = 1.5  # of the axis, times the span from the 1st to the 99th percentile of the points


def effect_against_lift(
    frame: pd.DataFrame,
    *,
    metric: str = "per_use_effect",
    label_set: str | None = None,
    run_name: str | None = None,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the effect of switching an expert off on a label against their lift, a point for each expert and label.

    Lift is on a log2 scale; colours are layers. Vertical lines are 95 % intervals, drawn up to 300 points; points are
    faint where the interval is wider than half of the axis, or missing. Lifts beyond 1/64 and 64 and effects far beyond
    those of nearly all cells are drawn at the border. The title holds the rank correlation of both, the mean over
    layers, with its interval, and corrected for noise.

    Args:
        frame: result frame of ``specialize ablate`` with rows of ``lift``, of `metric`, and of the agreement.
        metric: ``per_use_effect`` or ``effect``. The latter rises with the use of the expert, as lift does.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. The points have the gid ``cells``, their intervals ``interval``.

    Raises:
        MeasurementError: an unknown metric, the frame has no such rows, or several label sets or runs and none was
            named.
    """
    if metric not in AGREEMENTS:
        raise MeasurementError(
            f"metric: expected one of {', '.join(AGREEMENTS)}, got {metric!r}.{did_you_mean(metric, AGREEMENTS)}"
        )
    effects = select_rows(_of_cells(frame), metric=metric, label_set=label_set, run_name=run_name, routing="learned")
    label_set, run_name = only_value(effects, "label_set"), only_value(effects, "run")
    lift = select_rows(_of_cells(frame), metric="lift", label_set=label_set, run_name=run_name, routing="learned")
    keys = ["layer", "expert", "label"]
    cells = effects.merge(lift[[*keys, "value"]].drop_duplicates(keys), on=keys, suffixes=("", "_lift"))
    cells = cells[cells["value"].notna() & cells["value_lift"].notna()]
    # in random order, so that no layer covers the others
    cells = cells.iloc[np.random.default_rng(0).permutation(len(cells))]
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 2.9) if ax is None else ax
        ax.axhline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="zero")
        ax.axvline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="even")
        low, high = _reach(cells["value"].to_numpy())
        _draw_points(ax, cells, np.unique(effects["layer"]), (low, high))
        _scale(ax, cells["value_lift"].to_numpy())
        ax.set_ylim(low, high)
        ax.locator_params(axis="y", nbins=6)
        ax.grid(axis="y")
        quantity = name_quantity(metric, label_set)
        what = quantity.axis.partition(",")[0]
        set_plain(
            ax,
            title=choose_title(
                title,
                f"{what.capitalize()} against lift\n{shorten(run_name, width=40)}"
                + _tell_agreement(frame, metric, label_set, run_name),
            ),
            xlabel=name_quantity("lift", label_set).axis,
            ylabel=quantity.axis,
            room=ax.figure.bbox.width / ax.figure.dpi - 0.85 if own_figure else None,
        )
    return ax


def _of_cells(frame: pd.DataFrame) -> pd.DataFrame:
    rows = complete_frame(frame)
    return rows[rows["expert"].notna() & rows["label"].notna()]


def _reach(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the axis of effects: what nearly all values need, and 0."""
    if not values.size:
        return -1.0, 1.0
    low, high = np.percentile(values, (1, 99))
    middle, half = (low + high) / 2, max(_REACH * (high - low) / 2, 1e-9)
    low, high = max(middle - half, values.min()), min(middle + half, values.max())
    low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _is_vague(cells: pd.DataFrame, ends: tuple[float, float]) -> np.ndarray:
    """Return whether the interval of a point is missing or wider than half of the axis; False if none has one."""
    width = (cells["ci_high"] - cells["ci_low"]).to_numpy()
    return np.isfinite(width).any() & ~(width <= (ends[1] - ends[0]) / 2)


def _draw_points(ax: Axes, cells: pd.DataFrame, layers: np.ndarray, ends: tuple[float, float]) -> None:
    x = cells["value_lift"].to_numpy().clip(_LOWEST, _HIGHEST)
    y = cells["value"].to_numpy().clip(*ends)
    colors = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.3, 0.92, max(len(layers), 1))))
    number = np.searchsorted(layers, cells["layer"])
    if len(cells) <= _MOST_INTERVALS:
        low, high = (cells[name].to_numpy().clip(*ends) for name in ("ci_low", "ci_high"))
        look: dict[str, Any] = {"linewidth": 0.5, "alpha": 0.35, "zorder": 2}
        ax.vlines(x, low, high, colors=colors(number), gid="interval", **look)
    opacity: Any = np.where(_is_vague(cells, ends), _FAINT, 0.85 if len(cells) <= _DENSE else 0.6)
    points = ax.scatter(
        x,
        y,
        c=number,
        cmap=colors,
        norm=BoundaryNorm(np.arange(len(layers) + 1) - 0.5, colors.N) if len(layers) > 1 else None,
        s=float(np.clip(2400 / max(len(cells), 1), 2.5, 14)),
        linewidths=0,
        alpha=opacity if len(cells) else None,
        rasterized=len(cells) > _DENSE,
        zorder=3,
        gid="cells",
    )
    if len(layers) > 1:
        bar = ax.figure.colorbar(ScalarMappable(points.norm, colors), ax=ax, pad=0.02, aspect=24)
        shown = np.arange(0, len(layers), max(1, int(np.ceil(len(layers) / 12))))
        bar.set_ticks(shown.tolist(), labels=[f"{layers[place]:g}" for place in shown])
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=6.5, labelcolor=INK)
        bar.ax.set_title("layer", fontsize=6.5, loc="right", pad=6)


def _scale(ax: Axes, lift: np.ndarray) -> None:
    drawn = np.log2(lift.clip(_LOWEST, _HIGHEST))
    low = min(-1.0, float(np.floor(drawn.min(initial=0.0))))
    high = max(1.0, float(np.ceil(drawn.max(initial=0.0))))
    ax.set_xscale("log", base=2)
    ax.set_xlim(2.0 ** (low - 0.2), 2.0 ** (high + 0.2))
    exponents = np.arange(low, high + 1, max(1, int(np.ceil((high - low) / 6))))
    labels = [power_of_two(exponent) for exponent in exponents]
    if (lift < _LOWEST).any():
        labels[0] = "≤ " + labels[0]
    if (lift > _HIGHEST).any() and exponents[-1] == high:
        labels[-1] = "≥ " + labels[-1]
    ax.set_xticks(2.0**exponents, labels, parse_math=False)
    ax.minorticks_off()


def _tell_agreement(frame: pd.DataFrame, metric: str, label_set: str, run_name: str) -> str:
    """Return the agreement over all layers as lines of a title; nothing where the frame has none."""
    rows = complete_frame(frame)
    rows = rows[rows["layer"].isna() & (rows["label_set"] == label_set) & (rows["run"] == run_name)]
    found = rows.drop_duplicates("metric").set_index("metric")
    name = AGREEMENTS[metric]
    if name not in found.index or not np.isfinite(found.at[name, "value"]):
        return ""
    row = found.loc[name]
    told = f"\nrank correlation {format_number(row['value'], digits=2)}"
    if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
        told += f" [{format_number(row['ci_low'], digits=2)}, {format_number(row['ci_high'], digits=2)}]"
    corrected = found["value"].get(f"corrected_{name}", np.nan)
    more = f"; corrected for noise: {format_number(corrected, digits=2)}" if np.isfinite(corrected) else ""
    return f"{told}\nmean over layers{more}"
