"""Which figures the results of runs allow, and what each of them draws."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from specialize import plot
from specialize.names import name_label_set
from specialize.plot.frames import complete_frame
from specialize.reporting.corpora import CorpusRuns, group_by_corpus
from specialize.reporting.findings import METRIC, Record, find_best
from specialize.reporting.plan_function import plan_function
from specialize.reporting.plan_routing import plan_routing
from specialize.reporting.plan_training import plan_training
from specialize.reporting.random_control import AMONG
from specialize.reporting.runs import SYNTAX, RunResults, section_of, sorted_label_sets
from specialize.reporting.spec import FigureSpec, name_profile, slugify
from specialize.text import NBSP


def plan_figures(runs: Sequence[RunResults], records: Sequence[Record]) -> list[FigureSpec]:
    """Return the figures that the results of `runs` allow, in the order of the report."""
    numbered, groups = list(enumerate(runs, 1)), group_by_corpus(runs)
    return [
        *(spec for group in groups for spec in _plan_planes(group)),
        *(spec for group in groups for spec in _plan_profiles(group)),
        *(spec for number, run in numbered for spec in _plan_heatmaps(run, number, records)),
        *(spec for number, run in numbered for spec in _plan_forests(run, number, records)),
        *(spec for number, run in numbered for spec in _plan_tokens(run, number, records)),
        *plan_routing(runs),
        *plan_function(runs),
        *(spec for group in groups for spec in plan_training(group)),
    ]


def _plan_planes(group: CorpusRuns) -> Iterable[FigureSpec]:
    runs = group.runs
    for label_set in dict.fromkeys(name for run in runs for name in run.topics):
        rows = pd.concat([_rows(runs, SYNTAX), _rows(runs, label_set)], ignore_index=True)
        if rows.empty:
            continue
        both = rows.dropna(subset=["layer", "value"]).groupby(["run", "routing", "layer"])["label_set"].nunique()
        if (both == 2).any():
            yield FigureSpec(
                f"plane-{slugify(label_set)}{group.suffix}",
                "together",
                "plane",
                f"{group.opening}U of part of speech (horizontal) and of {name_label_set(label_set).noun} (vertical), "
                "one point per layer. Layers to the right are specialized for syntax, layers at the top for topics. "
                "The first and last layer of each run are numbered.",
                plot.syntax_topic_plane,
                rows,
                {"syntax": SYNTAX, "topic": label_set},
            )


def _plan_profiles(group: CorpusRuns) -> Iterable[FigureSpec]:
    runs = group.runs
    for label_set in sorted_label_sets(runs):
        rows = _rows(runs, label_set)
        if len(rows) and rows.loc[rows["layer"].notna(), "value"].notna().any():
            names = name_label_set(label_set)
            yield FigureSpec(
                f"{name_profile(label_set)}{group.suffix}",
                section_of(label_set, runs),
                "profile",
                f"{group.opening}U({names.long} | expert), the share of H({names.short}) that routing explains, "
                f"by layer. Vertical bars are 95{NBSP}% intervals; the band holds 95{NBSP}% of the null distribution."
                + " The hatched band is the range of the random routers, the dashed line their mean."
                * bool((rows["metric"] == AMONG).any()),
                plot.layer_profile,
                rows,
                {"metric": METRIC, "label_set": label_set},
            )


def _plan_heatmaps(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    for label_set, layer, rows in _best_layers(run, records):
        names = name_label_set(label_set)
        yield FigureSpec(
            f"heatmap-{number}-{slugify(run.name)}-{slugify(label_set)}",
            section_of(label_set, [run]),
            "heatmap",
            f"{run.label}: lift of each {names.long} in each expert of layer {layer}, the layer with the largest U. "
            f"Lift is P({names.short} | expert) / P({names.short}); 1 means as often as over all experts.",
            plot.expert_label_heatmap,
            rows,
            {"layer": layer, "metric": "lift", "label_set": label_set},
            _name_fold(run, label_set),
        )


def _plan_forests(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    """The most informative expert of the layer with the largest U."""
    for label_set, layer, rows in _best_layers(run, records):
        expert = _find_informative_expert(run.frames[label_set], layer)
        if expert is None:
            continue
        yield FigureSpec(
            f"forest-{number}-{slugify(run.name)}-{slugify(label_set)}",
            section_of(label_set, [run]),
            "forest",
            f"{run.label}: lift of each {name_label_set(label_set).long} in expert {expert} of layer {layer}, the "
            f"expert that contributes most to I(expert; label). Horizontal bars are 95{NBSP}% intervals.",
            plot.expert_forest,
            rows[(rows["metric"] == "lift") & (rows["expert"] == expert)],
            {"layer": layer, "expert": expert, "label_set": label_set},
            _name_fold(run, label_set),
        )


def _name_fold(run: RunResults, label_set: str) -> str:
    """Return where the page folds the experts of a label set; nowhere those of the main ones."""
    return "" if label_set in run.main_label_sets else f"Experts by {name_label_set(label_set).long}"


def _find_informative_expert(frame: pd.DataFrame, layer: int) -> int | None:
    """The expert whose load times specific information, its part of the mutual information, is largest."""
    rows = frame[(frame["layer"] == layer) & (frame["routing"] == "learned")].drop_duplicates(["metric", "expert"])
    by_metric = rows[rows["metric"].isin(["load", "specific_information"])].pivot(
        index="expert", columns="metric", values="value"
    )
    if "specific_information" not in by_metric or by_metric["specific_information"].isna().all():
        return None
    load = by_metric.get("load", 1.0)
    return int((by_metric["specific_information"] * load).idxmax())


def _best_layers(run: RunResults, records: Sequence[Record]) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield each label set, the layer with the largest U, and its experts' rows."""
    for label_set in sorted_label_sets([run]):
        finding = find_best(records, run.name, label_set)
        if finding is None or finding.best.layer is None:
            continue
        frame = run.frames[label_set]
        rows = frame[(frame["layer"] == finding.best.layer) & (frame["routing"] == "learned")]
        rows = rows[rows["metric"].isin(["lift", "specific_information"])]
        if (rows["metric"] == "lift").any():
            yield label_set, finding.best.layer, rows


def _plan_tokens(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    table = run.top_tokens
    if table is None or table.empty:
        return
    finding = find_best(records, run.name, SYNTAX)
    layer = int(table["layer"].min()) if finding is None or finding.best.layer is None else finding.best.layer
    rows = table[(table["layer"] == layer) & (table["token"] == "input") & (table["routing"] == "learned")]
    if len(rows):
        yield FigureSpec(
            f"tokens-{number}-{slugify(run.name)}",
            "syntax",
            "tokens",
            f"{run.label}: for each expert of layer {layer}, the tokens of which it receives the largest share.",
            plot.expert_tokens,
            rows,
            {"layer": layer},
        )


def _rows(runs: Sequence[RunResults], label_set: str) -> pd.DataFrame:
    """The uncertainty coefficients of one label set, of all runs that have them, and those among random routers."""
    frames = [run.frames[label_set] for run in runs if label_set in run.frames]
    frames = [frame[frame["metric"].isin([METRIC, AMONG])] for frame in frames if (frame["metric"] == METRIC).any()]
    found = [complete_frame(frame) for frame in frames]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
