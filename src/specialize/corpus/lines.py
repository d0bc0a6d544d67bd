"""Readers of text files: plain text, JSON Lines, CSV and TSV, each plain or gzipped."""

import codecs
import csv
import gzip
import json
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from specialize.corpus.columns import ColumnRequest, choose_columns, make_record, peek_columns
from specialize.corpus.delimiters import describe, find_delimiter
from specialize.corpus.document import Document, Record
from specialize.errors import CorpusError


def check_regular(path: Path, name: str) -> None:
    """Raise CorpusError for what is no file: a pipe, a device, a socket, a broken link."""
    try:
        is_regular = path.is_file()
    except OSError as error:
        raise CorpusError(f"{name}: expected a readable file, got: {error.strerror or error}") from None
    if not is_regular:
        raise CorpusError(
            f"{name}: expected a regular file, got {_kind_of_path(path)}; save its contents as a file first"
        )


def _kind_of_path(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a broken link" if path.is_symlink() else "nothing"
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a folder")


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip if its name ends in `.gz`."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line with its end) of a UTF-8 file; a byte order mark is removed.

    Raises:
        CorpusError: it is no regular file, not UTF-8 or not gzip; the message names the file and line.
    """
    check_regular(path, name)
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    _reject_wide(line, name)
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}, line {number}: expected UTF-8, got the byte 0x{error.object[error.start]:02x} "
            f"at byte {error.start + 1} of the line; convert the file to UTF-8"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{name}: expected an intact gzip file, got a damaged one ({error})") from None


def _reject_wide(line: bytes, name: str) -> None:
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


def read_text(path: Path, name: str) -> Iterator[Record]:
    """Yield the file as one document, with its line ends unchanged."""
    yield Record(name, Document(name, "".join(line for _, line in read_lines(path, name))))


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
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(
                f"{name}, line {number}: expected a JSON object, got broken JSON ({error.msg}, column {error.colno})"
            ) from None
        except ValueError:  # Python reads no integer of more than 4,300 digits
            raise CorpusError(
                f"{name}, line {number}: expected a JSON object, got an integer of thousands of digits; write it as a "
                "string"
            ) from None
        except RecursionError:
            raise CorpusError(f"{name}, line {number}: expected a JSON object, got one nested too deeply") from None
        if not isinstance(row, dict):
            raise CorpusError(f"{name}, line {number}: expected a JSON object, got {type(row).__name__}")
        yield number, row


def read_csv(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row under the header; every column holds strings.

    Fields are separated by commas, or by tabs in a `.tsv` file, and may be quoted with `"`. If the header is a single
    column that way, another delimiter is looked for, see `find_delimiter`.
    """
    # The limit applies to the whole process; the default of 128 KiB is shorter than many documents.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
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
