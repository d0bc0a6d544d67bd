"""Reader of JSON files: one array of objects, or of texts. One item is in memory at a time."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from specialize.corpus.columns import ColumnRequest, make_record, peek_columns
from specialize.corpus.document import Record
from specialize.corpus.files import check_regular, open_intact
from specialize.corpus.json_lines import BrokenJsonError, parse_json_at
from specialize.corpus.limits import LONGEST_LINE
from specialize.corpus.lines import reject_wide
from specialize.errors import CorpusError
from specialize.text import format_bytes

_BYTES_AT_ONCE = 2**16
_ITEMS = {"dict": "a JSON object", "str": "a string"}
_WHITE_SPACE = re.compile(r"[ \t\n\r]*")


def read_json(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per item of an array: an object, as a line of JSON Lines, or a text.

    The kind of each column is determined by the first 100 items.

    Raises:
        CorpusError: the file is no such array, not UTF-8 or damaged; the message names the line and the item.
    """
    choice, rows = peek_columns(_read_rows(path, name), request, name=name)
    if choice is None:
        return
    for number, (where, row) in enumerate(rows):
        yield make_record(row, choice, where=where, number=number)


def _read_rows(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    check_regular(path, name)
    with open_intact(path, name) as file:
        text = _Text(file, name)
        kind = ""
        for where, value in _read_items(text):
            kind = kind or type(value).__name__
            if kind not in _ITEMS or type(value).__name__ != kind:
                wanted = _ITEMS.get(kind, " or ".join(_ITEMS.values()))
                raise CorpusError(f"{where}: expected {wanted}, got {type(value).__name__}")
            yield where, value if isinstance(value, dict) else {"text": value}


def _read_items(text: "_Text") -> Iterator[tuple[str, Any]]:
    first = text.peek()
    if first != "[":
        found = {"": "an empty file", "{": "an object"}.get(first, "something else")
        raise CorpusError(
            f"{text.name}: expected an array of objects or texts, got {found}; write the list of documents alone, name "
            "a file of one object per line .jsonl, or leave the file out by a pattern such as *.csv"
        )
    text.skip()
    number, mark = 0, text.peek()
    while mark != "]":
        where = f"{text.name}, line {text.line}, item {number}"
        yield where, text.read_value(number)
        mark = text.peek()
        if mark not in (",", "]"):
            found = repr(mark) if mark else "the end of the file"
            raise CorpusError(f"{text.name}, line {text.line}: expected a comma or the end of the array, got {found}")
        if mark == ",":
            text.skip()
            text.peek()
        number += 1
    text.skip()
    if text.peek():
        raise CorpusError(
            f"{text.name}, line {text.line}: expected nothing after the array, got {text.peek()!r}; write one array"
        )


class _Text:
    """The text of a file as far as it is needed, and a place in it.

    Attributes:
        name: of the file, for messages.
        line: of the place, from 1.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self.line = 1
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._place, self._read = "", 0, 0

    def peek(self) -> str:
        """Go to the next character that is no white space, and return it; empty at the end."""
        while True:
            match = _WHITE_SPACE.match(self._text, self._place)
            assert match is not None
            self._go_to(match.end())
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._fill():
                return ""

    def skip(self) -> None:
        """Go to the next character."""
        self._go_to(self._place + 1)

    def read_value(self, number: int) -> Any:
        """Return the JSON value that begins here, and go behind it."""
        while True:
            try:
                value, end = parse_json_at(self._text, self._place)
            except BrokenJsonError as error:
                held = len(self._text) - self._place
                if held <= LONGEST_LINE and self._fill():
                    continue
                line = self.line + self._text.count("\n", self._place, error.place)
                limit = f", or more than {format_bytes(LONGEST_LINE)}" if held > LONGEST_LINE else ""
                raise CorpusError(
                    f"{self.name}, line {line}, item {number}: expected a JSON object or a string, got broken JSON "
                    f"({error.reason}){limit}"
                ) from None
            except ValueError as error:
                raise CorpusError(
                    f"{self.name}, line {self.line}, item {number}: expected a JSON object or a string, got {error}"
                ) from None
            self._go_to(end)
            return value

    def _go_to(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _fill(self) -> bool:
        """Read on, as much again as is held, so that a long item is not parsed too often; return False at the end."""
        data = self._file.read(max(_BYTES_AT_ONCE, len(self._text) - self._place))
        if not self._read:
            reject_wide(data, self.name)
        self._text, self._place = self._text[self._place :], 0
        try:
            self._text += self._decode(data, not data)
        except UnicodeDecodeError as error:
            at = self._read + error.start
            raise CorpusError(
                f"{self.name}: expected UTF-8, got the byte 0x{error.object[error.start]:02x} near byte {at + 1} of "
                "the file; convert the file to UTF-8"
            ) from None
        self._read += len(data)
        return bool(data)
