"""Pairs of experts: co-activation within a layer, and flow from layer to layer."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specialize.names import shorten
from specialize.plot.cells import choose_limit, draw_cells, log2_ratio
from specialize.plot.frames import AUTO, choose_title, only_value, select_rows, set_plain
from specialize.plot.label_cells import choose_extend, finish_color_bar
from specialize.plot.sizes import choose_limits
from specialize.plot.style import new_axes, use_style

_ACROSS, _DOWN = 0.21, 0.14  # inches from one id of three digits to the next
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def coactivation(
    frame: pd.DataFrame,
    *,
    layer: int,
    run_name: str | None = None,
    routing: str = "learned",
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often two experts of a layer are chosen for the same token, relative to chance.

    A cell is N(i, j) / N(i) divided by its expectation under the observed loads, on a log2 scale: white is chance.

    Args:
        frame: result frame with rows of ``coactivation`` (``expert`` i, ``label`` j, ``null_mean`` chance).
        layer: layer number as the frame has it.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds log2 of the ratio, [expert, expert]; NaN where there is none.

    Raises:
        MeasurementError: the frame has no such rows, or several runs and none was named.
    """
    rows = select_rows(frame, metric="coactivation", run_name=run_name, layer=layer, routing=routing)
    names = ("Co-activation", "observed ÷ expected by chance", "expert", "expert chosen with it")
    return _draw_pairs(rows, layer, _Names(*names, given=title), ax)


def layer_flow(
    frame: pd.DataFrame,
    *,
    layer: int,
    run_name: str | None = None,
    routing: str = "learned",
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each expert of a layer is followed by each expert of the next, relative to chance.

    A cell is P(next expert | expert) / P(next expert), on a log2 scale: white is chance.

    Args:
        frame: result frame with rows of ``transition`` (``expert`` of this layer, ``label`` of the next).
        layer: the earlier layer, numbered as the frame has it.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds log2 of the ratio, [expert, next expert].

    Raises:
        MeasurementError: the frame has no such rows, or several runs and none was named.
    """
    rows = select_rows(frame, metric="transition", run_name=run_name, layer=layer, routing=routing)
    names = (
        "Flow to the next layer",
        "P(next | expert) / P(next)",
        f"expert of layer {layer}",
        "expert of the next layer",
    )
    return _draw_pairs(rows, layer, _Names(*names, given=title), ax)


@dataclass(frozen=True)
class _Names:
    """What a figure of pairs calls what it draws, and the title that the caller gave."""

    title: str
    quantity: str
    rows: str
    columns: str
    given: str | None


def _draw_pairs(rows: pd.DataFrame, layer: int, names: _Names, ax: Axes | None) -> Axes:
    run_name = only_value(rows, "run")
    ratio = _tabulate(rows)
    with use_style():
        if ax is None:
            width = float(np.clip(0.28 * ratio.shape[1] + 1.3, *choose_limits()))
            ax = new_axes(width, (width - 1.1) * ratio.shape[0] / ratio.shape[1] + 1.0)
        cells = ratio.to_numpy()
        limit = choose_limit(cells)
        draw_cells(ax, ratio, limit, xticklabels=False, yticklabels=False)
        side = ax.bbox.width / ax.figure.dpi * 0.75  # colour bar and labels take the rest
        ax.set_xticks(*_spread_experts(ratio.shape[1], side, _ACROSS), parse_math=False)
        ax.set_yticks(*_spread_experts(ratio.shape[0], side * ratio.shape[0] / ratio.shape[1], _DOWN), parse_math=False)
        ax.tick_params(axis="both", rotation=0, length=2)
        set_plain(
            ax,
            title=choose_title(names.given, f"{names.title}\n{shorten(run_name, width=30)}, layer {layer}"),
            xlabel=names.columns,
            ylabel=names.rows,
        )
        bar = ax.figure.colorbar(ax.collections[0], ax=ax, extend=choose_extend(cells, limit), shrink=0.8, pad=0.03)
        finish_color_bar(bar, cells, limit, log2=True)
        bar.set_label(names.quantity)
    return ax


def _spread_experts(count: int, inches: float, each: float) -> tuple[list[float], list[str]]:
    """Return places and ids of experts 0, n, 2n, … whose ids have room, `each` inches apart at least."""
    step = next(step for step in _STEPS if step * inches / max(count, 1) >= each or step >= count)
    shown = range(0, count, step)
    return [place + 0.5 for place in shown], [str(place) for place in shown]


def _tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """Return log2 of value over chance, [expert, label], with every index from 0 to the largest."""
    rows = rows[rows["expert"].notna() & rows["label"].notna()]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = rows["value"].to_numpy() / rows["null_mean"].to_numpy()
    table = pd.DataFrame({"i": rows["expert"].astype(int), "j": rows["label"].astype(int), "ratio": log2_ratio(ratio)})
    table = table.pivot_table(index="i", columns="j", values="ratio", dropna=False)
    return table.reindex(index=range(table.index.max() + 1), columns=range(table.columns.max() + 1))
