"""The load of the experts of each layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specialize.names import name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.profile import mark_layers
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import INK, MUTED, PALETTE, new_axes, use_style

_COLUMN = 0.72  # share of a layer's width that its experts occupy
_DENSE = 4000  # points from which they are embedded as an image
_ID = 0.115  # inches from one id of an expert to the next, turned by 90 degrees
_LOWEST = 2.0**-6  # loads below 1/64 of the uniform load, unused experts included, are drawn at the bottom


def expert_load(
    frame: pd.DataFrame,
    *,
    layer: int | None = None,
    run_name: str | None = None,
    label_set: str | None = None,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the load of every expert divided by the uniform load 1/E, by layer, experts sorted by load.

    With one layer the ids of the experts stand below the points, as many as are legible.

    A point at 2 receives twice the mass that it would receive under uniform load. Experts below 1/64 of the uniform
    load, unused ones included, are crosses at the bottom of the figure.

    Args:
        frame: result frame with rows of ``load`` (share of the layer's mass, by expert) of the model's own router.
        layer: one layer; by default all.
        run_name: required if the frame holds several.
        label_set: required if the frame holds loads counted for several label sets.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes; the points have the gid ``load``, the crosses ``load-lowest``.

    Raises:
        MeasurementError: the frame has no such rows, or several runs or label sets and none was named.
    """
    rows = select_rows(frame, metric="load", run_name=run_name, layer=layer, label_set=label_set, routing="learned")
    rows = rows[rows["layer"].notna() & rows["value"].notna()]
    only_value(rows, "label_set")
    run_name = only_value(rows, "run")
    with use_style():
        ax = new_axes(COLUMN_WIDTH, 2.4) if ax is None else ax
        layers = np.unique(rows["layer"])
        points = [_rank(part)[1] for _, part in rows.groupby("layer")]
        x, relative = np.concatenate(points).T if points else np.empty((2, 0))
        drawn = relative >= _LOWEST
        size = float(np.clip(60 / max(len(x) / max(len(layers), 1), 1), 2.5 if len(layers) <= 40 else 1.2, 14))
        ax.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="load-even")
        ax.scatter(
            x[drawn],
            relative[drawn],
            s=size,
            color=PALETTE[0],
            linewidths=0,
            zorder=3,
            gid="load",
            rasterized=len(x) > _DENSE,
        )
        if not drawn.all():
            ax.scatter(x[~drawn], np.full((~drawn).sum(), _LOWEST), s=size + 6, color=INK, marker="x",
                       linewidths=0.8, clip_on=False, zorder=4, gid="load-lowest")  # fmt: skip
        _scale(ax, relative, all_drawn=bool(drawn.all()))
        what = "by layer, experts sorted by load"
        mark_layers(ax, layers)
        if len(layers) == 1:
            what = f"layer {layers[0]:g}"
            _mark_experts(ax, rows)
        name = name_quantity("load", None)
        set_plain(
            ax,
            title=choose_title(title, f"{name.title}\n{shorten(run_name, width=30)}, {what}"),
            xlabel="layer" if len(layers) != 1 else "expert, sorted by load",
            ylabel=name.axis,
        )
        ax.grid(axis="y")
    return ax


def _rank(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the experts of a layer by load, and [experts, 2]: x within its column, and load times their number."""
    part = part.sort_values("value", ascending=False, kind="stable")
    relative = part["value"].to_numpy() * len(part)
    spread = (np.arange(len(part)) + 0.5) / len(part) - 0.5
    return part["expert"].to_numpy(), np.column_stack([part["layer"].to_numpy() + _COLUMN * spread, relative])


def _mark_experts(ax: Axes, rows: pd.DataFrame) -> None:
    """Put the ids of the experts of one layer below their points, every n-th where all would overlap."""
    experts, points = _rank(rows)
    room = 0.8 * ax.bbox.width / ax.figure.dpi / max(len(experts), 1)
    every = max(1, int(np.ceil(_ID / room)))
    low, high = points[0, 0], points[-1, 0]
    margin = max(high - low, _COLUMN / 4) * 0.04
    ax.set_xticks(points[::every, 0], [f"{expert:g}" for expert in experts[::every]], parse_math=False)
    ax.tick_params(axis="x", rotation=90 if every > 1 or room < 3 * _ID / 2 else 0, labelsize=6)
    ax.set_xlim(low - margin, high + margin)


def _scale(ax: Axes, relative: np.ndarray, *, all_drawn: bool) -> None:
    positive = relative[relative >= _LOWEST]
    high = max(1.0, float(np.ceil(np.log2(positive.max()) + 0.03))) if positive.size else 1.0
    low = min(-1.0, float(np.floor(np.log2(positive.min()) - 0.03))) if positive.size else -1.0
    low = low if all_drawn else float(np.log2(_LOWEST))
    ax.set_yscale("log", base=2)
    ax.set_ylim(2.0 ** (low - 0.15), 2.0**high)
    step = max(1, int(np.ceil((high - low) / 6)))
    exponents = sorted({*np.arange(0, high + 1, step), *np.arange(0, low - 1, -step)})
    exponents = [exponent for exponent in exponents if low <= exponent <= high]
    labels = [power_of_two(exponent) for exponent in exponents]
    if not all_drawn and exponents and exponents[0] == low:
        labels[0] = "≤ " + labels[0]
    ax.set_yticks([2.0**exponent for exponent in exponents], labels, parse_math=False)
    ax.minorticks_off()


def power_of_two(exponent: float) -> str:
    """Return 2 to the power of a whole `exponent`: 1/4, 1, 8."""
    return f"{2 ** int(exponent)}" if exponent >= 0 else f"1/{2 ** int(-exponent)}"
