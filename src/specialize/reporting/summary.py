"""A report without its figures, for a terminal: verdicts and the numbers of every layer, as tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialize.reporting.answers import Answer, answer_runs, answer_table
from specialize.reporting.findings import METRIC, Record, read_records
from specialize.reporting.function_words import summarise_agreement
from specialize.reporting.reading import read_runs
from specialize.reporting.runs import sorted_label_sets
from specialize.reporting.tables import Cell, Table, estimate_cells, name_set
from specialize.reporting.verdict import judge_runs
from specialize.text import NBSP


@dataclass(frozen=True)
class Summary:
    """The verdicts and numbers of some runs.

    Attributes:
        labels: what each run is called, by its name: the name, with a warning where the model is not causal.
        answers: the verdicts of each run by its name, as on the first screen of a report.
        label_sets: those measured on any run, in the order of a report.
        agreements: agreement of lift and per-use effect, a line for each run, mode and label set for which experts were
            switched off.
        records: uncertainty coefficients of every run, router, label set and layer; those without a layer are the
            largest over the layers.
    """

    labels: dict[str, str]
    answers: dict[str, list[Answer]]
    label_sets: list[str]
    agreements: list[str]
    records: list[Record]

    def layers(self, label_set: str) -> list[Record]:
        """Return the records of single layers for a label set, runs in order, layers in order, learned first."""
        order = {name: place for place, name in enumerate(self.labels)}
        own = [
            record
            for record in self.records
            if record.label_set == label_set and record.metric == METRIC and record.layer is not None
        ]
        return sorted(own, key=lambda record: (order[record.run], record.layer, record.routing))

    def answer_table(self) -> Table:
        """Return the verdicts as a table; the notes on a verdict are the small print of its cell."""
        return answer_table(self.answers, self.labels)

    def layer_table(self, label_set: str) -> Table:
        """Return U of a label set at every layer of every run: in %, with interval, null mean and p."""
        records = self.layers(label_set)
        runs, routers = len(self.labels) > 1, any(record.routing == "random" for record in records)
        names = [*(["run"] if runs else []), "layer", *(["router"] if routers else [])]
        numbers = [f"U [95{NBSP}%]", "null mean", "p"]
        head = [[*(Cell(name, "text") for name in names), *(Cell(name, "number") for name in numbers)]]
        body = []
        for record in records:
            value, interval, null, p_value = estimate_cells(record)
            place = [
                *([self.labels[record.run]] if runs else []),
                str(record.layer),
                *(["random" if record.routing == "random" else "learned"] if routers else []),
            ]
            estimate = Cell(f"{value.text} {interval.text}", value.kind)
            body.append([*(Cell(each, "text") for each in place), estimate, null, p_value])
        return Table(name_set(label_set), head, body)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the records for ``--json``, one mapping each: shares (0.2 for 20 %), missing values None."""
        return [record.as_dict() for record in self.records]


def summarise(runs: Sequence[Path], *, leave_out: Callable[[str], object] | None = None) -> Summary:
    """Read what was measured on `runs`.

    Args:
        runs: run folders.
        leave_out: as for `read_runs`.

    Raises:
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    results = read_runs(runs, leave_out=leave_out)
    records = read_records(results)
    return Summary(
        labels={run.name: run.label for run in results},
        answers=answer_runs(results, judge_runs(results, records), records),
        label_sets=sorted_label_sets(results),
        agreements=[line for run in results for line in summarise_agreement(run)],
        records=records,
    )
