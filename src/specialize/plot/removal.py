"""The loss against the number of experts that are switched off, by the order in which they are chosen."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from specialize.errors import MeasurementError
from specialize.names import REMOVED_BY, name_quantity, shorten
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.profile import add_legend
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, Palette, new_axes, read_palette, series_look, use_style

_SPREAD = 0.09  # in log2 of the number, so that intervals of rankings do not overlap
_NAMES = {"saliency": "saliency", "load": "load", "lift": "largest lift", "random": "random order"}


def removal_curves(
    frame: pd.DataFrame,
    *,
    run_name: str | None = None,
    title: str | None = AUTO,
    palette: Palette | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the rise of the mean loss against the number of experts switched off together, a line for each ranking.

    Experts of all layers are switched off in the order of saliency, load or lift, largest first, or in random order.
    Numbers are on a log2 scale; vertical bars are 95 % intervals.

    Args:
        frame: result frame of ``specialize ablate`` with rows of ``removal_effect``: ``label_set`` is
            ``removed_by_RANKING``, ``label`` the number of experts.
        run_name: required if the frame holds several.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        palette: colours of the rankings, as matplotlib names them, or the name of a palette of seaborn.
        ax: axes to draw on; by default those of a new figure, one column wide.

    Returns:
        The axes. The line of RANKING has the gid ``value-RANKING``, its intervals ``interval-RANKING``.

    Raises:
        MeasurementError: the frame has no such rows, a label is no number of experts, or several runs and none was
            named.
    """
    rows = select_rows(frame, metric="removal_effect", run_name=run_name)
    run_name = only_value(rows, "run")
    rows = rows.assign(ranking=rows["label_set"].astype(str).str.removeprefix(REMOVED_BY), number=_read_numbers(rows))
    present = list(pd.unique(rows["ranking"]))
    order = [name for name in _NAMES if name in present] + [name for name in present if name not in _NAMES]
    colors = read_palette(palette)
    with use_style():
        own_figure = ax is None
        ax = new_axes(COLUMN_WIDTH, 2.7) if ax is None else ax
        ax.axhline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, gid="zero")
        handles: list[Any] = []
        offsets = _SPREAD * (np.arange(len(order)) - (len(order) - 1) / 2)
        for place, (ranking, offset) in enumerate(zip(order, offsets, strict=True)):
            own = rows[rows["ranking"] == ranking].sort_values("number")
            look, x = series_look(place, colors), own["number"].to_numpy() * 2.0**offset
            ax.vlines(x, own["ci_low"], own["ci_high"], color=look.color, linewidth=0.9, gid=f"interval-{ranking}")
            line: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.0}
            dashed: Any = (0, (3, 1.6)) if ranking == "random" else "-"
            ax.plot(x, own["value"], linestyle=dashed, gid=f"value-{ranking}", zorder=3, **line)
            handles.append(Line2D([], [], linestyle=dashed, **line))
        _mark_numbers(ax, np.unique(rows["number"]))
        ax.grid(axis="y")
        ax.locator_params(axis="y", nbins=6)
        name = name_quantity("removal_effect", None)
        set_plain(
            ax,
            title=choose_title(title, f"{name.title}\n{shorten(run_name, width=34)}"),
            xlabel="experts switched off, of all layers",
            ylabel=name.axis,
        )
        names = [_NAMES.get(ranking, shorten(ranking)) for ranking in order]
        add_legend(ax, handles, names, own_figure=own_figure)
    return ax


def _read_numbers(rows: pd.DataFrame) -> pd.Series:
    numbers = pd.to_numeric(rows["label"], errors="coerce").astype(float)
    if not (numbers > 0).all():
        wrong = rows.loc[~(numbers > 0), "label"].iloc[0]
        raise MeasurementError(f"label: expected a number of experts in rows of removal_effect, got {wrong!r}")
    return numbers


def _mark_numbers(ax: Axes, numbers: np.ndarray) -> None:
    """Put ticks at the numbers measured, no closer than the width of their text."""
    ax.set_xscale("log", base=2)
    least = np.log2(numbers.max() / numbers.min()) / 9 if len(numbers) else 0.0
    shown: list[float] = []
    for number in numbers:
        if not shown or np.log2(number / shown[-1]) >= least:
            shown.append(number)
    ax.set_xticks(shown, [f"{number:g}" for number in shown], parse_math=False)
    ax.minorticks_off()
    if len(numbers):
        ax.set_xlim(numbers.min() / 1.35, numbers.max() * 1.35)
