"""What runs tell of their labels, as tables: the answers of a report's first screen, and every layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.cli.console import out, print_json, print_line
from specialize.cli.tables import number, print_table, text, word

if TYPE_CHECKING:
    from specialize.reporting.findings import Record


def print_summary(runs: Sequence[Path], *, as_json: bool) -> None:
    """Print the answers of runs, then U of each label set at every layer; or the same numbers as JSON."""
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
        random_routers = any(record.routing == "random" for record in records)
        names = name_label_set(label_set)
        columns = [
            *run,
            number("layer"),
            *([word("router")] if random_routers else []),
            number("U [95 %]"),
            number("null"),
        ]
        print_table(
            f"U({names.long} | expert): share of H({names.short}) that one routing decision removes, in %",
            [*columns, number("p")],
            [
                [
                    *([summary.labels[record.run]] if several else []),
                    record.layer,
                    *(["random" if record.routing == "random" else "learned"] if random_routers else []),
                    *_numbers(record),
                ]
                for record in records
            ],
        )
        out.print()
    answers = [(summary.labels[name], answer) for name, own in summary.answers.items() for answer in own]
    print_table(
        "In short: U at the layer where it is largest",
        [*run, text("labels"), number("U [95 %]"), text("verdict")],
        [
            [
                *([name] if several else []),
                answer.about,
                f"{answer.value} [{answer.interval}]" if answer.interval else answer.value,
                answer.verdict,
            ]
            for name, answer in answers
        ],
    )


def _numbers(record: "Record") -> list[str]:
    from specialize.reporting.tables import estimate_cells

    value, interval, null, p_value = (cell.text for cell in estimate_cells(record))
    return [f"{value} {interval}", null, p_value]
