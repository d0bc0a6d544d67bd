"""The cells of a heat map, on a diverging colour scale that is white at a ratio of 1."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch

from specialize.plot.style import CENTER, LIFT_COLORS, MUTED, NO_DATA

_HATCH = "#a9adb3"
QUANTILE = 0.98  # of the values, at which colours end where the largest would leave the others without colour
_DENSE = 1500  # cells from which the mesh is embedded as an image
_LIMITS = (1.0, 5.0)  # the colours span at least 1/2 to 2 and at most 1/32 to 32


def log2_ratio(ratio: Any) -> Any:
    """Return log2 of an array or frame; 0 becomes -60, because a mesh treats minus infinity as missing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(ratio).clip(-60.0, 60.0)


def choose_limit(cells: np.ndarray) -> float:
    """Return half the span of the colours for log2 ratios: the largest excess; strong deficits are clipped there.

    Where the largest are far beyond nearly all others, the span ends at a quantile, by `end_colors`.
    """
    excess = cells[np.isfinite(cells) & (cells > 0)]
    return float(np.clip(np.ceil(2 * end_colors(excess)) / 2, *_LIMITS))


def end_colors(values: np.ndarray) -> float:
    """Return where colours end for positive `values`: their maximum, or a quantile if that is less than half of it."""
    if not values.size:
        return 0.0
    quantile = float(np.quantile(values, QUANTILE))
    return quantile if quantile < values.max() / 2 else float(values.max())


def draw_cells(ax: Axes, table: pd.DataFrame, limit: float, **options: Any) -> None:
    """Draw `table` as a mesh with the gid ``cells``, colours from -`limit` to `limit`, NaN in grey.

    Args:
        ax: axes to draw on.
        table: [rows, columns], float.
        limit: value of the darkest colour.
        options: of `seaborn.heatmap`: annotations and tick labels.
    """
    dense = table.size > _DENSE
    seaborn.heatmap(
        table,
        ax=ax,
        cmap=LIFT_COLORS,
        vmin=-limit,
        vmax=limit,
        mask=table.isna(),
        cbar=False,
        linewidths=0 if dense else 0.4,
        linecolor="none",
        rasterized=dense,
        **options,
    )
    ax.collections[0].set_gid("cells")
    ax.set_facecolor(NO_DATA)
    color_numbers(ax, table)


def color_numbers(ax: Axes, table: pd.DataFrame) -> None:
    """Give the numbers in the cells of a mesh of `table` a colour that is legible on their cell."""
    mesh = ax.collections[0]
    for text in ax.texts:
        column, row = (int(place) for place in text.get_position())
        text.set_color(_ink_on(mesh.get_cmap()(mesh.norm(table.iat[row, column]))))


def mark_insignificant(ax: Axes, faint: np.ndarray, *, hatch: bool, reason: str) -> list[Patch]:
    """Hatch the cells [rows, columns] that are True, or veil them where a hatch has no room; return the legend.

    `reason` says in the legend what these cells have in common.
    """
    if not faint.any():
        return []
    if hatch:
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
        cells = np.argwhere(faint)[:, None, ::-1] + corners  # [cells, 4 corners, x and y]
        look: dict[str, Any] = {"facecolor": "none", "edgecolor": _HATCH, "hatch": "//////", "linewidth": 0.0}
        ax.add_collection(PolyCollection(cells, gid="not-significant", **look), autolim=False)
        return [Patch(**look, label=f"hatched: {reason}")]
    veil = np.ma.masked_where(~faint, np.ones(faint.shape))
    ax.pcolormesh(veil, cmap=ListedColormap([CENTER]), alpha=0.7, gid="not-significant", rasterized=True)
    return [Patch(facecolor=CENTER, edgecolor=MUTED, linewidth=0.4, label=f"faded: {reason}")]


def add_notes(ax: Axes, notes: list[Patch]) -> None:
    """Write the meaning of marks below the axes, at the right."""
    place: Any = {"loc": "outside lower right"} if ax.figure.get_layout_engine() is not None else {"loc": "lower right"}
    longest = max((len(str(note.get_label())) for note in notes), default=0)
    columns = int(ax.figure.bbox.width / ax.figure.dpi / (0.35 + 0.05 * longest))
    ax.figure.legend(handles=notes, ncols=max(1, min(len(notes), columns)), fontsize=6.5, handlelength=1.6, **place)


def _ink_on(color: Any) -> str:
    """Return black or white, whichever has more contrast with a colour: 4.58 at least (relative luminance, WCAG 2).

    Not the style's ink, which a page inverts in dark mode; the colours of cells stay.
    """
    channels = np.asarray(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"
