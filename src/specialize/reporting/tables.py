"""The tables of a report as rows of plain strings; the template turns them into HTML and escapes them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from specialize.names import name_label_set, name_topic_quality, shorten
from specialize.reporting.corpora import group_by_corpus
from specialize.reporting.findings import METRIC, Record, find_best
from specialize.reporting.formatting import ALPHA, format_interval, format_share
from specialize.reporting.runs import RunResults, sorted_label_sets
from specialize.reporting.verdict import Outcome, Verdict, Verdicts
from specialize.text import NBSP, NO_VALUE, clean_text, format_p

_TOPIC_COLUMN_KINDS = {"size": "number", "assigned": "number", "top_words": "text wide", "example": "text wider"}
_TOPIC_COLUMNS = {
    "topic": "topic",
    "size": "documents",
    "assigned": "outliers assigned",
    "top_words": "top words",
    "example": "example",
}
_ROUTER_COLUMNS = ("layer", "name", "num_experts", "top_k", "score_function", "unit", "normalized", "static")
_UNITS = {"token": 0, "sequence": 1}


@dataclass(frozen=True)
class Cell:
    """One cell: its text, classes for its look, how many columns it spans, and small print below the text."""

    text: str
    kind: str = ""
    span: int = 1
    below: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, rows of header cells and rows of body cells; the first cell of a row is its header."""

    caption: str
    head: list[list[Cell]]
    body: list[list[Cell]]


def estimate_cells(record: Record | None) -> list[Cell]:
    """Return value, interval, null mean and p of a record, dashes for none; values with p ≤ 0.05 are `strong`."""
    if record is None:
        return [Cell(NO_VALUE, "number faint")] * 4
    significant = record.p_value <= ALPHA
    interval = "(too little data)" if record.shortage else format_interval(record.ci_low, record.ci_high)
    p_value = format_p(record.p_value, at_most=record.has_smallest_p)
    return [
        Cell(format_share(record.value), "number strong" if significant and not record.shortage else "number"),
        Cell(interval, "number faint"),
        Cell(format_share(record.null_mean), "number"),
        Cell(p_value, "number" if significant else "number faint"),
    ]


def compare_runs(runs: Sequence[RunResults], records: Sequence[Record], verdicts: Verdicts) -> list[Table]:
    """Return one table a label set: each run at the layer with the largest U, by corpus, token-level routers first."""
    groups = group_by_corpus(runs)
    ordered = [
        (run, group.number)
        for group in groups
        for run in sorted(group.runs, key=lambda run: _UNITS.get(run.routing_unit, len(_UNITS)))
    ]
    random_routers = any(record.routing == "random" for record in records)
    columns = ["layer", f"U [95{NBSP}%]", "null mean", *(["random routers"] if random_routers else []), "p", "q"]
    head = [[Cell("run", "text"), *(Cell(name, "number") for name in columns)]]
    comparisons = []
    for label_set in sorted_label_sets(runs):
        body = []
        for run, corpus in ordered:
            below = ", ".join(part for part in (run.kind.removesuffix(" routing"), corpus) if part)
            row = [Cell(run.label, "text name", below=below)]
            finding, verdict = find_best(records, run.name, label_set), verdicts[run.name].get(label_set)
            row += (
                [Cell("not measured", "number faint", len(columns))]
                if finding is None or verdict is None
                else _best_cells(finding.best, verdict, random_routers)
            )
            body.append(row)
        comparisons.append(Table(name_set(label_set), head, body))
    return comparisons


def _best_cells(best: Record, verdict: Verdict, random_routers: bool) -> list[Cell]:
    value, interval, null, _ = estimate_cells(best)
    above = verdict.outcome is Outcome.ABOVE_CHANCE
    tested = (format_p(each, at_most=verdict.p_is_smallest) for each in (verdict.p_value, verdict.q_value))
    random = verdict.random
    control = [Cell(NO_VALUE, "number")]
    if random is not None:
        spread = f"{format_share(random.low)} to {format_share(random.high)}" if random.draws > 1 else ""
        control = [Cell(format_share(random.mean), "number", below=spread)]
    return [
        Cell(str(best.layer), "number"),
        Cell(value.text, "number strong" if above else "number", below=interval.text),
        null,
        *(control if random_routers else []),
        *(Cell(each, "number") for each in tested),
    ]


def layer_table(run: RunResults, records: Sequence[Record]) -> Table | None:
    """Return the table of one run: a row a layer and router, four columns a label set; None without results."""
    own = [r for r in records if r.run == run.name and r.metric == METRIC and r.layer is not None]
    if not own:
        return None
    by_key = {(r.routing, r.layer, r.label_set): r for r in own}
    both = any(r.routing == "random" for r in own)
    columns = (f"U [95{NBSP}%]", "null mean", "p")
    head = [
        [Cell("", "text"), *(Cell(name_label_set(name).long, "group", 3) for name in run.label_sets)],
        [Cell("layer", "text"), *(Cell(text, "number") for _ in run.label_sets for text in columns)],
    ]
    body = []
    for layer in sorted({r.layer for r in own if r.layer is not None}):
        for routing in ("learned", "random") if both else ("learned",):
            found = [by_key.get((routing, layer, name)) for name in run.label_sets]
            if any(found):
                name = Cell(f"{layer}", "text", below="" if routing == "learned" else run.first_random_router)
                body.append([name, *(cell for record in found for cell in _stack(record))])
    return Table(f"{run.label}: U by layer, in % of H(label)", head, body)


def _stack(record: Record | None) -> list[Cell]:
    value, interval, null, p_value = estimate_cells(record)
    return [Cell(value.text, value.kind, below="" if record is None else interval.text), null, p_value]


def name_set(label_set: str) -> str:
    """Return the title of a table of U for a label set, which names the normaliser."""
    names = name_label_set(label_set)
    return f"U({names.long} | expert), in % of H({names.short})"


def topic_table(run: RunResults, *, most: int = 60) -> Table | None:
    """Return the fitted topics of a run, largest first as the fit wrote them, or None."""
    info = run.topic_info
    if info is None or info.empty:
        return None
    columns = [name for name in _TOPIC_COLUMNS if name in info.columns] or list(info.columns)[:5]
    head = [
        [Cell(_TOPIC_COLUMNS.get(name, clean_text(name)), _TOPIC_COLUMN_KINDS.get(name, "text")) for name in columns]
    ]
    body = [
        [Cell(shorten(row[name], width=160), _TOPIC_COLUMN_KINDS.get(name, "text")) for name in columns]
        for row in info.head(most).to_dict("records")
    ]
    more = f" (the first {most} of {len(info)})" if len(info) > most else ""
    return Table(f"Fitted topics{more}", head, body)


def quality_table(run: RunResults) -> Table | None:
    """Return the quality of the topic fit of a run, or None."""
    if run.topic_quality is None or run.topic_quality.empty:
        return None
    body = [
        [Cell(name_topic_quality(str(row["quantity"])), "text"), Cell(_format_quality(row["value"]), "number")]
        for row in run.topic_quality.to_dict("records")
    ]
    return Table(f"{run.label}: quality of the topic fit", [[Cell("quantity", "text"), Cell("value", "number")]], body)


def _format_quality(value: float) -> str:
    if not math.isfinite(value):
        return NO_VALUE
    return f"{value:.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def router_table(run: RunResults) -> Table | None:
    """Return the model's own routers, a row a router, as the manifest lists them, or None."""
    routers = run.manifest.get("routers") or run.manifest.get("layers")
    if not isinstance(routers, list) or not routers or not all(isinstance(router, dict) for router in routers):
        return None
    routers = [router for router in routers if router.get("routing", "learned") == "learned"]
    columns = [name for name in _ROUTER_COLUMNS if any(name in router for router in routers)]
    if not columns:
        return None
    head = [[Cell(name.replace("_", " ").replace("num experts", "experts"), _router_kind(name)) for name in columns]]
    body = [[Cell(_show(router.get(name)), _router_kind(name)) for name in columns] for router in routers]
    return Table(f"{run.label}: routers", head, body)


def _router_kind(name: str) -> str:
    return "number" if name in ("num_experts", "top_k") else "text"


def facts_table(caption: str, facts: Iterable[tuple[str, Any]]) -> Table | None:
    """Return a two-column table of names and values, or None where there are none."""
    body = [[Cell(clean_text(name), "text"), Cell(_show(value), "text wide code")] for name, value in facts]
    return Table(caption, [], body) if body else None


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested mappings as dotted names and values; lists stay values."""
    if not isinstance(value, dict):
        return [(prefix, value)] if prefix and value is not None else []
    return [pair for key, inner in value.items() for pair in flatten(inner, f"{prefix}.{key}" if prefix else str(key))]


def _show(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return shorten(", ".join(_show(item) for item in value), width=300)
    return shorten(value, width=300)
