"""What switching off each expert of a layer does to the loss of each label, beside the lift of the same cells."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from specialize.errors import MeasurementError, did_you_mean
from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.cells import add_notes, choose_limit, draw_cells, end_colors, log2_ratio, mark_insignificant
from specialize.plot.frames import AUTO, choose_title, complete_frame, only_value, select_rows, set_plain
from specialize.plot.label_cells import (
    Layout,
    add_color_bar,
    choose_labels,
    find_insignificant,
    lay_out,
    mark_axes,
    order_labels,
    tabulate_labels,
)
from specialize.plot.labels import SMALLEST_ROW, fit_rows, tell_shown
from specialize.plot.style import NO_DATA, use_style
from specialize.text import format_number

EFFECTS = ("effect", "per_use_effect", "effect_selectivity")
"""Metrics that `effect_heatmap` draws."""


def effect_heatmap(
    frame: pd.DataFrame,
    *,
    layer: int,
    metric: str = "effect",
    label_set: str | None = None,
    run_name: str | None = None,
    most: int = 40,
    alpha: float = 0.05,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw the effect of switching off each expert (columns) on each label (rows), beside the lift of the same cells.

    The effect, in bits, is on a linear scale centred at 0, which is white; the lift on a log2 scale centred at 1.
    Experts are sorted by their largest value, labels by the expert with their largest value; both panels have the same
    order. Cells whose q-value exceeds `alpha`, or where there is no q-value whose interval includes 0, are hatched, or
    faded where cells are too small for a hatch; colours end at the largest of the other values, or at their 98 %
    quantile if it is less than half of that, and the bar says how far cells go beyond. Cells without a value are grey.

    Args:
        frame: result frame of ``specialize ablate`` with a row of `metric` for each label and expert, and of ``lift``.
        layer: layer number as the frame has it.
        metric: one of `EFFECTS`.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        most: the most labels to draw: those with the largest significant values. The axis says how many are left out.
        alpha: q-value up to which a cell counts as significant.
        title: title of the axes of the effect; ``auto`` says what is drawn, None leaves titles out.
        ax: axes to draw the effect on, without the lift; by default those of a new figure with a panel for each.

    Returns:
        The axes of the effect. Its mesh has the gid ``cells`` and holds bits, [labels, experts] in drawing order; the
        mesh of the lift has the gid ``lift`` and holds log2 lift.

    Raises:
        MeasurementError: an unknown metric, the frame has no such rows, or several label sets or runs and none was
            named.
    """
    if metric not in EFFECTS:
        raise MeasurementError(
            f"metric: expected one of {', '.join(EFFECTS)}, got {metric!r}.{did_you_mean(metric, EFFECTS)}"
        )
    rows = select_rows(
        _of_cells(frame), metric=metric, label_set=label_set, run_name=run_name, layer=layer, routing="learned"
    )
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    values = tabulate_labels(rows, "value").astype(float)
    largest = values.max().fillna(-np.inf)
    values = values[sorted(values.columns, key=lambda expert: (-largest[expert], expert))]
    total = len(values)
    values = choose_labels(values, _find_faint(rows, values, alpha), fit_rows(ax, most, row=SMALLEST_ROW))
    values = values.iloc[order_labels(values)]
    with use_style():
        panels = 1 if ax is not None else 2
        layout = lay_out([str(name) for name in values.index], values.shape[1], panels=panels, ax=ax)
        beside = None
        if ax is None:
            figure = Figure(figsize=(layout.width, layout.height), layout="constrained")
            ax, beside = figure.subplots(*((2, 1) if layout.stacked else (1, 2)))
        notes = _draw_effect(ax, rows, values, layout, alpha)
        quantity = name_quantity(metric, label_set)
        room = layout.cell_width * values.shape[1] + 0.4
        set_plain(
            ax,
            title=choose_title(title, f"{quantity.title}\n{shorten(run_name, width=30)}, layer {layer}"),
            xlabel="expert, sorted by its largest value",
            ylabel=tell_shown(name_label_set(label_set).axis, len(values), total, "largest effect"),
            room=room,
        )
        if beside is not None:
            lift = _of_cells(frame)
            for column, value in {"metric": "lift", "label_set": label_set, "run": run_name, "layer": layer}.items():
                lift = lift[lift[column] == value]
            notes += _draw_lift(beside, lift, values, layout)
            lift_name = "" if title is None else name_quantity("lift", label_set).title
            set_plain(beside, title=lift_name, xlabel="expert, in the same order", room=room)
        if notes:
            add_notes(ax, list({note.get_label(): note for note in notes}.values()))
    return ax


def _of_cells(frame: pd.DataFrame) -> pd.DataFrame:
    rows = complete_frame(frame)
    return rows[rows["expert"].notna() & rows["label"].notna()]


def _draw_effect(ax: Axes, rows: pd.DataFrame, values: pd.DataFrame, layout: Layout, alpha: float) -> list[Patch]:
    tested = bool(rows["q_value"].notna().any())
    faint = _find_faint(rows, values, alpha)
    cells = values.to_numpy()
    clear = np.abs(cells[np.isfinite(cells) & ~faint])
    limit = end_colors(clear if clear.size else np.abs(cells[np.isfinite(cells)])) or 1.0
    written = _write_values(cells, faint, limit)
    longest = max(map(len, written.ravel()), default=0)
    roomy = layout.cell_width >= 0.06 + 0.048 * longest and layout.cell_height >= 0.13
    _draw(ax, values, layout, limit=limit, annot=written if roomy else None)
    add_color_bar(ax, limit, (cells, layout), name="bits", log2=False)
    hatched = min(layout.cell_width, layout.cell_height) >= 0.1
    reason = f"q > {alpha:g}" if tested else "95 % interval includes 0"
    return mark_insignificant(ax, faint, hatch=hatched, reason=reason) + _note_missing(values)


def _find_faint(rows: pd.DataFrame, values: pd.DataFrame, alpha: float) -> np.ndarray:
    tested = bool(rows["q_value"].notna().any())
    return find_insignificant(rows, values, alpha) if tested else _find_unclear(rows, values)


def _find_unclear(rows: pd.DataFrame, values: pd.DataFrame) -> np.ndarray:
    low, high = (
        tabulate_labels(rows, name).reindex(index=values.index, columns=values.columns)
        for name in ("ci_low", "ci_high")
    )
    return ((low <= 0) & (high >= 0) & values.notna()).to_numpy()


def _draw_lift(ax: Axes, rows: pd.DataFrame, values: pd.DataFrame, layout: Layout) -> list[Patch]:
    table = tabulate_labels(rows, "value") if len(rows) else values * np.nan
    scaled = log2_ratio(table.reindex(index=values.index, columns=values.columns).astype(float))
    limit = choose_limit(scaled.to_numpy())
    _draw(ax, scaled, layout, limit=limit, annot=None)
    ax.collections[0].set_gid("lift")
    if not layout.stacked:
        ax.set_yticks([])
    add_color_bar(ax, limit, (scaled.to_numpy(), layout), name="lift", log2=True)
    return _note_missing(scaled)


def _draw(ax: Axes, table: pd.DataFrame, layout: Layout, *, limit: float, annot: np.ndarray | None) -> None:
    look = {"fontsize": 6, "parse_math": False}
    draw_cells(ax, table, limit, annot=annot, fmt="", annot_kws=look, xticklabels=False, yticklabels=False)
    mark_axes(ax, table, layout)


def _write_values(cells: np.ndarray, faint: np.ndarray, limit: float) -> np.ndarray:
    """Return the values with as many decimals as the largest needs for two digits; nothing where they are faint."""
    digits = int(np.clip(1 - np.floor(np.log10(limit)), 0, 4))
    texts = [
        "" if hidden or not np.isfinite(cell) else format_number(cell, digits=digits)
        for cell, hidden in zip(cells.ravel(), faint.ravel(), strict=True)
    ]
    return np.array(texts, dtype=object).reshape(cells.shape)


def _note_missing(table: pd.DataFrame) -> list[Patch]:
    missing = bool(table.isna().to_numpy().any())
    return [Patch(facecolor=NO_DATA, edgecolor="none", label="no value")] if missing else []
