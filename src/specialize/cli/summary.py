"""What was measured on runs, as tables: every layer of each label set, then the verdicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.cli.console import out, print_json, print_line, say
from specialize.cli.tables import number, print_table, text, word
from specialize.remote.places import open_place

if TYPE_CHECKING:
    from specialize.reporting.tables import Table


def print_summary(runs: Sequence[str | Path], *, as_json: bool) -> None:
    """Print U of each label set at every layer and the verdicts on runs; or the same numbers as JSON.

    Result files that are damaged or of another trace are left out, with a line each: a command that measured ends well.
    """
    from specialize.reporting import summarise

    summary = summarise([open_place(run) for run in runs], leave_out=say)
    if as_json:
        print_json(summary.as_dicts())
        return
    if not summary.label_sets:
        print_line(f"nothing was measured on {', '.join(summary.labels.values())} yet")
        return
    for label_set in summary.label_sets:
        _print(summary.layer_table(label_set))
        out.print()
    _print(summary.answer_table(), without=() if len(summary.labels) > 1 else ("run",))
    for line in summary.agreements:
        print_line(line)


def _print(table: "Table", *, without: Sequence[str] = ()) -> None:
    """Print a table of the report; columns of names fold, those of short words and numbers do not."""
    (head,) = table.head
    kept = [place for place, cell in enumerate(head) if cell.text not in without]
    columns = []
    for place in kept:
        kind = number if "number" in head[place].kind else word if head[place].text == "router" else text
        columns.append(kind(head[place].text))
    print_table(table.caption, columns, [[row[place].text for place in kept] for row in table.body])
