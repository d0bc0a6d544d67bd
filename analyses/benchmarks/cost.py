"""The figure of the cost of measuring, drawn from the table that `measure.py` writes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from analyses.drawing import StudyFigure
from matplotlib.figure import Figure

from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, PALETTE


def plan_figures(results: Path) -> Iterator[StudyFigure]:
    """Yield the figure of the tables in `results`."""
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
