"""The figures of the study, drawn from its tables."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from analyses.design_choices.seeds import mean_by_seed, over_seeds
from analyses.drawing import StudyFigure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from specialize.plot import PAGE_WIDTH, expert_label_heatmap, layer_profile, perplexity_by_choice, training_curves
from specialize.plot.sizes import COLUMN_WIDTH
from specialize.plot.style import MUTED, PALETTE, PAPER

UNITS = {"token": PALETTE[0], "sequence": PALETTE[1]}
ROUTERS = {"learned": "o", "frozen": "s", "rerandomized": "^", "guided": "D"}
ROUTER_NAMES = {"rerandomized": "drawn anew at every step"}
METRIC = "uncertainty_coefficient"
SLOTS = {1: "o", 2: "s"}  # of a token
FUNCTION = {
    "upos": "part of speech of the token",
    "next_upos": "part of speech of the next token",
    "domain": "domain",
    "bertopic": "fitted topic",
}
LABELS = {"upos": ("part of speech", "POS"), "domain": ("domain", "domain")}


def plan_figures(results: Path, *, preset: str, stem: str = "design") -> Iterator[StudyFigure]:
    """Yield the figures of the tables in `results`, which are those of `preset`; their names begin with `stem`."""
    about = {"preset": preset}
    perplexity, measured, curves, heatmaps = (
        pd.read_csv(results / f"{name}.csv") for name in ("perplexity", "specialization", "curves", "heatmaps")
    )
    english = measured[(measured["corpus"] == "en") & (measured["experts"] == 4) & (measured["metric"] == METRIC)]
    seeds = "Bars are 95 % t intervals over seeds"
    yield StudyFigure(
        f"{stem}-perplexity",
        f"Held-out perplexity of every design choice on English text. {seeds}; cells with one seed have none.",
        draw_perplexity,
        _name_designs(perplexity[(perplexity["corpus"] == "en") & perplexity["experts"].le(4)]),
        about,
    )
    profiles = english[(english["top_k"] == 2) & (english["scope"] == "layer") & english["layer"].notna()]
    yield StudyFigure(
        f"{stem}-layers",
        "U of part of speech and of domain by layer, for learned and frozen routers (top-2, layer-wise). "
        f"{seeds}; dashed: the first random router; band and dots: the null.",
        draw_layers,
        profiles[profiles["router"].isin(["learned", "frozen"]) & profiles["label_set"].isin(["upos", "domain"])],
        about,
    )
    yield StudyFigure(
        f"{stem}-plane",
        "U of part of speech against U of domain for every cell of four experts on English text, means over layers and "
        "seeds. Hollow: the first random router on the same hidden states; larger: top-2; plus: the null, mean over "
        "cells.",
        draw_plane,
        english[english["layer"].isna() & english["label_set"].isin(["upos", "domain"])],
        about,
    )
    for label_set, what in (("upos", "part of speech"), ("domain", "domain")):
        rows = heatmaps[heatmaps["label_set"] == label_set]
        if len(rows):
            yield StudyFigure(
                f"{stem}-heatmap-{label_set}",
                f"Lift P({what} | expert) / P({what}) at the layer with the highest U ({rows['run'].iloc[0]}). "
                "1: as often as overall.",
                draw_heatmap,
                rows,
                about,
            )
    yield StudyFigure(
        f"{stem}-curves",
        "Specialization and router saturation over training (top-2, layer-wise, learned, one seed). Thick: mean over "
        "layers; thin: each layer; dotted: the null, or the agreement of two routers of these loads by chance.",
        draw_curves,
        curves.assign(run=curves["cell"].str.split("-").str[1] + " routing"),
        about,
    )
    if (results / "progress.csv").is_file():  # perplexities are not of the end alone
        compared = _compare_progress(pd.read_csv(results / "progress.csv"))
        if len(compared):
            margin = pd.read_csv(results / "equivalence.csv")["margin"].iloc[0]
            yield StudyFigure(
                f"{stem}-progress",
                "Perplexity with frozen routers ÷ with learned ones over training, on the same order of the data. "
                "Layer-wise, four experts. Thick: geometric mean over seeds with its 90 % t interval; thin: each run; "
                "band: equivalent.",
                draw_progress,
                compared.assign(margin=margin),
                about,
            )
    if (results / "function.csv").is_file():  # not every machine had the time to switch experts off
        function = pd.read_csv(results / "function.csv")
        agreement = function[(function["metric"] == "per_use_agreement") & function["layer"].isna()]
        agreement = agreement[agreement["label_set"].isin(FUNCTION)]
        if len(agreement):
            yield StudyFigure(
                f"{stem}-function",
                "Rank correlation, over experts and labels of a layer, of lift with the increase of the loss per use "
                "of an expert that is switched off (layer-wise; means over layers). "
                f"{seeds}; plus: the null.",
                draw_function,
                agreement,
                about,
            )


def draw_perplexity(frame: pd.DataFrame) -> Figure:
    figure = perplexity_by_choice(frame).figure
    assert isinstance(figure, Figure)
    return figure


def _name_designs(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the names of the rows and of the markers of the figure."""
    widths = {1: "dense, active as top-1", 2: "dense, active as top-2", 4: "dense, total as all experts"}
    routed = (
        frame["unit"] + ", top-" + frame["top_k"].astype(str) + ", " + frame["scope"].replace("layer", "layer-wise")
    )
    dense = frame["unit"] == "dense"
    variant = frame["router"].replace(ROUTER_NAMES).where(~dense, "dense")
    return frame.assign(design=routed.where(~dense, frame["experts"].map(widths)), variant=variant)


def draw_layers(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 4.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, label_set in zip(axes, ("upos", "domain"), strict=True):
        for ax, unit in zip(row, UNITS, strict=True):
            own = frame[(frame["unit"] == unit) & (frame["label_set"] == label_set)]
            layer_profile(own.assign(run=own["router"]), label_set=label_set, ax=ax)
            handles, names = _take_legend(ax)
            long, short = LABELS[label_set]
            ax.set_title(f"{unit} routing: U({long} | expert)")
            ax.set_xlabel("layer" if label_set == "domain" else "")
            ax.set_ylabel(f"share of H({short})" if unit == "token" else "")
    for row in axes:
        low, high = min(0.0, *(ax.dataLim.y0 for ax in row)), max(ax.dataLim.y1 for ax in row)
        row[0].set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    # legend_handles has only the band of the pair of band and dots
    handles[-1] = (handles[-1], Line2D([], [], color=MUTED, linestyle=":", linewidth=0.9))
    together = {tuple: HandlerTuple(ndivide=1)}
    figure.legend(handles, names, loc="outside lower center", ncols=4, handler_map=together)
    return figure


def _take_legend(ax: Axes) -> tuple[list[Any], list[str]]:
    """Remove the legend of `ax`; return its handles and labels."""
    legend = ax.get_legend()
    legend.remove()
    return list(legend.legend_handles), [text.get_text() for text in legend.get_texts()]


def draw_plane(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(COLUMN_WIDTH * 1.25, 3.6), layout="constrained")
    ax = figure.add_subplot()
    keys = ["cell", "unit", "top_k", "router", "routing"]
    values = frame.pivot(index=keys, columns="label_set", values=["value", "null_mean"]).reset_index()
    for _, row in values.iterrows():
        color, control = UNITS[row[("unit", "")]], row[("routing", "")] == "random"
        x, y = row[("value", "upos")], row[("value", "domain")]
        ax.plot(
            x,
            y,
            marker=ROUTERS[row[("router", "")]],
            color=color,
            linestyle="none",
            markersize=4 if row[("top_k", "")] == 1 else 6,
            markerfacecolor=PAPER if control else color,
            markeredgewidth=0.7,
            alpha=0.55 if control else 0.9,
            zorder=2 if control else 3,
            gid=f"{row[('cell', '')]}-{row[('routing', '')]}",
        )
    for unit, color in UNITS.items():
        null = values.loc[(values["unit"] == unit) & (values["routing"] == "learned"), "null_mean"].mean()
        ax.plot(
            null["upos"], null["domain"], marker="+", color=color, linestyle="none", markersize=6, gid=f"null-{unit}"
        )
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.grid(axis="both")
    ax.locator_params(nbins=6)
    ax.set_xlabel("U(part of speech | expert), share of H(POS)")
    ax.set_ylabel("U(domain | expert), share of H(domain)")
    ax.set_title("Syntax against topics, mean over layers and seeds")
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4}
    handles = [Line2D([], [], color=color, marker="o", **look) for color in UNITS.values()]
    names = [f"{unit} routing" for unit in UNITS]
    present = [router for router in ROUTERS if router in set(frame["router"])]
    handles += [Line2D([], [], color=MUTED, marker=ROUTERS[router], **look) for router in present]
    names += [ROUTER_NAMES.get(router, router) for router in present]
    handles.append(Line2D([], [], color=MUTED, marker="o", markerfacecolor=PAPER, **look))
    handles.append(Line2D([], [], color=MUTED, marker="o", linestyle="none", markersize=6))
    handles.append(Line2D([], [], color=MUTED, marker="+", linestyle="none", markersize=6))
    figure.legend(
        handles, [*names, "random router", "larger: top-2", "null, mean over cells"], loc="outside lower left", ncols=2
    )
    return figure


def draw_heatmap(frame: pd.DataFrame) -> Figure:
    layer, label_set, run = frame[["layer", "label_set", "run"]].iloc[0]
    _, unit, top_k, *_ = run.split("-")
    short = frame.assign(
        run=f"{unit} routing, {top_k.replace('top', 'top-')}"
    )  # the name of the run is too long for a title
    figure = expert_label_heatmap(short, layer=int(layer), label_set=label_set).figure
    assert isinstance(figure, Figure)
    return figure


def draw_curves(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 2.5), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True)
    for ax, (metric, label_set) in zip(axes, ((METRIC, "upos"), (METRIC, "domain"), ("saturation", None)), strict=True):
        training_curves(frame, metric=metric, label_set=label_set, ax=ax)
        handles, names = _take_legend(ax)
        if label_set:
            long, short = LABELS[label_set]
            ax.set_title(f"U({long} | expert)")
            ax.set_ylabel(f"share of H({short})")
    figure.legend(handles, [*names[:-1], "null (saturation: chance)"], loc="outside lower center", ncols=3)
    return figure


def _compare_progress(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of the perplexities of frozen and learned routers of layers, by design, seed and tokens."""
    english = frame[(frame["corpus"] == "en") & (frame["experts"] == 4) & (frame["scope"] == "layer")]
    keys = ["unit", "top_k", "seed", "tokens"]
    wide = english.pivot(index=keys, columns="router", values="perplexity").reindex(columns=["frozen", "learned"])
    return (wide["frozen"] / wide["learned"]).dropna().rename("ratio").reset_index()


def draw_progress(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(COLUMN_WIDTH * 1.25, 2.6), layout="constrained")
    ax = figure.add_subplot()
    margin = frame["margin"].iloc[0]
    band = ax.axhspan(1 / margin, margin, color=MUTED, alpha=0.15, linewidth=0, gid="margin")
    ax.axhline(1.0, color=MUTED, linewidth=0.7)
    handles = []
    units = [unit for unit in UNITS if unit in set(frame["unit"])]
    for place, unit in enumerate(units):
        color = UNITS[unit]
        own = frame[frame["unit"] == unit].set_index(["top_k", "seed", "tokens"])["ratio"]
        runs = own.unstack("tokens")
        if len(runs) > 1:
            for (top_k, seed), run in runs.iterrows():
                ax.plot(run.index, run, color=color, linewidth=0.5, alpha=0.5, gid=f"seed-{unit}-top{top_k}-{seed}")
        at = [mean_by_seed(logs, ["top_k"]) for _, logs in np.log(own).groupby("tokens")]
        over = pd.DataFrame([over_seeds(logs, confidence=0.9) for logs in at])
        x = runs.columns + 0.012 * runs.columns.max() * (place - (len(units) - 1) / 2)  # intervals beside each other
        ax.vlines(x, np.exp(over["low"]), np.exp(over["high"]), linewidth=1.2, color=color, gid=f"interval-{unit}")
        handles += ax.plot(x, np.exp(over["mean"]), marker="o", markersize=3, color=color, gid=f"mean-{unit}")
    ax.set_xlim(left=0)
    ax.grid(axis="y")
    ax.set_title("Do frozen routers keep up?")
    ax.set_xlabel("training tokens")
    ax.set_ylabel("perplexity, frozen ÷ learned")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    names = [f"{unit} routing" for unit in units]
    figure.legend([*handles, band], [*names, f"within {100 * (margin - 1):.0f} %"], loc="outside lower center", ncols=3)
    return figure


def draw_function(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 2.6), layout="constrained")
    routers = [router for router in ROUTERS if router in set(frame["router"])]
    series = list(product(UNITS, sorted(frame["top_k"].unique())))
    panels = figure.subplots(1, len(routers), sharex=True, sharey=True, squeeze=False)[0]
    for ax, router in zip(panels, routers, strict=True):
        handles = []
        for place, (unit, top_k) in enumerate(series):
            own = frame[(frame["router"] == router) & (frame["unit"] == unit) & (frame["top_k"] == top_k)]
            own = own.set_index("label_set").reindex(FUNCTION)
            y = [row + 0.18 * (place - (len(series) - 1) / 2) for row in range(len(FUNCTION))]
            name, color = f"{unit}-top{top_k}", UNITS[unit]
            look: dict[str, Any] = {"linestyle": "none", "markersize": 4}
            ax.hlines(y, own["ci_low"], own["ci_high"], linewidth=0.9, color=color, gid=f"interval-{name}")
            handles += ax.plot(own["value"], y, marker=SLOTS[top_k], color=color, gid=f"value-{name}", **look)
            null = ax.plot(own["null_mean"], y, marker="+", color=MUTED, gid=f"null-{name}", **look)
        ax.axvline(0.0, color=MUTED, linewidth=0.7)
        ax.grid(axis="x")
        ax.set_title(f"{router} routers")
        ax.set_xlabel("rank correlation of lift and harm per use")
    panels[0].set_yticks(range(len(FUNCTION)), list(FUNCTION.values()))
    panels[0].invert_yaxis()
    names = [f"{unit} routing, top-{top_k}" for unit, top_k in series]
    figure.legend([*handles, *null], [*names, "null"], loc="outside lower center", ncols=3)
    return figure
