"""The data of the table of all experts, which is unpacked in the browser when it comes into view."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.names import name_label_set, shorten
from specialize.reporting.ablations import list_ablations
from specialize.reporting.explorer import top_tokens
from specialize.reporting.formatting import ALPHA, round_number
from specialize.reporting.runs import RunResults

MOST_CELLS = 400_000  # of labels and experts in a page; of more, the intervals are left out
_TOKENS = 6
_SELECTIVE = 3


def collect_expert_tables(runs: Sequence[RunResults]) -> dict[str, Any] | None:
    """Return the tables of the experts of `runs`, JSON-serialisable; None where nothing is known of any."""
    cells = sum(int((frame["metric"] == "lift").sum()) for run in runs for frame in run.frames.values())
    found = [_table(run, with_intervals=cells <= MOST_CELLS) for run in runs]
    tables = [table for table in found if table["expert"]]
    return {"runs": tables} if tables else None


def _table(run: RunResults, *, with_intervals: bool) -> dict[str, Any]:
    """Return the columns of a run's table, one row per layer and expert.

    Lifts and what belongs to them are [experts, labels] in rows, None where there is none.
    """
    ablations = list_ablations(run)
    effects = ablations[0].experts if ablations else None
    quantities = [(frame, "lift") for frame in run.frames.values()]
    quantities += [(run.load_frame, "load")] if run.load_frame is not None else []
    quantities += [(effects, "effect")] if effects is not None else []
    known = {place for frame, metric in quantities for place in _places(_learned(frame, metric))}
    layers, experts = ([place[axis] for place in sorted(known)] for axis in range(2))
    index = pd.MultiIndex.from_arrays([layers, experts])
    tokens = top_tokens(run)
    table: dict[str, Any] = {
        "name": run.label,
        "layer": [layer for layer, _ in index],
        "expert": [expert for _, expert in index],
        "load": [None] * len(index) if run.load_frame is None else _by_expert(run.load_frame, "load", index),
        "tokens": [
            " · ".join(text for text, _ in tokens[layer].get(str(expert), ())[:_TOKENS]) for layer, expert in index
        ],
        "sets": [_label_set(name, frame, index, with_intervals) for name, frame in run.frames.items()],
    }
    if effects is not None:
        table["effect"] = _by_expert(effects, "effect", index)
    if committees := _committees(run, index):
        table["committee"] = committees
    selective = ablations[0].label_sets if ablations else {}
    for name, own in zip(run.frames, table["sets"], strict=True):
        if name in selective:
            own["selective"] = _most_selective(selective[name], index)
    return table


def _committees(run: RunResults, index: pd.MultiIndex) -> list[str]:
    """Return the label sets of documents whose common committee each expert belongs to; none if not measured."""
    if run.routing is None:
        return []
    rows = _learned(run.routing, "common_committee_load")
    if rows.empty:
        return []
    found: list[list[str]] = [[] for _ in range(len(index))]
    for place, label_set in zip(index.get_indexer(_places(rows)), rows["label_set"], strict=True):
        if place >= 0:
            found[place].append(name_label_set(str(label_set)).short)
    return [", ".join(names) for names in found]


def _most_selective(frame: pd.DataFrame, index: pd.MultiIndex) -> list[str]:
    """Return the labels on which each expert has a larger effect than on other tokens, beyond chance, with it."""
    rows = _learned(frame, "effect_selectivity")
    rows = rows[rows["label"].notna() & (rows["value"] > 0) & (rows["q_value"] <= ALPHA)]
    rows = rows.sort_values("value", ascending=False, kind="stable")
    found: list[list[str]] = [[] for _ in range(len(index))]
    for place, label, value in zip(index.get_indexer(_places(rows)), rows["label"], rows["value"], strict=True):
        if place >= 0 and len(found[place]) < _SELECTIVE:
            found[place].append(f"{shorten(label, width=48)} {round_number(value)}")
    return [", ".join(labels) for labels in found]


def _places(rows: pd.DataFrame) -> pd.MultiIndex:
    """Return the layer and the expert of each row."""
    return pd.MultiIndex.from_frame(rows[["layer", "expert"]].astype(int))


def _learned(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a quantity of single experts."""
    routing = frame["routing"] == "learned" if "routing" in frame else True
    return frame[(frame["metric"] == metric) & routing & frame["expert"].notna() & frame["layer"].notna()]


def _by_expert(frame: pd.DataFrame, metric: str, index: pd.MultiIndex) -> list[float | None]:
    rows = _learned(frame, metric)
    rows = rows[rows["label"].isna()] if "label" in rows else rows
    places = index.get_indexer(_places(rows))
    values = np.full(len(index), np.nan)
    values[places[places >= 0]] = rows["value"].to_numpy()[places >= 0]
    return _numbers(values)


def _label_set(name: str, frame: pd.DataFrame, index: pd.MultiIndex, with_intervals: bool) -> dict[str, Any]:
    rows = _learned(frame, "lift")
    rows = rows[rows["label"].notna()]
    labels = list(dict.fromkeys(rows["label"]))
    row = index.get_indexer(_places(rows))
    column = pd.Index(labels).get_indexer(rows["label"])
    kept = ["value", *(["ci_low", "ci_high"] if with_intervals else []), "q_value"]
    found: dict[str, Any] = {
        "name": name_label_set(name).short,
        "labels": [shorten(label, width=48) for label in labels],
        "information": _by_expert(frame, "specific_information", index),
    }
    for source, target in zip(kept, ("lift", *(("low", "high") if with_intervals else ()), "q"), strict=True):
        grid = np.full((len(index), len(labels)), np.nan)
        grid[row[row >= 0], column[row >= 0]] = rows[source].to_numpy(dtype=np.float64)[row >= 0]
        found[target] = _numbers(grid.ravel())
    return found


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [round_number(value) for value in values.tolist()]
