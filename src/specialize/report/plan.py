"""Which figures the results of runs allow, and what each of them draws."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from specialize import plot
from specialize.plot.frames import select_rows
from specialize.plot.text import NBSP, name_label_set
from specialize.report.findings import METRIC, Record, find_best
from specialize.report.runs import GOLD, SYNTAX, TOPICS, RunResults


@dataclass(frozen=True)
class FigureSpec:
    """A figure to draw.

    Attributes:
        name: file name without suffix.
        section: part of the report it belongs to: ``profile``, ``plane``, ``heatmap``, ``forest``, ``tokens``,
            ``load`` or ``routing``.
        caption: what it shows and how to read it, in one or two sentences.
        function: the function of `specialize.plot` that draws it.
        frame: the rows it draws.
        arguments: the keyword arguments of `function`, JSON-serialisable.
    """

    name: str
    section: str
    caption: str
    function: Callable[..., Axes]
    frame: pd.DataFrame
    arguments: dict[str, Any]


def plan_figures(runs: Sequence[RunResults], records: Sequence[Record]) -> list[FigureSpec]:
    """Return the figures that the results of `runs` allow, in the order of the report."""
    frames = [frame for run in runs for frame in run.frames.values()]
    everything = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    label_sets = list(dict.fromkeys(name for run in runs for name in run.label_sets))
    label_sets.sort(key=lambda name: (name != SYNTAX, name != GOLD, name != TOPICS))
    return [
        *_plan_profiles(everything, label_sets),
        *_plan_planes(everything, list(dict.fromkeys(name for run in runs for name in run.topics))),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_heatmaps(run, number, records)),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_forests(run, number, records)),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_tokens(run, number, records)),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_loads(run, number)),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_routing(run, number)),
    ]


def _plan_profiles(frame: pd.DataFrame, label_sets: Iterable[str]) -> Iterable[FigureSpec]:
    for label_set in label_sets:
        rows = _rows(frame, METRIC, label_set)
        if rows["layer"].notna().any():
            names = name_label_set(label_set)
            yield FigureSpec(
                f"profile-{slugify(label_set)}",
                "profile",
                f"What one routing decision tells about the {names.long}, as a share of H({names.short}). "
                f"Bars are 95{NBSP}% intervals; the band is where 95{NBSP}% of the draws of the null fall.",
                plot.layer_profile,
                rows,
                {"metric": METRIC, "label_set": label_set},
            )


def _plan_planes(frame: pd.DataFrame, label_sets: Sequence[str]) -> Iterable[FigureSpec]:
    for label_set in label_sets:
        rows = pd.concat([_rows(frame, METRIC, SYNTAX), _rows(frame, METRIC, label_set)], ignore_index=True)
        keys = ["run", "routing", "layer"]
        both = rows.dropna(subset=["layer"]).groupby(keys)["label_set"].nunique()
        if (both == 2).any():
            long = name_label_set(label_set).long
            yield FigureSpec(
                f"plane-{slugify(label_set)}",
                "plane",
                f"Part of speech (across) against {long} (up). Layers far to the right tell of syntax, layers high "
                "up of topics. The first and last layer of each run are numbered.",
                plot.syntax_topic_plane,
                rows,
                {"syntax": SYNTAX, "topic": label_set},
            )


def _plan_heatmaps(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    for label_set, layer, rows in _clearest_layers(run, records):
        names = name_label_set(label_set)
        yield FigureSpec(
            f"heatmap-{number}-{slugify(run.name)}-{slugify(label_set)}",
            "heatmap",
            f"{run.label}: how much more often than overall an expert meets each {names.long}, at layer {layer}, where "
            "routing tells most about it. 1 means no difference.",
            plot.expert_label_heatmap,
            rows,
            {"layer": layer, "metric": "lift", "label_set": label_set},
        )


def _clearest_layers(run: RunResults, records: Sequence[Record]) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield the first label set of tokens and of documents, the layer that tells most of it, and what it takes."""
    for label_set in [*list(run.syntax)[:1], *list(run.topics)[:1]]:
        finding = find_best(records, run.name, label_set)
        if finding is None or finding.best.layer is None:
            continue
        frame = run.frames[label_set]
        rows = frame[(frame["layer"] == finding.best.layer) & (frame["routing"] == "learned")]
        rows = rows[rows["metric"].isin(["lift", "specific_information"])]
        if (rows["metric"] == "lift").any():
            yield label_set, finding.best.layer, rows


def _plan_loads(run: RunResults, number: int) -> Iterable[FigureSpec]:
    for frame in run.frames.values():
        rows = frame[(frame["metric"] == "load") & (frame["routing"] == "learned") & frame["value"].notna()]
        if not rows.empty:
            yield FigureSpec(
                f"load-{number}-{slugify(run.name)}",
                "load",
                f"{run.label}: the share of the routed mass that each expert gets, divided by an even share. The "
                "dashed line is an even spread; crosses at the foot mark experts that get almost nothing.",
                plot.expert_load,
                rows,
                {},
            )
            return


def _plan_forests(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    """The most specialized expert, at the layer that tells most."""
    for label_set, layer, rows in _clearest_layers(run, records):
        specific = rows[(rows["metric"] == "specific_information") & rows["value"].notna()]
        if specific.empty:
            continue
        expert = int(specific.loc[specific["value"].idxmax(), "expert"])
        yield FigureSpec(
            f"forest-{number}-{slugify(run.name)}-{slugify(label_set)}",
            "forest",
            f"{run.label}: how much more often than overall expert {expert} of layer {layer}, the one "
            f"with the most specific information, meets each {name_label_set(label_set).long}. "
            f"Bars are 95{NBSP}% intervals.",
            plot.expert_forest,
            rows[(rows["metric"] == "lift") & (rows["expert"] == expert)],
            {"layer": layer, "expert": expert, "label_set": label_set},
        )


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
            "tokens",
            f"{run.label}: the tokens of layer {layer} of which each expert takes the largest share.",
            plot.expert_tokens,
            rows,
            {"layer": layer},
        )


def _plan_routing(run: RunResults, number: int) -> Iterable[FigureSpec]:
    frame = run.routing
    if frame is None:
        return
    own = frame[frame["routing"] == "learned"]
    place = f"{number}-{slugify(run.name)}"
    flow = own[(own["metric"] == "flow_uncertainty_coefficient") & own["value"].notna()]
    layer = int(flow.loc[flow["value"].idxmax(), "layer"]) if len(flow) else None
    together = own[own["metric"] == "coactivation"]
    if len(together):
        shown = layer if layer in set(together["layer"]) else int(together["layer"].min())
        yield FigureSpec(
            f"coactivation-{place}",
            "routing",
            f"{run.label}: how much more often than chance two experts of layer {shown} are chosen for one token.",
            plot.coactivation,
            together[together["layer"] == shown],
            {"layer": shown},
        )
    if layer is not None:
        yield FigureSpec(
            f"flow-{place}",
            "routing",
            f"{run.label}: how much more often than by chance an expert of layer {layer}, which foretells the next "
            "layer best, is followed by each expert of that.",
            plot.layer_flow,
            own[(own["metric"] == "transition") & (own["layer"] == layer)],
            {"layer": layer},
        )
    if run.routing_unit == "sequence":  # neighbours have one decision, and always the same expert
        return
    repeats = own[(own["metric"] == "first_expert_repeats") & own["label"].notna()]
    for label_set, rows in repeats.groupby("label_set", sort=False):
        yield FigureSpec(
            f"repeats-{place}-{slugify(str(label_set))}",
            "routing",
            f"{run.label}: how often two neighbouring tokens have the same first expert, by "
            f"{name_label_set(str(label_set)).long}, against the same tokens in random order.",
            plot.repeats_by_label,
            rows,
            {"label_set": str(label_set)},
        )


def _rows(frame: pd.DataFrame, metric: str, label_set: str) -> pd.DataFrame:
    rows = frame[(frame["metric"] == metric) & (frame["label_set"] == label_set)]
    return select_rows(rows, metric=metric) if len(rows) else rows


def slugify(text: str) -> str:
    """Return `text` as part of a file name: ASCII letters, digits and hyphens, at most 40, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40].strip("-") or "x"
