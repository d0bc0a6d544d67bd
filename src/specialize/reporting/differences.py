"""How the runs of a report differ: in words, and in the numbers that `specialize compare` left."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from specialize.names import name_in_table, name_label_set
from specialize.reporting.corpora import CorpusRuns, group_by_corpus
from specialize.reporting.findings import METRIC, Finding, Record, find_best
from specialize.reporting.formatting import ALPHA, percent, percent_range
from specialize.reporting.runs import RunResults, sorted_label_sets
from specialize.reporting.tables import Cell, Table
from specialize.text import NBSP, NO_VALUE, clean_text, equate_p, format_number, format_p

_COMPARED = "compare-against-"
_MEAN = "mean difference of "
_METRICS = (
    *(METRIC, "signature_difference", "load_entropy", "first_expert_repeats", "any_expert_repeats"),
    *("lru_hit_rate", "optimal_hit_rate", "same_token_overlap_above_any"),
)
_MOST_LAYERS = 12


def compare_in_words(runs: Sequence[RunResults], records: Sequence[Record]) -> list[str]:
    """Return one sentence per corpus and label set that several runs have: where U is largest, where it is smallest."""
    return [sentence for group in group_by_corpus(runs) for sentence in _compare_on(group, records)]


def _compare_on(group: CorpusRuns, records: Sequence[Record]) -> list[str]:
    runs = group.runs
    by_name = {run.name: run for run in runs}
    sentences = []
    for label_set in sorted_label_sets(runs):
        found = [find_best(records, run.name, label_set) for run in runs]
        findings = sorted((f for f in found if f is not None), key=lambda finding: -finding.best.value)
        if len(findings) < 2:
            continue
        most, least = findings[0], findings[-1]
        first, last = by_name[most.best.run], by_name[least.best.run]
        names = name_label_set(label_set)
        difference = _describe_difference(first, last, label_set) or _compare_intervals(most, least)
        about = f"on {group.name}, {names.long}" if group.name else names.long
        sentences.append(
            f"{about[:1].upper()}{about[1:]}: routing explains the largest share of H({names.short}) in "
            f"{first.label} ({percent(most.best.value)}) and the smallest in {last.label} "
            f"({percent(least.best.value)}); {difference}."
        )
    return sentences


def _describe_difference(first: RunResults, last: RunResults, label_set: str) -> str | None:
    """Return the difference of U in words, paired by documents, where either run was compared with the other."""
    for run, other, sign in ((first, last, 1), (last, first, -1)):
        frame = run.others.get(_COMPARED + other.path.resolve().name)
        if frame is None:
            continue
        rows = frame[(frame["metric"] == _MEAN + METRIC) & (frame["label_set"] == label_set)]
        rows = rows[rows["routing"] == "learned"]
        if len(rows):
            row = rows.iloc[0]
            low, high = sorted(sign * row[name] for name in ("ci_low", "ci_high"))
            return (
                f"the difference, paired by documents and averaged over the layers, is "
                f"{percent(sign * row['value'], unit=False)} percentage points (95{NBSP}% interval "
                f"{percent_range(low, high)}, {equate_p(row['p_value'])})"
            )
    return None


def _compare_intervals(most: Finding, least: Finding) -> str:
    if not (math.isfinite(most.best.ci_low) and math.isfinite(least.best.ci_high)):
        return "without intervals, the difference cannot be assessed"
    if most.best.ci_low > least.best.ci_high:
        return f"their 95{NBSP}% intervals do not overlap"
    return f"their 95{NBSP}% intervals overlap, so the order is uncertain"


def difference_tables(runs: Sequence[RunResults]) -> list[Table]:
    """Return a table for each comparison that lies in the folder of a run."""
    tables = []
    for run in runs:
        for name, frame in run.others.items():
            if not name.startswith(_COMPARED):
                continue
            body = [*_mean_rows(frame, sorted_label_sets(runs)), *_saturation_rows(frame)]
            if body:
                names = ("quantity", "difference", f"95{NBSP}%", "p")
                head = [[Cell(each, "number" if place else "text") for place, each in enumerate(names)]]
                title = clean_text(frame["run"].iloc[0])
                tables.append(Table(f"{title}: differences, paired by documents, mean over the layers", head, body))
    return tables


def _mean_rows(frame: pd.DataFrame, label_sets: Sequence[str]) -> Iterator[list[Cell]]:
    """Rows of the learned routers, or of learned − random, in the report's order of label sets."""
    rows = frame[frame["metric"].isin([_MEAN + metric for metric in _METRICS]) & (frame["routing"] != "random")]
    order = {name: place for place, name in enumerate(label_sets)}
    # a label set that was compared, but that no run of the report measured, comes after those that were measured
    places = rows["label_set"].map(lambda name: order.get(name, len(order)), na_action="ignore").astype(float)
    rows = rows.iloc[places.fillna(math.inf).argsort(kind="stable").to_numpy()]
    for row in rows.itertuples():
        share = "share" in str(row.unit)
        quantity = name_in_table(str(row.metric).removeprefix(_MEAN))
        if isinstance(row.label_set, str):
            quantity += f"{'' if quantity == 'U' else ' '}({name_label_set(row.label_set).long})"
        unit = "percentage points" if share else clean_text(row.unit)
        yield _row(f"{quantity}, {unit}", row, 100.0 if share else 1.0, format_p(float(row.p_value)))


def _saturation_rows(frame: pd.DataFrame) -> Iterator[list[Cell]]:
    """The share of slots that agree, which is not a difference: it is shown beside chance, without p."""
    rows = frame[(frame["metric"] == "saturation") & (frame["routing"] == "learned") & frame["label_set"].isna()]
    for row in rows.head(_MOST_LAYERS).itertuples():
        chance = f"chance {format_number(100 * float(row.null_mean), digits=2)}"
        yield _row(f"slots with the same expert in both runs, layer {row.layer:g}, %", row, 100.0, chance)


def _row(quantity: str, row: Any, scale: float, last: str) -> list[Cell]:
    value, low, high = (scale * float(getattr(row, name)) for name in ("value", "ci_low", "ci_high"))
    significant = row.p_value <= ALPHA
    ends = ", ".join(format_number(end, digits=2) for end in (low, high))
    return [
        Cell(quantity, "text"),
        Cell(format_number(value, digits=2), "number strong" if significant else "number"),
        Cell(f"[{ends}]" if math.isfinite(low) else NO_VALUE, "number faint"),
        Cell(last, "number"),
    ]
