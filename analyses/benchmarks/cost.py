"""The figures of the cost of measuring, drawn from the tables that `measure.py` and `out_of_core.py` write."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from analyses.drawing import StudyFigure
from matplotlib.figure import Figure

from specialize.plot.sizes import COLUMN_WIDTH, PAGE_WIDTH
from specialize.plot.style import MUTED, PALETTE


def plan_figures(results: Path) -> Iterator[StudyFigure]:
    """Yield the figures of the tables in `results`."""
    yield from plan_measuring(results)
    yield from plan_out_of_core(results)


def plan_measuring(results: Path) -> Iterator[StudyFigure]:
    """Yield the figure of the time to measure one layer."""
    rows = pd.read_csv(results / "measure-cost.csv")
    about = json.loads((results / "measure.json").read_text(encoding="utf-8"))
    yield StudyFigure(
        "measure-cost",
        f"Time to measure one layer ({about['labels']} labels, {about['experts']} experts, top-{about['top_k']}, "
        f"with intervals and {about['permutations']} permutations) by number of tokens.",
        draw_cost,
        rows[rows["layers"] == rows["layers"].min()].sort_values("tokens"),
        {"study": about},
    )


def plan_out_of_core(results: Path) -> Iterator[StudyFigure]:
    """Yield the figure of memory and time by number of tokens."""
    about = json.loads((results / "out-of-core.json").read_text(encoding="utf-8"))
    yield StudyFigure(
        "out-of-core",
        f"Peak memory, and processor time for a million tokens, of whole commands by number of tokens (4 layers, "
        f"{about['experts']} experts, top-{about['top_k']}, {about['permutations']} permutations). Both axes of tokens "
        "are logarithmic.",
        draw_out_of_core,
        pd.read_csv(results / "out-of-core.csv"),
        {"study": about},
    )


def draw_cost(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(COLUMN_WIDTH, 2.4), layout="constrained")
    ax = figure.add_subplot()
    millions, per_layer = frame["tokens"] / 1e6, frame["seconds"] / frame["layers"]
    slope, start = np.polyfit(millions, per_layer, 1)
    ends = np.array([0, millions.max()])
    label = f"least squares: {start:.1f} s + {slope:.1f} s per million"
    ax.plot(millions, per_layer, color=PALETTE[0], marker="o", linestyle="", label="measured", gid="value")
    ax.plot(ends, start + slope * ends, color=MUTED, linestyle=":", linewidth=0.9, zorder=1, label=label, gid="fit")
    ax.set(xlabel="tokens, millions", ylabel="seconds per layer", xlim=(0, None), ylim=(0, None))
    ax.set_title("Time to measure one layer")
    ax.legend(loc="upper left")
    return figure


def draw_out_of_core(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 2.4), layout="constrained")
    memory, cost = figure.subplots(1, 2)
    panels = {"peak_mb": memory, "cpu_seconds_per_million": cost}
    for number, (command, rows) in enumerate(frame.groupby("command", sort=False)):
        for column, ax in panels.items():
            marker = "osD^vP"[number % 6]
            millions = rows["tokens"] / 1e6
            ax.plot(
                millions, rows[column], color=PALETTE[number], marker=marker, label=command, gid=f"{command} {column}"
            )
    sizes = sorted({tokens // 1_000_000 for tokens in frame["tokens"]})
    for ax in panels.values():
        ax.set(xlabel="tokens, millions", xscale="log", ylim=(0, 1.05 * ax.dataLim.ymax))
        ax.set_xticks(sizes, [f"{size}" for size in sizes], minor=False)
        ax.set_xticks([], minor=True)
    memory.set(ylabel="peak memory, MB", title="Memory of a command")
    cost.set(ylabel="seconds of the processor", title="Processor time for a million tokens")
    figure.legend(*memory.get_legend_handles_labels(), loc="outside right center")
    return figure
