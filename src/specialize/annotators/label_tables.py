"""Tables of labels: read from a file, and their values written as labels."""

import csv
from collections.abc import Hashable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from specialize.corpus.columns import is_integral
from specialize.corpus.delimiters import find_delimiter
from specialize.corpus.files import check_regular
from specialize.corpus.lines import read_lines, read_objects
from specialize.corpus.memory import is_integral_column
from specialize.corpus.paths import require_path
from specialize.errors import AnnotationError, CorpusError, first_line

_FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".tsv": "CSV", ".jsonl": "JSON Lines"}
_LONGEST_ROW = 2**28  # bytes
_LINES_OF_HEADER = 100
_INT64 = np.iinfo(np.int64)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of labels: Parquet, CSV or TSV (with the delimiter that its rows show), or JSON Lines.

    Every row has as many fields as the header. The column ``token`` of a CSV is read as integers.

    Returns:
        The table; values of CSV are strings, those of JSON Lines are as in the file, and missing ones are null.

    Raises:
        AnnotationError: the file has another format, or cannot be read.
    """
    if path.suffix not in _FORMATS:
        raise AnnotationError(f"{path}: expected {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'}")
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl}
    try:
        require_path(path)
        check_regular(path, str(path))
        return readers.get(path.suffix, _read_csv)(path)
    except CorpusError as error:
        raise AnnotationError(str(error)) from None
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise AnnotationError(f"{path}: expected {_FORMATS[path.suffix]}, got: {first_line(error):.300}") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pq.read_table(path)
    table.validate(full=True)
    return table.to_pandas(integer_object_nulls=True)


def _read_csv(path: Path) -> pd.DataFrame:
    expected = "\t" if path.suffix == ".tsv" else ","
    delimiter, lines = find_delimiter((line for _, line in read_lines(path, str(path))), expected, str(path))
    header = next(csv.reader(islice(lines, _LINES_OF_HEADER), delimiter=delimiter), [])
    _check_distinct(header, path)
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=min(_LONGEST_ROW, path.stat().st_size + 1)),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()) | ({"token": pa.int64()} if "token" in header else {}),
            strings_can_be_null=False,
        ),
    )
    return table.to_pandas()


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = [row for _, row in read_objects(path, str(path))]
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    if "token" in columns and all(type(value) is int and abs(value) <= _INT64.max for value in columns["token"]):
        columns["token"] = columns["token"].astype(np.int64)
    return pd.DataFrame(columns)


def _check_distinct(names: list[str], path: Path) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise AnnotationError(f"{path}: expected each column once, got {twice[0]!r:.60} more than once; rename one")


def write_labels(column: pd.Series, where: str) -> Iterator[str | None]:
    """Yield the label of each row, None where it is missing; the empty string is no label, too.

    Numbers and booleans are written as in Python. In a column of integers with missing values among them, which pandas
    turns into floats, integers are written as integers.

    Raises:
        AnnotationError: a value is no string, number or boolean, or not valid Unicode.
    """
    missing = column.isna().to_numpy()
    integral = is_integral_column(column) or (
        column.dtype == object and _holds_integers(column[~missing], with_missing=bool(missing.any()))
    )
    try:
        for value, is_missing in zip(column, missing, strict=True):
            yield None if is_missing else _write(int(value) if integral else value, where)
    except UNWRITABLE:  # also as pandas takes them from the column
        raise AnnotationError(f"{where}: expected labels that can be written, got others ({column.dtype})") from None


def _holds_integers(present: pd.Series, *, with_missing: bool) -> bool:
    """Return whether values are integers, some of them written as floats because others are missing."""
    return (with_missing or any(isinstance(value, int) for value in present)) and all(map(is_integral, present))


UNWRITABLE = (ValueError, OverflowError, NotImplementedError)  # dates out of range, integers of thousands of digits


def _write(value: Any, where: str) -> str:
    if not isinstance(value, Hashable) or isinstance(value, bytes | tuple):
        raise AnnotationError(f"{where}: expected strings, numbers or booleans, got {type(value).__name__}")
    try:
        label = str(value)
    except UNWRITABLE:
        raise AnnotationError(f"{where}: expected labels that can be written, got a {type(value).__name__}") from None
    if not label.isascii():
        try:
            label.encode()
        except UnicodeEncodeError:
            raise AnnotationError(f"{where}: expected labels of valid Unicode, got {label!r:.60}") from None
    return label
