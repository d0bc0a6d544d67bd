"""Chooses the columns of text, id and labels, and turns rows into documents."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Literal, TypeVar

from specialize.choices import TextUnit, check_choice
from specialize.corpus.document import Document, ReadingNotes, Record
from specialize.corpus.limits import LONGEST_TEXT
from specialize.corpus.messages import MESSAGE_COLUMNS, is_conversation, read_messages
from specialize.errors import CorpusError, did_you_mean
from specialize.text import list_names

# text: strings; scalar: integers and booleans; integral: floats that are integers, with missing values among them, as
# pandas stores integers of which some are missing; conversation: lists of objects
ColumnKind = Literal["text", "scalar", "integral", "conversation", "other"]

LANGUAGE_COLUMNS = ("lang", "language")  # with language codes; the first of them that a corpus has is read
_LABEL_KINDS = ("text", "scalar", "integral")
_ROWS_TO_JUDGE = 100
LARGEST_EXACT = 2**53  # integers beyond it are rounded as floats


Place = TypeVar("Place")  # where a row stands: its number, or words for messages


@dataclass(frozen=True)
class ColumnRequest:
    """How the user asked for documents to be read: by which columns; None: chosen by the rules of `choose_columns`.

    Attributes:
        text: column of the text.
        id: column of the ids.
        labels: label columns.
        group: column that says which documents belong together.
        messages: column of conversations, which are read instead of texts.
        unit: what a document of plain text is.
        needs_text: whether there must be a text; if not, it is the column `text` or none.

    Raises:
        CorpusError: both texts and conversations are asked for, or the unit is unknown.
    """

    text: str | None = None
    id: str | None = None
    labels: tuple[str, ...] | None = None
    group: str | None = None
    messages: str | None = None
    unit: TextUnit = "file"
    needs_text: bool = True

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, TextUnit, error=CorpusError)
        if self.text is not None and self.messages is not None:
            raise CorpusError(
                f"expected text_column or messages_column, got both ({self.text!r:.60} and {self.messages!r:.60}); "
                "choose one"
            )

    @property
    def asks_columns(self) -> bool:
        """Whether a column was asked for."""
        return replace(self, unit="file", needs_text=True) != ColumnRequest()


@dataclass(frozen=True)
class ColumnChoice:
    """The columns to read.

    Attributes:
        text: None if the table has no texts, or conversations are read instead.
        id: None if rows are numbered.
        labels: the label columns, that of groups among them.
        integral: the columns whose floats are integers.
        known: all columns of the table; None if rows are not searched for further ones.
        notes: what is noted while the table is read.
        messages: the column of conversations, if they are read.
    """

    text: str | None
    id: str | None
    labels: tuple[str, ...]
    integral: frozenset[str] = frozenset()
    known: frozenset[str] | None = None
    notes: ReadingNotes = field(default_factory=ReadingNotes)
    messages: str | None = None

    @property
    def names(self) -> list[str]:
        """Names of all columns to read."""
        names = (self.text, self.messages, self.id, *self.labels)
        return list(dict.fromkeys(name for name in names if name is not None))


def choose_columns(
    kinds: Mapping[str, ColumnKind], request: ColumnRequest, *, name: str, types: Mapping[str, str] | None = None
) -> ColumnChoice:
    """Choose the text, id and label columns of a table.

    Text: the one asked for, else `text`, else the only string column. Conversations are read instead of texts where
    their column is asked for, or where there is neither a request for a text nor a column `text` but a column
    `messages`, `conversations` or `conversation` with lists of objects. Id: the one asked for, else `id` if it holds
    strings or integers, else none (rows are numbered from 0). Labels: those asked for and the column with the language
    (`lang` or `language`), else every string, integer or boolean column that is neither, and columns of floats that are
    integers with missing values among them. Columns that are then not used are noted with the reason. Groups: the
    column asked for, else `group`, unless it is asked for as a label.

    Args:
        kinds: the kind of each column.
        request: what the user asked for.
        name: of the file, for messages.
        types: what each column holds, for the notes.

    Raises:
        CorpusError: a column asked for is missing, or the text column is ambiguous.
    """
    for column in (request.text, request.messages, request.id, request.group, *(request.labels or ())):
        if column is not None and column not in kinds:
            raise CorpusError(
                f"{name}: expected a column {column!r}, got {list_names(kinds)}." + did_you_mean(column, kinds)
            )
    identifier = request.id
    if identifier is None and kinds.get("id") in ("text", "scalar") and request.text != "id":
        identifier = "id"
    messages = request.messages or _find_messages_column(kinds, request)
    text = None if messages else request.text or _find_text_column(kinds, identifier, request, name)
    read = (text, identifier) if messages is None else ("text", messages, identifier)  # texts are not labels
    integral = frozenset(column for column, kind in kinds.items() if kind == "integral")
    found = text if request.text is None and text != "text" else None
    group = request.group or _find_group_column(kinds, (*read, *(request.labels or ())))
    grouping = () if group is None else (group,)
    if request.labels is not None:
        language = (name for name in LANGUAGE_COLUMNS if kinds.get(name) == "text" and name not in read)
        asked = (*request.labels, *islice(language, 1), *grouping)  # the tagger depends on the language
        labels = tuple(dict.fromkeys(asked))
        notes = ReadingNotes(labels=labels, found_text=found, group=group)
        return ColumnChoice(text, identifier, labels, integral, notes=notes, messages=messages)
    rest = [column for column in kinds if column not in read]
    usable = (
        column for column in rest if kinds[column] in _LABEL_KINDS and (column, kinds[column]) != ("id", "integral")
    )
    labels = tuple(dict.fromkeys((*usable, *grouping)))
    types = types or {}
    unused = {column: types.get(column, "floats") for column in rest if column not in labels}
    notes = ReadingNotes(unused, labels, found, group)
    return ColumnChoice(text, identifier, labels, integral, frozenset(kinds), notes, messages)


def _find_group_column(kinds: Mapping[str, ColumnKind], taken: Sequence[str | None]) -> str | None:
    return "group" if kinds.get("group") in _LABEL_KINDS and "group" not in taken else None


def _find_messages_column(kinds: Mapping[str, ColumnKind], request: ColumnRequest) -> str | None:
    if request.text is not None or "text" in kinds or not request.needs_text:
        return None
    return next((column for column in MESSAGE_COLUMNS if kinds.get(column) == "conversation"), None)


def _find_text_column(
    kinds: Mapping[str, ColumnKind], identifier: str | None, request: ColumnRequest, name: str
) -> str | None:
    strings = [column for column, kind in kinds.items() if kind == "text" and column != identifier]
    if "text" in kinds:  # of any kind, because a wrong value is reported with its line
        return "text"
    if not request.needs_text:
        return None
    if len(strings) == 1:
        return strings[0]
    raise CorpusError(
        f"{name}: expected a column 'text' or a single string column, got {list_names(kinds)}; set text_column"
        + (" or messages_column" if "conversation" in kinds.values() else "")
    )


def peek_columns(
    rows: Iterator[tuple[Place, dict[str, Any]]], request: ColumnRequest, *, name: str
) -> tuple[ColumnChoice | None, Iterator[tuple[Place, dict[str, Any]]]]:
    """Choose among untyped columns, whose kinds are determined by the first 100 rows.

    Args:
        rows: places of rows, and rows by column.
        request: what the user asked for.
        name: of the file, for messages.

    Returns:
        The columns, None if there are none, and an iterator over all rows.

    Raises:
        CorpusError: as `choose_columns`.
    """
    first = list(islice(rows, _ROWS_TO_JUDGE))
    values: dict[str, list[Any]] = defaultdict(list)
    for _, row in first:
        for column, value in row.items():
            values[column].append(value)
    if not values:
        return None, chain(first, rows)
    kinds = {column: _kind_of_values(values[column], len(first)) for column in values}
    types = {column: _describe_values(values[column]) for column in values if kinds[column] not in _LABEL_KINDS}
    return choose_columns(kinds, request, name=name, types=types), chain(first, rows)


def _kind_of_values(values: Sequence[Any], rows: int) -> ColumnKind:
    present = [value for value in values if not _is_missing(value)]
    if present and all(isinstance(value, str) for value in present):
        return "text"
    if present and all(isinstance(value, str | int) for value in present):  # a bool is an int
        return "scalar"
    if present and len(present) < rows and all(is_integral(value) for value in present):
        return "integral"
    return "conversation" if present and all(map(is_conversation, present)) else "other"


def is_integral(value: object) -> bool:
    """Return whether a value is an integer, or a float that stands for one."""
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= LARGEST_EXACT
    return isinstance(value, int) and not isinstance(value, bool)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN, pandas' missing value


def _describe_values(values: Sequence[Any]) -> str:
    types = dict.fromkeys(type(value).__name__ for value in values if not _is_missing(value))
    return " and ".join(types) or f"no value in the first {_ROWS_TO_JUDGE} rows"


def make_record(row: Mapping[str, Any], choice: ColumnChoice, *, where: str, number: int) -> Record:
    """Turn a row into a document.

    A missing (null or NaN) text counts as an empty one. Booleans become `true` and `false`, numbers are written as in
    Python, floats in a column of integers as integers. Missing labels have no entry.

    Args:
        row: values by column.
        choice: the columns of text, id and labels.
        where: the place of the row, for messages.
        number: of the row, its id if there is no id column.

    Raises:
        CorpusError: the text column is missing, the text is not a string, messages are not text alone, or an id or
            label is not a scalar.
    """
    if choice.known is not None and not row.keys() <= choice.known:
        for column in sorted(row.keys() - choice.known):
            choice.notes.unused.setdefault(column, f"no value in the first {_ROWS_TO_JUDGE} rows")
    if choice.text is not None and choice.text not in row:
        raise CorpusError(f"{where}: expected the text column {choice.text!r:.60}, got {list_names(row)}")
    text = None if choice.text is None else row[choice.text]
    if _is_missing(text):
        text = ""
    if not isinstance(text, str):
        raise CorpusError(f"{where}: expected a string in text column {choice.text!r:.60}, got {type(text).__name__}")
    messages = read_messages(row.get(choice.messages), where, choice.messages) if choice.messages is not None else ()
    _check_length(len(text) + sum(len(message.content) for message in messages), where)
    identifier = str(number)
    if choice.id is not None:
        value = row.get(choice.id)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise CorpusError(f"{where}: expected a string or an integer as id in {choice.id!r:.60}, got {value!r:.60}")
        identifier = _write(value, where, choice.id)
    labels = {}
    for column in choice.labels:
        value = row.get(column)
        if isinstance(value, list | tuple | dict | bytes):
            raise CorpusError(
                f"{where}: expected a string, number or boolean in label column {column!r:.60}, "
                f"got {type(value).__name__}"
            )
        if value is None or value == "" or value != value:  # not equal to itself: NaN, pandas' missing value
            continue
        if column in choice.integral and is_integral(value):
            value = int(value)
        labels[column] = str(value).lower() if isinstance(value, bool) else _write(value, where, column)
    return Record(where, Document(identifier, text, labels, messages), choice.notes)


def _check_length(characters: int, where: str) -> None:
    """Raise CorpusError for a text that is too long to be one document."""
    if characters > LONGEST_TEXT:
        raise CorpusError(
            f"{where}: expected a text of at most {LONGEST_TEXT:,} characters, got {characters:,}; divide it into "
            "documents"
        )


def _write(value: object, where: str, column: str) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        raise CorpusError(
            f"{where}: expected a shorter integer in column {column!r:.60}, got one of thousands of digits"
        ) from None
