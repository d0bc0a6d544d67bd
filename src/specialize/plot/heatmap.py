"""Labels by experts of one layer, as a heat map."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.cells import add_notes, choose_limit, draw_cells, end_colors, log2_ratio, mark_insignificant
from specialize.plot.frames import AUTO, choose_title, complete_frame, only_value, select_rows, set_plain
from specialize.plot.label_cells import (
    add_color_bar,
    choose_labels,
    find_insignificant,
    lay_out,
    mark_axes,
    order_labels,
    tabulate_labels,
)
from specialize.plot.labels import SMALLEST_ROW, fit_rows, tell_shown
from specialize.plot.style import NO_DATA, new_axes, use_style


def expert_label_heatmap(
    frame: pd.DataFrame,
    *,
    layer: int,
    metric: str = "lift",
    label_set: str | None = None,
    run_name: str | None = None,
    routing: str = "learned",
    most: int = 40,
    alpha: float = 0.05,
    title: str | None = AUTO,
    ax: Axes | None = None,
) -> Axes:
    """Draw `metric` for every label (rows) and expert (columns) of a layer.

    Lift is drawn on a log2 scale centred at 1, which is white: as often as over all experts. Experts are sorted by
    specific information, labels by the expert with their largest value, so that specialization appears along the
    diagonal. Cells whose q-value exceeds `alpha` are hatched, or faded where cells are too small for a hatch; cells
    without a value are grey. Values are written into the cells where there is room. Colours end at the largest value of
    the others, or at the 98 % quantile of those above the centre if it is less than half of that; the bar says how far
    cells go beyond.

    Args:
        frame: result frame with a row of `metric` for each label and expert.
        layer: layer number as the frame has it.
        metric: a quantity of label and expert. All but ``lift`` are drawn on a linear scale centred at 0.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        most: the most labels to draw: those with the largest significant values. The axis says how many are left out.
        alpha: q-value up to which a cell counts as significant.
        title: title of the axes; ``auto`` says what is drawn, None leaves it out.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds log2 lift, [labels, experts] in drawing order.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    rows = select_rows(frame, metric=metric, label_set=label_set, run_name=run_name, layer=layer, routing=routing)
    rows = rows[rows["expert"].notna() & rows["label"].notna()]
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    values = tabulate_labels(rows, "value")
    values = values[_order_experts(frame, rows, values)]
    scaled = _scale_values(values, metric)
    total = len(scaled)
    scaled = choose_labels(scaled, find_insignificant(rows, values, alpha), fit_rows(ax, most, row=SMALLEST_ROW))
    scaled = scaled.iloc[order_labels(scaled)]
    values = values.loc[scaled.index]
    faint = find_insignificant(rows, values, alpha)
    layout = lay_out([str(name) for name in values.index], values.shape[1], ax=ax)
    with use_style():
        if ax is None:
            ax = new_axes(layout.width, layout.height)
        limit = _choose_limit(scaled.to_numpy(), faint, metric)
        roomy = layout.cell_width >= 0.24 and layout.cell_height >= 0.13
        draw_cells(
            ax,
            scaled,
            limit,
            annot=_write_values(values, faint) if roomy else None,
            fmt="",
            annot_kws={"fontsize": 6, "parse_math": False},
            xticklabels=False,
            yticklabels=False,
        )
        notes = mark_insignificant(
            ax, faint, hatch=min(layout.cell_width, layout.cell_height) >= 0.1, reason=f"q > {alpha:g}"
        )
        if values.isna().to_numpy().any():
            notes.append(Patch(facecolor=NO_DATA, edgecolor="none", label="no value"))
        mark_axes(ax, values, layout)
        quantity = name_quantity(metric, label_set)
        origin = f"{shorten(run_name, width=30)}, layer {layer}" + (", random router" if routing == "random" else "")
        set_plain(
            ax,
            title=choose_title(title, f"{quantity.title}\n{origin}"),
            xlabel="expert, sorted by specific information",
            ylabel=tell_shown(name_label_set(label_set).axis, len(values), total, "largest values"),
            room=layout.cell_width * values.shape[1] + 0.45,
        )
        add_color_bar(
            ax,
            limit,
            (scaled.to_numpy(), layout),
            name="lift" if metric == "lift" else "",
            log2=metric == "lift",
        )
        if notes:
            add_notes(ax, notes)
    return ax


def _order_experts(frame: pd.DataFrame, rows: pd.DataFrame, values: pd.DataFrame) -> list[int]:
    specific = complete_frame(frame)
    specific = specific[specific["metric"] == "specific_information"]
    for column in ("run", "routing", "layer", "label_set"):
        specific = specific[specific[column].isin(rows[column].unique())]
    if specific.empty:
        score = values.max()
    else:
        score = specific.drop_duplicates("expert").set_index("expert")["value"].reindex(values.columns)
    score = score.astype(float).fillna(-np.inf)
    return sorted(score.index, key=lambda expert: (-score[expert], expert))


def _scale_values(values: pd.DataFrame, metric: str) -> pd.DataFrame:
    return log2_ratio(values.astype(float)) if metric == "lift" else values.astype(float)


def _choose_limit(cells: np.ndarray, faint: np.ndarray, metric: str) -> float:
    clear = cells[~faint] if np.isfinite(cells[~faint]).any() else cells
    if metric == "lift":
        return choose_limit(clear)
    return end_colors(np.abs(clear[np.isfinite(clear) & (clear != 0)])) or 1.0


def _write_values(values: pd.DataFrame, faint: np.ndarray) -> np.ndarray:
    cells = values.to_numpy()
    texts = [
        "" if hidden or np.isnan(cell) else f"{cell:.0f}" if abs(cell) >= 9.95 else f"{cell:.1f}"
        for cell, hidden in zip(cells.ravel(), faint.ravel(), strict=True)
    ]
    return np.array(texts, dtype=object).reshape(cells.shape)
