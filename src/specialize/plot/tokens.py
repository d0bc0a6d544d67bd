"""The tokens that each expert receives, as a table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specialize.errors import MeasurementError
from specialize.names import shorten, show_space
from specialize.plot.frames import AUTO, choose_title, set_plain
from specialize.plot.sizes import choose_limits
from specialize.plot.style import GRID, INK, MUTED, new_axes, use_style
from specialize.text import NO_VALUE, clean_text

_COLUMN = 0.95  # inches of an expert where there is room
_NARROWEST = 0.84
_NEEDED = ("layer", "token", "expert", "rank", "text", "share")


def expert_tokens(
    table: pd.DataFrame,
    *,
    layer: int,
    experts: Sequence[int] | None = None,
    token: str = "input",
    routing: str = "learned",
    most: int = 10,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the token ids of which each expert receives the largest share: one column per expert, one row per rank.

    Each token is followed by the share of its occurrences that the expert receives. Where the figure is too narrow for
    all experts, the columns continue below.

    Args:
        table: top tokens of one run, as `specialize.measure.measure_vocabulary_specialization` returns them.
        layer: layer number as the table has it.
        experts: experts to draw; by default the first eight.
        token: ``input``, ``predicted`` or ``next``.
        routing: ``learned`` or ``random``.
        most: the most ranks to draw.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure, at most one page wide.

    Returns:
        The axes. Each token's text has the gid ``token-EXPERT-RANK``.

    Raises:
        MeasurementError: the table lacks a column or has no such rows.
    """
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise MeasurementError(f"top tokens: expected the columns {', '.join(_NEEDED)}, got no {missing[0]!r}")
    rows = table[(table["layer"] == layer) & (table["token"] == token)]
    if "routing" in rows:
        rows = rows[rows["routing"] == routing]
    present = sorted(int(each) for each in rows["expert"].unique())
    chosen = list(experts) if experts is not None else present[:8]
    if not chosen or not set(chosen) <= set(present):
        raise MeasurementError(
            f"top tokens: expected {token} tokens of experts {chosen} at layer {layer}, the table has "
            f"{f'those of {present[0]} to {present[-1]}' if present else 'none'}"
        )
    rows = rows[rows["expert"].isin(chosen)].sort_values("rank")
    rows = rows.groupby("expert").head(most)
    longest = int(rows.groupby("expert").size().max())
    with use_style():
        width = float(np.clip(0.2 + _COLUMN * len(chosen), *choose_limits()))
        width = width if ax is None else ax.bbox.width / ax.figure.dpi
        across = min(len(chosen), max(1, int((width - 0.1) / _NARROWEST)))
        blocks = -(-len(chosen) // across)
        across = -(-len(chosen) // blocks)  # the blocks are filled evenly
        high = longest + 1.6  # rows of a block: tokens, the expert's name, and a gap
        ax = new_axes(width, 0.4 + 0.17 * high * blocks) if ax is None else ax
        columns = max(5, int((width / across - 0.32) / 0.066))
        for place, expert in enumerate(chosen):
            left, top = place % across, place // across * high
            ax.text(left, top - 1, f"expert {expert}", color=INK, fontweight="bold", fontsize=6.5, va="center")
            for rank, row in enumerate(rows[rows["expert"] == expert].itertuples()):
                known = isinstance(row.text, str) and clean_text(row.text) != ""
                name = show_space(row.text) + shorten(row.text, width=columns - 1) if known else NO_VALUE
                ax.text(left, top + rank, name, color=INK, fontsize=6.5, va="center", gid=f"token-{expert}-{rank}")
                share = f"{row.share:.0%}" if np.isfinite(row.share) else NO_VALUE
                ax.text(left + 0.93, top + rank, share, color=MUTED, fontsize=6, va="center", ha="right")
        lines = (np.arange(longest + 1)[:, None] - 0.5 + high * np.arange(blocks)).ravel()
        ax.hlines(lines, -0.05, across - 0.05, color=GRID, linewidth=0.5, zorder=0)
        ax.set_xlim(-0.05, across - 0.05)
        ax.set_ylim(high * blocks - 2.1, -1.6)
        ax.set_axis_off()
        own_title = f"Layer {layer}: {token} tokens of which each expert receives the largest share"
        set_plain(ax, title=choose_title(title, own_title))
    return ax
