"""Tables on stdout: one look for all commands, numbers written one way, texts shown as they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from specialize.cli.console import out
from specialize.text import format_number, format_p, is_smallest_p, strip_controls

if TYPE_CHECKING:
    import pandas as pd

_GAP = 2  # between columns
_NARROWEST = 8  # a column that folds


@dataclass(frozen=True)
class Column:
    """A column of a table, made with `number`, `word` or `text`.

    Attributes:
        header: its name, of one or several lines.
        is_number: aligned to the right.
        folds: broken where room is short, at any place.
    """

    header: str
    is_number: bool = False
    folds: bool = False


def number(header: str) -> Column:
    """Return a column of numbers, which are never broken."""
    return Column(header, is_number=True)


def word(header: str) -> Column:
    """Return a column of short words of this package, which are never broken."""
    return Column(header)


def text(header: str) -> Column:
    """Return a column of any text, such as labels and names of modules."""
    return Column(header, folds=True)


def print_table(title: str | None, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. Where the terminal is too narrow texts fold, then intervals go below their values.

    Args:
        title: what it shows; None where that is clear.
        columns: its columns.
        rows: a cell for each column.
    """
    cells = [[Text(strip_controls(str(cell))) for cell in row] for row in rows]
    if _least_width(columns, cells) > out.width:
        cells = [[_stack(cell, column) for cell, column in zip(row, columns, strict=True)] for row in cells]
    least = _least_width(columns, cells)
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        show_header=any(column.header for column in columns),
        width=least if least > out.width else None,  # the terminal breaks its lines then: nothing is lost
    )
    height = max(column.header.count("\n") for column in columns)
    for column in columns:
        table.add_column(
            Text("\n" * (height - column.header.count("\n")) + column.header),
            justify="right" if column.is_number else "left",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=_NARROWEST if column.folds else None,
        )
    for row in cells:
        table.add_row(*row)
    if title is not None:
        out.print(Text(strip_controls(title), style="italic"), soft_wrap=True)
    out.print(table, crop=False)


def _stack(cell: Text, column: Column) -> Text:
    return Text(cell.plain.replace(" [", "\n[")) if column.is_number else cell


def _least_width(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> int:
    """Width in which no number is broken."""
    width = _GAP * (len(columns) - 1)
    for index, column in enumerate(columns):
        lines = [line for cell in (column.header, *(row[index].plain for row in rows)) for line in cell.split("\n")]
        width += _NARROWEST if column.folds else max(map(cell_len, lines))
    return width


def print_facts(facts: Mapping[str, object]) -> None:
    """Print facts about one thing, one line each: the name of the fact, and its value."""
    print_table(None, [word(""), text("")], facts.items())


def router_columns(frame: "pd.DataFrame") -> dict[str, Column]:
    """Return the columns of a result frame that identify its routers, each with its column of a table.

    The layer always; the router if a layer has several; the routing if some routers are random.
    """
    columns = {"layer": number("layer")}
    if frame.groupby(["routing", "layer"])["router"].nunique().max() > 1:
        columns["router"] = text("router")
    if frame["routing"].nunique() > 1:
        columns["routing"] = word("routing")
    return columns


def format_estimate(row: "pd.Series", *, digits: int = 3) -> str:
    """Write the value of a result row, with its interval where it has one: 0.157 [0.123, 0.190].

    Args:
        row: of a result frame.
        digits: after the decimal point, except of counts.
    """
    if row["unit"] == "count":
        return f"{row['value']:,.0f}"
    value, low, high = (format_number(row[name], digits=digits) for name in ("value", "ci_low", "ci_high"))
    return value if row["ci_low"] != row["ci_low"] else f"{value} [{low}, {high}]"


def format_row_p(row: "pd.Series") -> str:
    """Write the p-value of a result row; the smallest that its permutations allow as ≤."""
    import pandas as pd

    permutations = row["n_permutations"]
    return format_p(row["p_value"], at_most=not pd.isna(permutations) and is_smallest_p(row["p_value"], permutations))


def frame_records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame for ``--json``, missing values None."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]
