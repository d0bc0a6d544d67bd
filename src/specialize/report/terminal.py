"""The numbers of a report for the terminal and for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from specialize.plot.text import NO_VALUE, name_label_set
from specialize.report.findings import METRIC, Record, read_records
from specialize.report.runs import read_runs, sorted_label_sets
from specialize.report.tables import estimate_cells

_MOST_COLUMNS = 4


def summary_tables(runs: Sequence[Path]) -> list[Table]:
    """Return the tables of `summary_table`, each of at most four label sets, which is what a terminal has room for."""
    label_sets = sorted_label_sets(read_runs(runs))
    starts = range(0, max(1, len(label_sets)), _MOST_COLUMNS)
    return [summary_table(runs, label_sets=label_sets[start : start + _MOST_COLUMNS]) for start in starts]


def summary_table(runs: Sequence[Path], *, label_sets: Sequence[str] | None = None) -> Table:
    """Return a table with a row for each run, layer and router, in % of each label's entropy.

    Each label set has a column of two lines: U with its 95 % interval, and below it the mean of the null and p. Values
    with p at most 0.05 are bold.

    Args:
        runs: run folders.
        label_sets: those to show; all unless given.

    Raises:
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    results = read_runs(runs)
    records = [record for record in read_records(results) if record.metric == METRIC and record.layer is not None]
    label_sets = sorted_label_sets(results) if label_sets is None else label_sets
    table = Table(
        title="U: share of H(label) that one routing decision removes, in %",
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("layer", justify="right", no_wrap=True)
    for name in label_sets:
        table.add_column(Text(f"U({name_label_set(name).short}) [95 %]"), justify="right", overflow="fold")
    for result in results:
        own = {(r.layer, r.routing, r.label_set): r for r in records if r.run == result.name}
        if not own:
            missing = [Text("not measured", style="dim")] if label_sets else []
            table.add_row(Text(result.label), Text(NO_VALUE), *missing)
        for layer, routing in sorted({key[:2] for key in own}, key=lambda key: (key[0] or 0, key[1])):
            title = Text(result.label)
            if routing == "shadow":
                title.append("\nshadow router", style="dim")
            table.add_row(title, str(layer), *(_estimate(own.get((layer, routing, each))) for each in label_sets))
        table.add_section()
    return table


def _estimate(record: Record | None) -> Text:
    value, interval, null, p_value = estimate_cells(record)
    text = Text(value.text, style="bold" if "strong" in value.kind else "")
    if record is not None:
        text.append(f" {interval.text}", style="not bold dim")
        p_text = p_value.text if p_value.text.startswith("<") else f"= {p_value.text}"
        text.append(f"\nnull {null.text}, p {p_text}", style="not bold dim")
    return text


def summary_records(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the same numbers for ``--json``: one mapping a run, router, label set and layer.

    The keys are those of `specialize.report.findings.Record`. Values are shares (0.2 for 20 %), missing ones None. A
    record without a layer is the largest value over the layers, with the p-value of the maximum.

    Args:
        runs: run folders.

    Raises:
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    return [record.as_dict() for record in read_records(read_runs(runs))]
