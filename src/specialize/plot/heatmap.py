"""Labels by experts of one layer, as a heat map."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from specialize.names import name_label_set, name_quantity, shorten
from specialize.plot.cells import add_notes, choose_limit, draw_cells, log2_ratio, mark_insignificant
from specialize.plot.frames import complete_frame, only_value, select_rows, set_plain
from specialize.plot.load import power_of_two
from specialize.plot.style import (
    COLUMN_WIDTH,
    INK,
    MUTED,
    NO_DATA,
    PAGE_WIDTH,
    new_axes,
    use_style,
)


@dataclass(frozen=True)
class _Layout:
    """Inches of a figure, of one of its cells, and the width of its labels in characters."""

    width: float
    height: float
    cell_width: float
    cell_height: float
    label_width: int


def expert_label_heatmap(
    frame: pd.DataFrame,
    *,
    layer: int,
    metric: str = "lift",
    label_set: str | None = None,
    run_name: str | None = None,
    routing: str = "learned",
    alpha: float = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """Draw `metric` for every label (rows) and expert (columns) of a layer.

    Lift is drawn on a log2 scale centred at 1, which is white: as often as over all experts. Experts are sorted by
    specific information, labels by the expert with their largest value, so that specialization appears along the
    diagonal. Cells whose q-value exceeds `alpha` are hatched, or faded where cells are too small for a hatch; cells
    without a value are grey. Values are written into the cells where there is room.

    Args:
        frame: result frame with a row of `metric` for each label and expert.
        layer: layer number as the frame has it.
        metric: a quantity of label and expert. All but ``lift`` are drawn on a linear scale centred at 0.
        label_set: required if the frame holds several.
        run_name: required if the frame holds several.
        routing: ``learned`` or ``random``.
        alpha: q-value up to which a cell counts as significant.
        ax: axes to draw on; by default those of a new figure of fitting size.

    Returns:
        The axes. Its mesh has the gid ``cells`` and holds log2 lift, [labels, experts] in drawing order.

    Raises:
        MeasurementError: the frame has no such rows, or several label sets or runs and none was named.
    """
    rows = select_rows(frame, metric=metric, label_set=label_set, run_name=run_name, layer=layer, routing=routing)
    rows = rows[rows["expert"].notna() & rows["label"].notna()]
    label_set, run_name = only_value(rows, "label_set"), only_value(rows, "run")
    values = _tabulate(rows, "value")
    values = values[_order_experts(frame, rows, values)]
    scaled = _scale_values(values, metric)
    scaled = scaled.iloc[_order_labels(scaled)]
    values = values.loc[scaled.index]
    faint = _find_insignificant(rows, values, alpha)
    layout = _lay_out([str(name) for name in values.index], values.shape[1])
    with use_style():
        if ax is None:
            ax = new_axes(layout.width, layout.height)
        limit = _choose_limit(scaled, metric)
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
        notes = mark_insignificant(ax, faint, hatch=min(layout.cell_width, layout.cell_height) >= 0.1, alpha=alpha)
        if values.isna().to_numpy().any():
            notes.append(Patch(facecolor=NO_DATA, edgecolor="none", label="no value"))
        _mark_axes(ax, values, layout)
        quantity = name_quantity(metric, label_set)
        origin = f"{shorten(run_name, width=30)}, layer {layer}" + (", random router" if routing == "random" else "")
        set_plain(
            ax,
            title=f"{quantity.title}\n{origin}",
            xlabel="expert, sorted by specific information",
            ylabel=name_label_set(label_set).axis,
            room=layout.cell_width * values.shape[1] + 0.45,
        )
        _add_color_bar(ax, limit, metric, (scaled.to_numpy(), layout))
        if notes:
            add_notes(ax, notes)
    return ax


def _tabulate(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return `column` as a table of labels and experts, both in the order of the frame."""
    table = rows.drop_duplicates(["label", "expert"]).pivot(index="label", columns="expert", values=column)
    table = table.reindex(index=pd.unique(rows["label"]), columns=pd.unique(rows["expert"]))
    return table.set_axis(table.columns.astype(int), axis="columns")


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


def _order_labels(scaled: pd.DataFrame) -> np.ndarray:
    filled = np.where(np.isnan(scaled.to_numpy()), -np.inf, scaled.to_numpy())
    return np.lexsort((-filled.max(axis=1), filled.argmax(axis=1)))


def _find_insignificant(rows: pd.DataFrame, values: pd.DataFrame, alpha: float) -> np.ndarray:
    q = _tabulate(rows, "q_value")
    q = q.reindex(index=values.index, columns=values.columns)
    return ((q > alpha) & values.notna()).to_numpy()


def _choose_limit(scaled: pd.DataFrame, metric: str) -> float:
    cells = scaled.to_numpy()
    if metric == "lift":
        return choose_limit(cells)
    return float(np.abs(cells[np.isfinite(cells)]).max(initial=0.0)) or 1.0


def _lay_out(labels: list[str], num_experts: int) -> _Layout:
    label_width = min(max((len(label) for label in labels), default=1), 30)
    margins = 0.75 + 0.062 * label_width  # axis label, tick labels, colour bar
    width = float(np.clip(margins + max(0.3 * num_experts, 1.7), COLUMN_WIDTH, PAGE_WIDTH))
    cell_height = float(np.clip(4.2 / len(labels), 0.115, 0.19))
    cells_high = max(cell_height * len(labels), 0.9)
    return _Layout(
        width=width,
        height=cells_high + 1.25,
        cell_width=(width - margins) / num_experts,
        cell_height=cell_height,
        label_width=label_width,
    )


def _write_values(values: pd.DataFrame, faint: np.ndarray) -> np.ndarray:
    cells = values.to_numpy()
    texts = [
        "" if hidden or np.isnan(cell) else f"{cell:.0f}" if abs(cell) >= 9.95 else f"{cell:.1f}"
        for cell, hidden in zip(cells.ravel(), faint.ravel(), strict=True)
    ]
    return np.array(texts, dtype=object).reshape(cells.shape)


def _mark_axes(ax: Axes, values: pd.DataFrame, layout: _Layout) -> None:
    every = max(1, int(np.ceil(0.16 / layout.cell_width)))
    places = np.arange(0, values.shape[1], every)
    crowded = every > 1 or layout.cell_width < 0.2
    ax.set_xticks(
        places + 0.5,
        [str(values.columns[place]) for place in places],
        rotation=90 if crowded else 0,
        fontsize=6 if crowded else 6.5,
        parse_math=False,
    )
    ax.set_yticks(
        np.arange(len(values)) + 0.5,
        [shorten(label, width=layout.label_width) for label in values.index],
        rotation=0,
        fontsize=6 if layout.cell_height < 0.13 else 6.5,
        va="center",
        parse_math=False,
    )
    ax.tick_params(length=0, pad=2.5)
    if every > 1:
        ax.tick_params(axis="x", length=2)


def _add_color_bar(ax: Axes, limit: float, metric: str, drawn: tuple[np.ndarray, _Layout]) -> None:
    cells, layout = drawn
    finite = cells[np.isfinite(cells)]
    below, above = (finite < -limit).any(), (finite > limit).any()
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = ax.figure.colorbar(
        ax.collections[0],
        ax=ax,
        extend=extend[bool(below), bool(above)],
        shrink=min(1.0, 1.9 / max(layout.height - 1.25, 0.1)),
        anchor=(0.0, 1.0),
        aspect=18,
        pad=0.02,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, color=MUTED, labelsize=6.5, labelcolor=INK)
    if metric == "lift":
        step = max(1, int(np.ceil(limit / 3)))
        whole = np.arange(0, limit + 1e-9, step)
        exponents = np.unique(np.concatenate([-whole, whole]))
        bar.ax.yaxis.set_major_locator(FixedLocator(exponents.tolist()))
        bar.ax.set_yticks(exponents, [power_of_two(exponent) for exponent in exponents], parse_math=False)
        bar.ax.minorticks_off()
    bar.ax.set_title("lift" if metric == "lift" else "", fontsize=6.5, loc="left", pad=6)
