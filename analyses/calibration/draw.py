"""The figure of the calibration, drawn from its tables."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from analyses.drawing import StudyFigure
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import GRID, INK, MUTED, PALETTE

OWN, NAIVE = PALETTE[0], PALETTE[4]
NULLS = {
    "labels shifted within documents": ("tokens, shifted", OWN, "-"),
    "labels permuted over documents": ("documents, permuted", PALETTE[2], "-"),
    "labels shuffled over tokens": ("labels shuffled over tokens", NAIVE, "--"),
}
METHODS = {
    "jackknife, 50 blocks": ("o", OWN),
    "percentile bootstrap over documents": ("^", NAIVE),
    "plug-in": ("^", NAIVE),
}
DESIGNS = {
    "tokens, weak": "words, weak",
    "tokens, strong": "words, strong",
    "documents, tokens routed": "topics, by token",
    "documents, sequences routed": "topics, by sequence",
}
CAPTION = (
    "Top: distribution of p-values over data sets without any association; a calibrated test follows the diagonal. "
    "Middle: share of 95 % intervals that contain the planted information (band: 92 to 98 %). Bottom: error of the "
    "value, in bits, with 50 documents (bar: one standard deviation). "
    "Solid lines and circles: the methods of this package. Dashed lines and triangles: alternatives."
)


def plan_figures(results: Path) -> Iterator[StudyFigure]:
    """Yield the figure of the tables in `results`."""
    tested, covered = (pd.read_csv(results / f"{name}.csv") for name in ("p_values", "intervals"))
    drawn = pd.concat([tested, covered[covered["method"].isin(METHODS)]], ignore_index=True)
    about = json.loads((results / "about.json").read_text(encoding="utf-8"))
    yield StudyFigure("calibration", CAPTION, draw_calibration, drawn, {"study": about})


def draw_calibration(frame: pd.DataFrame) -> Figure:
    tested, covered = frame[frame["null"].notna()], frame[frame["method"].notna()]
    figure = Figure(figsize=(COLUMN_WIDTH, 6.2), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, height_ratios=[1.15, 1, 1])
    draw_nulls(top, tested)
    draw_coverage(middle, covered)
    draw_bias(bottom, covered)
    for ax, letter in zip((top, middle, bottom), "abc", strict=True):
        ax.annotate(letter, (0, 1), (-26, 7), "axes fraction", "offset points", weight="bold", color=INK)
    return figure


def draw_nulls(ax: Axes, frame: pd.DataFrame) -> None:
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    for null, (name, color, line) in NULLS.items():
        for number, (design, rows) in enumerate(frame[frame["null"] == null].groupby("design", sort=False)):
            rows = rows.sort_values("p_value")
            share = rows["times"].cumsum() / rows["times"].sum()
            ax.plot(
                [0, *rows["p_value"]], [0, *share], color=color, linestyle=line, linewidth=1.1,
                label=None if number else name, gid=f"share-{null}-{design}",
            )  # fmt: skip
    ax.set(xlabel="p-value", ylabel="share of data sets at or below", xlim=(0, 1), ylim=(0, 1.01))
    ax.set_title("p-values under a true null")
    ax.legend(loc="lower right")


def draw_coverage(ax: Axes, frame: pd.DataFrame) -> None:
    ax.axhspan(0.92, 0.98, color=GRID, linewidth=0)
    ax.axhline(0.95, color=MUTED, linewidth=0.6, linestyle=":")
    sizes = sorted(frame["documents"].unique())
    for method in ("jackknife, 50 blocks", "percentile bootstrap over documents"):
        marker, color = METHODS[method]
        rows = frame[frame["method"] == method]
        for number, design in enumerate(DESIGNS):
            own = rows[rows["design"] == design].sort_values("documents")
            places = np.arange(len(sizes)) + 0.16 * (number - 1.5)
            errors = np.abs(own[["coverage_low", "coverage_high"]].to_numpy().T - own["coverage"].to_numpy())
            ax.errorbar(
                places, own["coverage"], yerr=errors, fmt=marker, color=color, markersize=3.2, linewidth=0.8,
                gid=f"coverage-{method}-{design}",
            )  # fmt: skip
    ax.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
    ax.set(
        xlabel="documents (one marker per design of c)",
        ylabel="coverage",
        ylim=(-0.03, 1.03),
        yticks=[0, 0.25, 0.5, 0.75, 0.95],
    )
    ax.set_title("Coverage of 95 % intervals")
    beside = {"ha": "left", "va": "center", "fontsize": 7, "color": INK}
    ax.text(0.3, 0.87, "jackknife", **beside)
    ax.text(0.3, 0.55, "percentile bootstrap", **beside)


def draw_bias(ax: Axes, frame: pd.DataFrame) -> None:
    ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
    smallest = frame[frame["documents"] == frame["documents"].min()].set_index(["design", "method"])
    for number, design in enumerate(DESIGNS):
        for offset, method in ((-0.12, "jackknife, 50 blocks"), (0.12, "plug-in")):
            marker, color = METHODS[method]
            row = smallest.loc[(design, method)]
            ax.errorbar(
                row["bias"], number + offset, xerr=row["deviation"], fmt=marker, color=color, markersize=3.5,
                linewidth=0.9, gid=f"bias-{method}-{design}",
            )  # fmt: skip
    ax.set_yticks(range(len(DESIGNS)), DESIGNS.values())
    ax.set(xlabel="value − true value, bits", ylim=(len(DESIGNS) - 0.5, -0.5))
    ax.set_title("Bias with 50 documents")
    beside = {"textcoords": "offset points", "va": "center", "fontsize": 7, "color": INK}
    ax.annotate("jackknife", (0, -0.12), (-9, 0), ha="right", **beside)
    ax.annotate("plug-in", (0.09, 0.12), (5, 0), ha="left", **beside)
