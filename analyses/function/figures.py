"""The figures of what happens when experts of the demo's checkpoints are switched off."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from analyses.drawing import StudyFigure
from matplotlib.figure import Figure

from specialize import plot
from specialize.demo import CHECKPOINTS

LABEL_SETS = ("upos", "gold_topic")


def plan_figures(results: Path) -> Iterator[StudyFigure]:
    """Yield the figures of the study's tables, if they are there."""
    if not (results / "sets.csv").is_file():
        return
    about = {"study": json.loads((results / "about.json").read_text(encoding="utf-8"))}
    yield StudyFigure(
        "function-sets",
        "The demo's checkpoints with the experts that lead a label switched off, the two of each layer with the "
        "largest lift: effect on the label − effect on all other tokens. Grey: random sets of the same load.",
        draw_sets,
        pd.read_csv(results / "sets.csv"),
        about,
    )
    yield StudyFigure(
        "function-removal",
        "The demo's checkpoints with the first experts of a ranking switched off, of all layers together: rise of the "
        "mean loss.",
        draw_removals,
        pd.read_csv(results / "removals.csv"),
        about,
    )


def draw_sets(frame: pd.DataFrame) -> Figure:
    """Draw the selectivity of the leading sets of both checkpoints and label sets."""
    figure = Figure(figsize=(plot.PAGE_WIDTH, 6.6), layout="constrained")
    axes = figure.subplots(len(LABEL_SETS), len(CHECKPOINTS), height_ratios=(17, 12))
    for row, label_set in zip(axes, LABEL_SETS, strict=True):
        for ax, name in zip(row, CHECKPOINTS, strict=True):
            plot.set_selectivity(_of(frame, name, label_set=label_set), ax=ax)
            ax.set_title(f"{name}-routed", loc="left")
    _share_legend(figure)
    return figure


def draw_removals(frame: pd.DataFrame) -> Figure:
    """Draw the rise of the loss by the number of experts that are switched off."""
    figure = Figure(figsize=(plot.PAGE_WIDTH, 2.6), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(CHECKPOINTS), sharey=True), CHECKPOINTS, strict=True):
        plot.removal_curves(_of(frame, name), ax=ax)
        ax.set_title(f"{name}-routed", loc="left")
    _share_legend(figure)
    return figure


def _share_legend(figure: Figure) -> None:
    """Put the legend of the first axes below the figure, and remove those of all axes, which would hide data."""
    legend = figure.axes[0].get_legend()
    handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    for ax in figure.axes:
        ax.get_legend().remove()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names))


def _of(frame: pd.DataFrame, checkpoint: str, **where: str) -> pd.DataFrame:
    rows = frame[(frame["checkpoint"] == checkpoint) & (frame["mode"] == "drop")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.assign(run=f"{checkpoint}-routed", routing="learned", metric=rows.get("metric", "removal_effect"))
