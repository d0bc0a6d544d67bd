"""Finds what separates the columns of a table whose name promises another delimiter."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice

from specialize.errors import CorpusError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LINES_TO_JUDGE = 100


def describe(delimiter: str) -> str:
    """Return the name of a delimiter in the plural."""
    return _DELIMITERS[delimiter]


def find_delimiter(lines: Iterator[str], expected: str, name: str) -> tuple[str, Iterator[str]]:
    """Return the delimiter of a table, and all its lines.

    It is the expected one if that divides the header. Otherwise it is the delimiter that divides the header and the
    first rows, of 100 lines at most, into equally many fields.

    Args:
        lines: of the table, from the header.
        expected: comma or tab, by the name of the file.
        name: of the file, for messages.

    Raises:
        CorpusError: the header contains other delimiters, and it is not clear which of them divides the rows.
    """
    header = next(lines, None)
    if header is None:
        return expected, lines
    if len(_first_row([header], expected)) > 1:
        return expected, chain([header], lines)
    sample = [header, *islice(lines, _LINES_TO_JUDGE)]
    whole = chain(sample, lines)
    if len(_first_row(sample, expected)) > 1:  # a header over several lines
        return expected, whole
    others = [delimiter for delimiter in _DELIMITERS if delimiter != expected and delimiter in header]
    fitting = [delimiter for delimiter in others if _divides_evenly(sample, delimiter)]
    if len(fitting) == 1:
        return fitting[0], whole
    if any(delimiter in line for delimiter in others for line in sample[1:]):
        found = " or ".join(describe(delimiter) for delimiter in others)
        raise CorpusError(
            f"{name}: expected columns separated by {describe(expected)}, got a header of one column with {found} in "
            f"it, {header.strip()!r:.60}; write the table with {describe(expected)}, or as JSON Lines"
        )
    return expected, whole  # one column


def _first_row(lines: Sequence[str], delimiter: str) -> list[str]:
    rows = _rows(lines, delimiter)
    return rows[0] if rows else []


def _divides_evenly(sample: Sequence[str], delimiter: str) -> bool:
    rows = _rows(sample, delimiter)
    return len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    with suppress(csv.Error):  # raised also if the lines end within quotes
        rows.extend(fields for fields in csv.reader(lines, delimiter=delimiter, strict=True) if fields)
    return rows
