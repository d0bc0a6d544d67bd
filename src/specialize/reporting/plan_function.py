"""Figures of what happens to the loss when experts are switched off."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from specialize import plot
from specialize.names import NEXT, name_label_set
from specialize.reporting.ablations import Ablation, list_ablations, of_sets
from specialize.reporting.runs import RunResults, section_of
from specialize.reporting.spec import FigureSpec, slugify
from specialize.text import NBSP

_MOST_POINTS = 8000  # of a scatter plot; of more a sample is drawn
_POINT = ("run", "routing", "layer", "expert", "label_set", "label", "metric", "value", "ci_low", "ci_high")
_CELLS = ("effect", "lift")


def plan_function(runs: Sequence[RunResults]) -> list[FigureSpec]:
    """Return the figures of effects, their agreement with lift, leading sets and removal that the results allow.

    They show the first mode in which experts of a run were switched off.
    """
    numbered = [(number, run, found[0]) for number, run in enumerate(runs, 1) if (found := list_ablations(run))]
    plans = (_plan_effects, _plan_agreements, _plan_sets, _plan_removals)
    return [spec for plan in plans for number, run, ablation in numbered for spec in plan(run, number, ablation)]


def _plan_effects(run: RunResults, number: int, ablation: Ablation) -> Iterable[FigureSpec]:
    """The layer with the largest mean effect, of the first label set of tokens and the first of documents."""
    drawn = set()
    for label_set, frame in ablation.label_sets.items():
        section = section_of(label_set, [run])
        rows = frame[frame["metric"].isin(_CELLS) & frame["expert"].notna() & (frame["routing"] == "learned")]
        effects = rows[(rows["metric"] == "effect") & rows["value"].notna()]
        if label_set.startswith(NEXT) or section in drawn or effects.empty:
            continue
        drawn.add(section)
        layer = int(effects.groupby("layer")["value"].mean().idxmax())
        yield FigureSpec(
            f"effects-{number}-{slugify(run.name)}-{slugify(label_set)}",
            "function",
            "effects",
            f"{run.label}: effect of switching off each expert of layer {layer}, the layer with the largest mean "
            f"effect, on each {name_label_set(label_set).long} ({ablation.means}), beside the lift of the same cells.",
            plot.effect_heatmap,
            rows[rows["layer"] == layer],
            {"layer": layer, "metric": "effect", "label_set": label_set},
        )


def _plan_agreements(run: RunResults, number: int, ablation: Ablation) -> Iterable[FigureSpec]:
    for label_set, frame in ablation.label_sets.items():
        cells = frame[frame["metric"].isin(["per_use_effect", "lift"]) & frame["expert"].notna()]
        metrics = set(cells.loc[cells["value"].notna(), "metric"])
        if len(metrics) < 2:
            continue
        cells, share = _sample(cells)
        agreements = frame[frame["metric"].str.endswith("per_use_agreement") & frame["layer"].isna()]
        yield FigureSpec(
            f"agreement-{number}-{slugify(run.name)}-{slugify(label_set)}",
            "function",
            "agreement",
            f"{run.label}: per-use effect against lift, one point per expert and {name_label_set(label_set).long}; "
            f"colours are layers, and points are faint where the 95{NBSP}% interval is wide ({ablation.means}). {share}"
            "The rank correlation is the mean over the layers with its interval.",
            plot.effect_against_lift,
            pd.concat([cells, agreements], ignore_index=True)[list(_POINT)],
            {"metric": "per_use_effect", "label_set": label_set},
        )


def _sample(cells: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of at most `_MOST_POINTS` cells, drawn at random, and a sentence that says so."""
    keys = ["layer", "expert", "label"]
    distinct = cells[keys].drop_duplicates()
    if len(distinct) <= _MOST_POINTS:
        return cells, ""
    kept = np.sort(np.random.default_rng(0).choice(len(distinct), _MOST_POINTS, replace=False))
    said = f"The points are a random sample of {_MOST_POINTS:,} of {len(distinct):,}. "
    return cells.merge(distinct.iloc[kept], on=keys), said


def _plan_sets(run: RunResults, number: int, ablation: Ablation) -> Iterable[FigureSpec]:
    for label_set, frame in ablation.label_sets.items():
        rows = of_sets(frame)
        if len(rows):
            yield FigureSpec(
                f"sets-{number}-{slugify(run.name)}-{slugify(label_set)}",
                "function",
                "sets",
                f"{run.label}: selectivity of the experts that lead each {name_label_set(label_set).long}, switched "
                f"off together ({ablation.means}). Selectivity is the effect on the label − the effect on all other "
                "tokens. Grey: random sets of about the same load.",
                plot.set_selectivity,
                rows,
                {"label_set": label_set},
            )


def _plan_removals(run: RunResults, number: int, ablation: Ablation) -> Iterable[FigureSpec]:
    if ablation.experts is None:
        return
    rows = ablation.experts[(ablation.experts["metric"] == "removal_effect") & ablation.experts["value"].notna()]
    if len(rows):
        yield FigureSpec(
            f"removal-{number}-{slugify(run.name)}",
            "function",
            "removal",
            f"{run.label}: rise of the mean loss with the first experts of each ranking switched off together, over "
            f"all layers ({ablation.means}).",
            plot.removal_curves,
            rows,
            {},
        )
