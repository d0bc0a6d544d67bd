"""Chooses the columns of text, id and labels, and turns rows into documents."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from specialize.corpus.document import Document, Record
from specialize.errors import CorpusError, did_you_mean

ColumnKind = Literal["text", "scalar", "other"]  # text: strings; scalar: integers and booleans

_ROWS_TO_JUDGE = 100


@dataclass(frozen=True)
class ColumnRequest:
    """The columns that the user asked for; None: chosen by the rules of `choose_columns`."""

    text: str | None = None
    id: str | None = None
    labels: tuple[str, ...] | None = None

    @property
    def is_default(self) -> bool:
        """Whether no column was asked for."""
        return self.text is None and self.id is None and self.labels is None


@dataclass(frozen=True)
class ColumnChoice:
    """The columns to read. `id` is None if rows are numbered."""

    text: str
    id: str | None
    labels: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of all columns to read."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.labels]))


def choose_columns(kinds: Mapping[str, ColumnKind], request: ColumnRequest, *, name: str) -> ColumnChoice:
    """Choose the text, id and label columns of a table.

    Text: the one asked for, else `text`, else the only string column. Id: the one asked for, else `id` if it holds
    strings or integers, else none (rows are numbered from 0). Labels: those asked for, else every string, integer or
    boolean column that is neither.

    Args:
        kinds: the kind of each column.
        request: what the user asked for.
        name: of the file, for messages.

    Raises:
        CorpusError: a column asked for is missing, or the text column is ambiguous.
    """
    for column in (request.text, request.id, *(request.labels or ())):
        if column is not None and column not in kinds:
            raise CorpusError(
                f"{name}: expected a column {column!r}, got {', '.join(kinds) or 'none'}." + did_you_mean(column, kinds)
            )
    identifier = request.id
    if identifier is None and kinds.get("id", "other") != "other" and request.text != "id":
        identifier = "id"
    text = request.text or _find_text_column(kinds, identifier, name)
    labels = request.labels
    if labels is None:
        labels = tuple(c for c, kind in kinds.items() if kind != "other" and c not in (text, identifier))
    return ColumnChoice(text, identifier, labels)


def _find_text_column(kinds: Mapping[str, ColumnKind], identifier: str | None, name: str) -> str:
    strings = [column for column, kind in kinds.items() if kind == "text" and column != identifier]
    if "text" in kinds:  # of any kind, because a wrong value is reported with its line
        return "text"
    if len(strings) == 1:
        return strings[0]
    raise CorpusError(
        f"{name}: expected a column 'text' or a single string column, got {', '.join(kinds) or 'none'}; set text_column"
    )


def peek_kinds(
    rows: Iterator[tuple[int, dict[str, Any]]],
) -> tuple[dict[str, ColumnKind], Iterator[tuple[int, dict[str, Any]]]]:
    """Determine the kinds of untyped columns from the first 100 rows; return them and an iterator over all rows."""
    first = list(islice(rows, _ROWS_TO_JUDGE))
    values: dict[str, list[Any]] = defaultdict(list)
    for _, row in first:
        for column, value in row.items():
            values[column].append(value)
    return {column: _kind_of_values(values[column]) for column in values}, chain(first, rows)


def _kind_of_values(values: Sequence[Any]) -> ColumnKind:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, str) for value in present):
        return "text"
    if present and all(isinstance(value, str | int) for value in present):  # a bool is an int
        return "scalar"
    return "other"


def make_record(row: Mapping[str, Any], choice: ColumnChoice, *, where: str, number: int) -> Record:
    """Turn a row into a document.

    A missing (null) text counts as an empty one. Booleans become `true` and `false`, numbers are written as in
    Python. Missing labels have no entry.

    Args:
        row: values by column.
        choice: the columns of text, id and labels.
        where: the place of the row, for messages.
        number: of the row, its id if there is no id column.

    Raises:
        CorpusError: the text column is missing, the text is not a string, or an id or label is not a scalar.
    """
    if choice.text not in row:
        raise CorpusError(f"{where}: expected the text column {choice.text!r}, got {', '.join(row) or 'no columns'}")
    text = row[choice.text]
    if text is not None and not isinstance(text, str):
        raise CorpusError(f"{where}: expected a string in text column {choice.text!r}, got {type(text).__name__}")
    identifier = str(number)
    if choice.id is not None:
        value = row.get(choice.id)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise CorpusError(f"{where}: expected a string or an integer as id in {choice.id!r}, got {value!r:.60}")
        identifier = str(value)
    labels = {}
    for column in choice.labels:
        value = row.get(column)
        if isinstance(value, list | tuple | dict | bytes):
            raise CorpusError(
                f"{where}: expected a string, number or boolean in label column {column!r}, got {type(value).__name__}"
            )
        if value is None or value == "" or value != value:  # not equal to itself: NaN, pandas' missing value
            continue
        labels[column] = str(value).lower() if isinstance(value, bool) else str(value)
    return Record(where, Document(identifier, text or "", labels))
