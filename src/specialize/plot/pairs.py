"""Pairs of experts: co-activation within a layer, and flow from layer to layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specialize.names import shorten
from specialize.plot.cells import choose_limit, draw_cells, log2_ratio
from specialize.plot.frames import only_value, select_rows, set_plain
from specialize.plot.load import power_of_two
from specialize.plot.style import COLUMN_WIDTH, PAGE_WIDTH, new_axes, use_style


def coactivation(
    frame: pd.DataFrame, *, layer: int, run_name: str | None = None, routing: str = "learned", ax: Axes | None = None
) -> Axes:
    """Draw how often two experts of a layer are chosen for the same token, relative to chance.

    A cell is N(i, j) / N(i) divided by its expectation under the observed loads, on a log2 scale: white is chance.

    Args:
        frame: result frame with rows of ``coactivation`` (``expert`` i, ``label`` j, ``null_mean`` chance).
        layer: layer number as the frame has it.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds log2 of the ratio, [expert, expert]; NaN where there is none.

    Raises:
        MeasurementError: the frame has no such rows, or several runs and none was named.
    """
    rows = select_rows(frame, metric="coactivation", run_name=run_name, layer=layer, routing=routing)
    return _draw_pairs(
        rows, layer, ("Co-activation", "observed ÷ expected by chance", "expert", "expert chosen with it"), ax
    )


def layer_flow(
    frame: pd.DataFrame, *, layer: int, run_name: str | None = None, routing: str = "learned", ax: Axes | None = None
) -> Axes:
    """Draw how often each expert of a layer is followed by each expert of the next, relative to chance.

    A cell is P(next expert | expert) / P(next expert), on a log2 scale: white is chance.

    Args:
        frame: result frame with rows of ``transition`` (``expert`` of this layer, ``label`` of the next).
        layer: the earlier layer, numbered as the frame has it.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
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
    return _draw_pairs(rows, layer, names, ax)


def _draw_pairs(rows: pd.DataFrame, layer: int, names: tuple[str, str, str, str], ax: Axes | None) -> Axes:
    run_name = only_value(rows, "run")
    ratio = _tabulate(rows)
    with use_style():
        width = float(np.clip(0.28 * ratio.shape[1] + 1.3, COLUMN_WIDTH, PAGE_WIDTH))
        if ax is None:
            ax = new_axes(width, (width - 1.1) * ratio.shape[0] / ratio.shape[1] + 1.0)
        limit = choose_limit(ratio.to_numpy())
        draw_cells(
            ax,
            ratio,
            limit,
            xticklabels=max(1, ratio.shape[1] // 16),
            yticklabels=max(1, ratio.shape[0] // 16),
        )
        ax.tick_params(axis="y", rotation=0)
        title, quantity, rows_name, columns_name = names
        set_plain(
            ax, title=f"{title}\n{shorten(run_name, width=30)}, layer {layer}", xlabel=columns_name, ylabel=rows_name
        )
        bar = ax.figure.colorbar(ax.collections[0], ax=ax, shrink=0.8, pad=0.03)
        exponents = np.arange(-np.floor(limit), np.floor(limit) + 1)
        bar.set_ticks(exponents.tolist(), labels=[power_of_two(exponent) for exponent in exponents])
        bar.outline.set_visible(False)
        bar.set_label(quantity)
    return ax


def _tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """Return log2 of value over chance, [expert, label], with every index from 0 to the largest."""
    rows = rows[rows["expert"].notna() & rows["label"].notna()]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = rows["value"].to_numpy() / rows["null_mean"].to_numpy()
    table = pd.DataFrame({"i": rows["expert"].astype(int), "j": rows["label"].astype(int), "ratio": log2_ratio(ratio)})
    table = table.pivot_table(index="i", columns="j", values="ratio", dropna=False)
    return table.reindex(index=range(table.index.max() + 1), columns=range(table.columns.max() + 1))
