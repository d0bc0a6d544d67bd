"""What was measured on runs, as tables: the headline of each label set, and every layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.cli.console import out, print_json, print_line
from specialize.cli.tables import number, print_table, text, word

if TYPE_CHECKING:
    from specialize.reporting.findings import Record


def print_summary(runs: Sequence[Path], *, as_json: bool) -> None:
    """Print U of each label set at every layer and the headlines of runs; or the same numbers as JSON."""
    from specialize.names import name_label_set
    from specialize.reporting import summarise

    summary = summarise(runs)
    if as_json:
        print_json(summary.as_dicts())
        return
    if not summary.label_sets:
        print_line(f"nothing was measured on {', '.join(summary.labels.values())} yet")
        return
    several = len(summary.labels) > 1
    run = [text("run")] if several else []
    for label_set in summary.label_sets:
        records = summary.layers(label_set)
        controls = any(record.routing == "random" for record in records)
        names = name_label_set(label_set)
        columns = [*run, number("layer"), *([word("router")] if controls else []), number("U [95 %]"), number("null")]
        print_table(
            f"U({names.long} | expert) = I(expert; {names.short}) / H({names.short}), in %",
            [*columns, number("p")],
            [
                [
                    *([summary.labels[record.run]] if several else []),
                    record.layer,
                    *([record.routing] if controls else []),
                    *_numbers(record),
                ]
                for record in records
            ],
        )
        out.print()
    answers = [(summary.labels[name], answer) for name, own in summary.answers.items() for answer in own]
    print_table(
        "Summary: U at the layer where it is largest",
        [*run, text("labels"), number("U [95 %]"), text("verdict")],
        [
            [
                *([name] if several else []),
                answer.about,
                f"{answer.value} [{answer.interval}]" if answer.interval else answer.value,
                answer.conclusion,
            ]
            for name, answer in answers
        ],
    )


def _numbers(record: "Record") -> list[str]:
    from specialize.reporting.tables import estimate_cells

    value, interval, null, p_value = (cell.text for cell in estimate_cells(record))
    return [f"{value} {interval}", null, p_value]
