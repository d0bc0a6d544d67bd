"""What a report says, without its figures: answers and the numbers of every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialize.reporting.answers import Answer, answer_runs
from specialize.reporting.findings import METRIC, Record, read_records
from specialize.reporting.reading import read_runs
from specialize.reporting.runs import sorted_label_sets


@dataclass(frozen=True)
class Summary:
    """The answers and numbers of some runs.

    Attributes:
        labels: what each run is called, by its name: the name, with a warning where the model is not causal.
        answers: of each run by its name, as on the first screen of a report.
        label_sets: those measured on any run, in the order of a report.
        records: uncertainty coefficients of every run, router, label set and layer; those without a layer are the
            largest over the layers.
    """

    labels: dict[str, str]
    answers: dict[str, list[Answer]]
    label_sets: list[str]
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

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the records for ``--json``, one mapping each: shares (0.2 for 20 %), missing values None."""
        return [record.as_dict() for record in self.records]


def summarise(runs: Sequence[Path]) -> Summary:
    """Read what was measured on `runs`.

    Args:
        runs: run folders.

    Raises:
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    results = read_runs(runs)
    records = read_records(results)
    return Summary(
        labels={run.name: run.label for run in results},
        answers=answer_runs(results, records),
        label_sets=sorted_label_sets(results),
        records=records,
    )
