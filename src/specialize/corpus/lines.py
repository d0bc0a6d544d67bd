"""Readers of text files: plain text, JSON Lines, CSV and TSV, each plain or compressed."""

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from specialize.corpus.columns import ColumnRequest, choose_columns, make_record, peek_columns
from specialize.corpus.delimiters import describe, find_delimiter
from specialize.corpus.document import Document, Record
from specialize.corpus.files import check_regular, open_intact
from specialize.corpus.json_lines import parse_json
from specialize.corpus.limits import LONGEST_LINE, LONGEST_TEXT
from specialize.errors import CorpusError
from specialize.text import format_bytes


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line with its end) of a UTF-8 file; a byte order mark is removed.

    Raises:
        CorpusError: it is no regular file, not UTF-8 or damaged, has a line of more than 64 MiB, or is compressed and
            expands beyond any reason; the message names the file and line.
    """
    check_regular(path, name)
    number = 0
    try:
        with open_intact(path, name) as file:
            for number, line in enumerate(_cut_lines(file, name), start=1):
                if number == 1:
                    reject_wide(line, name)
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(error.object, error.start, f"{name}, line {number}") from None


def _not_utf8(line: bytes, place: int, where: str) -> CorpusError:
    return CorpusError(
        f"{where}: expected UTF-8, got the byte 0x{line[place]:02x} at byte {place + 1} of the line; convert the file "
        "to UTF-8"
    )


def _cut_lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield the lines of a file; raise CorpusError before a line fills the memory."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise CorpusError(
                f"{name}, line {number}: expected at most {format_bytes(LONGEST_LINE)}, got a longer line; divide it "
                "into documents, one a line"
            )
        yield line


def reject_wide(line: bytes, name: str) -> None:
    """Raise CorpusError if the first line of a file is UTF-16 or UTF-32."""
    marks = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16"}
    marks[codecs.BOM_UTF16_BE] = "UTF-16"  # after UTF-32, whose mark begins with that of UTF-16
    found = next((encoding for mark, encoding in marks.items() if line.startswith(mark)), None)
    start = line[:200]
    if found is None and max(start[::2].count(0), start[1::2].count(0)) > len(start) / 4:
        found = "UTF-16"  # without a mark: every second byte of Latin text is zero
    if found is not None:
        raise CorpusError(
            f"{name}: expected UTF-8, got {found}; convert the file, for instance by iconv -f {found} -t UTF-8"
        )


def read_text(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield the file as one document, with its line ends unchanged; or each line as one, without its line end.

    Lines are numbered from 0, as rows of a table.
    """
    if request.unit == "line":
        for number, text in read_lines(path, name):
            yield Record(f"{name}, line {number}", Document(str(number - 1), text.rstrip("\r\n")))
        return
    check_regular(path, name)
    with open_intact(path, name) as file:
        data = file.read(LONGEST_TEXT + 1)
    if len(data) > LONGEST_TEXT:
        raise CorpusError(
            f"{name}: expected a text of at most {format_bytes(LONGEST_TEXT)}, got a longer one; divide it into "
            "documents"
        )
    reject_wide(data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        data = error.object
        begin = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, begin) + 1
        raise _not_utf8(data[begin:], error.start - begin, f"{name}, line {line}") from None
    yield Record(name, Document(name, text))


def read_jsonl(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per JSON object, one object per line; blank lines are skipped.

    The kind of each column is determined by the first 100 objects.
    """
    choice, objects = peek_columns(read_objects(path, name), request, name=name)
    if choice is None:
        return
    for row_number, (line_number, row) in enumerate(objects):
        yield make_record(row, choice, where=f"{name}, line {line_number}", number=row_number)


def read_objects(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a file of one JSON object per line; blank lines are skipped.

    Raises:
        CorpusError: as `read_lines`, or a line is no JSON object.
    """
    for number, line in read_lines(path, name):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise CorpusError(f"{name}, line {number}: expected a JSON object, got {error}") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{name}, line {number}: expected a JSON object, got {type(row).__name__}")
        yield number, row


def read_csv(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row under the header; every column holds strings.

    Fields are separated by commas, or by tabs in a `.tsv` file, and may be quoted with `"`. If the header is a single
    column that way, another delimiter is looked for, see `find_delimiter`.
    """
    # The limit applies to the whole process; the default of 128 KiB is shorter than many documents.
    csv.field_size_limit(LONGEST_LINE)
    expected = "\t" if ".tsv" in path.suffixes[-2:] else ","
    delimiter, lines = find_delimiter((line for _, line in read_lines(path, name)), expected, name)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) < len(header):
            twice = next(column for column in header if header.count(column) > 1)
            raise CorpusError(f"{name}, line 1: expected distinct column names, got {twice!r:.60} twice")
        choice = choose_columns(dict.fromkeys(header, "text"), request, name=name)
        if delimiter != expected:
            choice.notes.messages.append(f"{name}: columns are separated by {describe(delimiter)}, as its rows show")
        number = 0
        for fields in reader:
            if not fields:
                continue
            where = f"{name}, line {reader.line_num}"
            if len(fields) != len(header):
                raise CorpusError(f"{where}: expected {len(header)} fields as in the header, got {len(fields)}")
            yield make_record(dict(zip(header, fields, strict=True)), choice, where=where, number=number)
            number += 1
    except csv.Error as error:
        raise CorpusError(f"{name}, line {reader.line_num}: expected a table of separated values, {error}") from None
