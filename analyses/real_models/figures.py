"""The figures of real models, drawn from the tables."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from analyses.drawing import StudyFigure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import GRID, INK, MUTED, PALETTE

AS_REPORTED = "as reported"
SHOWN = {"syntax": ("part of speech", PALETTE[0]), "subject": ("field of the question", PALETTE[4])}
LABELS = {"subject": ("57 subjects", PALETTE[0]), "field": ("4 fields", PALETTE[4]), "task": ("3 tasks", PALETTE[0])}
LANGUAGES = ("bn", "sw", "ja", "zh", "en", "de", "es", "fr")


def plan_figures(results: Path) -> Iterator[StudyFigure]:
    """Yield the figures of the tables in `results`."""
    about = {"study": json.loads((results / "about.json").read_text(encoding="utf-8"))}
    bars = "Bars: 95 % intervals. Dotted: mean under the null."
    yield StudyFigure(
        "gpt-oss-turns",
        "gpt-oss-20b, 24 layers of 32 experts, 345 documents. Share of the entropy of part of speech (top) and of the "
        f"field of the question (bottom) that routing explains. {bars} Thin: the same under other choices of tokens, "
        "labels and rules.",
        draw_turns,
        pd.read_csv(results / "gpt_oss_variants.csv"),
        about,
    )
    yield StudyFigure(
        "gpt-oss-beyond-tokens",
        "gpt-oss-20b. Information of routing about part of speech among occurrences of one token id, less the mean "
        "under the null, in bits (top) and as a share of the information over the same tokens (bottom).",
        draw_beyond_tokens,
        pd.read_csv(results / "gpt_oss_beyond_tokens.csv"),
        about,
    )
    yield StudyFigure(
        "deepseek-tasks",
        f"DeepSeek-V2-Lite, 26 layers of 64 experts, 173 samples of three tasks. Share of the entropy of the task that "
        f"routing explains. {bars}",
        draw_labels,
        pd.read_csv(results / "deepseek_layers.csv"),
        about,
    )
    yield StudyFigure(
        "mixtral-subjects",
        "Mixtral-8x7B-Instruct, 32 layers of 8 experts, 14,042 questions of MMLU. Share of the entropy of subject and "
        f"field that routing explains. {bars}",
        draw_labels,
        pd.read_csv(results / "mixtral_layers.csv"),
        about,
    )
    yield StudyFigure(
        "qwen-languages",
        "Qwen3-30B-A3B, 128 experts, the problems of MGSM in eight languages. Overlap of the experts that two "
        "languages use (weighted Jaccard). Top: mean over 48 layers. Bottom: mean and range over the 28 pairs. One "
        "count for each language: there are no intervals.",
        draw_languages,
        pd.read_csv(results / "qwen_overlap.csv"),
        about,
    )
    yield StudyFigure(
        "olmoe-load",
        "OLMoE-1B-7B, 16 layers of 64 experts, 1,024 instructions. Coefficient of variation of the load, load of the "
        "most used expert divided by the mean, and mean cosine of the usage of two instructions. Bars: 95 % intervals.",
        draw_load,
        pd.concat(
            [
                pd.read_csv(results / "olmoe_load.csv"),
                pd.read_csv(results / "olmoe_signatures.csv").assign(metric="signature_similarity"),
            ],
            ignore_index=True,
        ),
        about,
    )


def draw_turns(frame: pd.DataFrame) -> Figure:
    """Draw U of part of speech and of the field by layer, each with its other variants."""
    figure = Figure(figsize=(COLUMN_WIDTH, 3.0), layout="constrained")
    for ax, (about, (label, color)) in zip(figure.subplots(2, 1, sharex=True), SHOWN.items(), strict=True):
        rows = frame[frame["about"] == about]
        for variant, other in rows.groupby("variant", sort=False):
            if variant != AS_REPORTED:
                ax.plot(other["layer"], 100 * other["value"], color=color, alpha=0.3, linewidth=0.6, gid=variant)
        _draw_curve(ax, rows[rows["variant"] == AS_REPORTED], color, percent=True)
        ax.set(ylabel="U, %", ylim=(0, None))
        ax.set_title(label, color=INK, loc="left")
    figure.axes[-1].set_xlabel("layer")
    return figure


def draw_beyond_tokens(frame: pd.DataFrame) -> Figure:
    """Draw the information about part of speech that is left within one token id, in bits and as a share."""
    rows = frame[frame["about"] == "syntax"].assign(net=lambda each: each["value"] - each["null_mean"])
    wide = rows.pivot(index="layer", columns="quantity", values="net")
    figure = Figure(figsize=(COLUMN_WIDTH, 2.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(wide.index, wide["conditional_information"], color=PALETTE[0], marker="o", markersize=2.8, gid="bits")
    share = 100 * wide["conditional_information"] / wide["mutual_information"]
    bottom.plot(wide.index, share, color=PALETTE[0], marker="o", markersize=2.8, gid="share")
    top.set(ylabel="bits", ylim=(0, None))
    bottom.set(ylabel="share, %", ylim=(0, None), xlabel="layer")
    return figure


def draw_labels(frame: pd.DataFrame) -> Figure:
    """Draw U of each label set by layer."""
    figure = Figure(figsize=(COLUMN_WIDTH, 1.9), layout="constrained")
    ax = figure.subplots()
    for label_set, rows in frame.groupby("label_set", sort=False):
        label, color = LABELS[str(label_set)]
        _draw_curve(ax, rows, color, percent=True)
        last = rows.iloc[-1]
        ax.annotate(
            label, (last["layer"], 100 * last["value"]), (5, 0), textcoords="offset points", color=color, va="center",
            annotation_clip=False,
        )  # fmt: skip
    ax.set(ylabel="U, %", xlabel="layer", ylim=(0, None))
    return figure


def draw_languages(frame: pd.DataFrame) -> Figure:
    """Draw the overlap of languages as a matrix, and that of English with the others by layer."""
    figure = Figure(figsize=(COLUMN_WIDTH, 3.9), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[1.5, 1])
    both = pd.concat([frame, frame.rename(columns={"language": "other", "other": "language"})])
    means = both.pivot_table(index="language", columns="other", values="overlap").loc[list(LANGUAGES), list(LANGUAGES)]
    image = top.imshow(means, cmap="Blues", vmin=0, vmax=1, gid="overlap")
    for row, one in enumerate(LANGUAGES):
        for column, other in enumerate(LANGUAGES):
            if one != other:
                value = means.loc[one, other]
                top.text(
                    column, row, f"{value:.2f}"[1:], ha="center", va="center", fontsize=6,
                    color="white" if value > 0.6 else INK,
                )  # fmt: skip
    top.set_xticks(range(len(LANGUAGES)), LANGUAGES)
    top.set_yticks(range(len(LANGUAGES)), LANGUAGES)
    top.tick_params(length=0)
    figure.colorbar(image, ax=top, label="overlap")
    by_layer = frame.groupby("layer")["overlap"]
    bottom.fill_between(by_layer.mean().index, by_layer.min(), by_layer.max(), color=GRID, linewidth=0, gid="range")
    bottom.plot(by_layer.mean(), color=PALETTE[0], linewidth=1.2, gid="mean")
    bottom.set(xlabel="layer", ylabel="overlap", ylim=(0, 1))
    return figure


def draw_load(frame: pd.DataFrame) -> Figure:
    """Draw the variation and the peak of the load, and the similarity of documents, by layer."""
    figure = Figure(figsize=(COLUMN_WIDTH, 3.4), layout="constrained")
    for ax, metric, label in zip(
        figure.subplots(3, 1, sharex=True),
        ("load_variation", "load_peak", "signature_similarity"),
        ("variation", "largest / mean", "cosine"),
        strict=True,
    ):
        _draw_curve(ax, frame[frame["metric"] == metric], PALETTE[0])
        ax.set(ylabel=label, ylim=(0, None))
    figure.axes[-1].set_xlabel("layer")
    return figure


def _draw_curve(ax: Axes, rows: pd.DataFrame, color: str, *, percent: bool = False) -> None:
    """Draw values with intervals over layers, and the mean under the null where there is one."""
    scale = 100 if percent else 1
    value, low, high = (scale * rows[name] for name in ("value", "ci_low", "ci_high"))
    ax.errorbar(
        rows["layer"], value, yerr=[value - low, high - value], color=color, marker="o", markersize=2.8, linewidth=1.2,
        elinewidth=0.9, gid="value",
    )  # fmt: skip
    if rows["null_mean"].notna().any():
        ax.plot(rows["layer"], scale * rows["null_mean"], color=MUTED, linestyle=":", linewidth=0.9, gid="null")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
