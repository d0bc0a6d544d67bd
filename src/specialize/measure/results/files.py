"""Read and write result frames; files are written atomically."""

import csv
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_numeric_dtype

from specialize.atomic import write_text
from specialize.errors import MeasurementError, did_you_mean, first_line
from specialize.measure.results.schema import RESULT_COLUMNS
from specialize.measure.results.stored import Origin, TraceOfResults, read_stored, store_table
from specialize.text import clean_text, strip_controls

_TEXT = pd.StringDtype(na_value=np.nan)
_WHOLE_NUMBERS = ("layer", "expert", "n_permutations", "n_tokens", "n_documents")
_ADDED = ("n_permutations",)  # absent from results of earlier versions
_TEXTS = ("run", "routing", "router", "label_set", "label", "metric", "unit", "ci_kind")
_NAMES = ("run", "router", "label_set", "label")  # text from users, models and corpora
_STARTS_A_FORMULA = ("=", "+", "-", "@")  # also in full width and the like, see `_is_formula`
_LARGEST = 2.0**53  # the largest whole number that is exact in double precision
_NUMBERS = ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value", "q_value", *_WHOLE_NUMBERS)


def as_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert a frame to the columns, order and dtypes of the result schema.

    Text columns are strings with NaN for missing values, ``layer``, ``expert`` and numbers of permutations,
    tokens and documents are nullable integers (Int64), all other columns float64.

    Args:
        frame: a frame with some of the columns of `RESULT_COLUMNS`; absent columns are filled with missing values.

    Returns:
        A new frame with all columns of `RESULT_COLUMNS`.

    Raises:
        MeasurementError: the frame has a column that is not in the schema.
    """
    for column in frame.columns:
        if column not in RESULT_COLUMNS:
            hint = did_you_mean(str(column), RESULT_COLUMNS)
            raise MeasurementError(f"expected columns of the result schema, got {str(column)!r}.{hint}")
    columns = {}
    for column in RESULT_COLUMNS:
        values = frame[column] if column in frame else pd.Series(np.nan, index=frame.index)
        kind = "Int64" if column in _WHOLE_NUMBERS else _TEXT if column in _TEXTS else "float64"
        columns[column] = values.astype(kind)
    return pd.DataFrame(columns, index=frame.index)


def write_results(
    frame: pd.DataFrame,
    folder: Path,
    name: str,
    *,
    trace: TraceOfResults | None = None,
    other: TraceOfResults | None = None,
) -> tuple[Path, Path]:
    """Write a result frame as ``name.csv`` and ``name.parquet``.

    Files are written atomically. As labels come from a corpus, the CSV file is protected: text that a spreadsheet
    would interpret as a formula is prefixed with an apostrophe, also where the sign is of full width or follows a
    character that is not visible, and control characters are removed. The Parquet file holds the exact text, a
    checksum, and the digest of the trace; it is the file that is read.

    Args:
        frame: a frame with columns of `RESULT_COLUMNS`.
        folder: destination, created if it does not exist.
        name: file name without folder and extension.
        trace: the trace that was measured. A report of another one raises an error.
        other: the trace with which it was compared.

    Returns:
        The paths of the CSV and the Parquet file.

    Raises:
        MeasurementError: the name is not a plain file name, or the frame has a column that is not in the schema.
    """
    csv, parquet = _paths(folder, name)
    results = as_results(frame)
    store_table(results, parquet, trace=trace, other=other)
    write_table(results, csv, text_columns=_NAMES)
    return csv, parquet


def write_both(
    frame: pd.DataFrame, folder: Path, name: str, *, text_columns: Sequence[str], trace: TraceOfResults | None = None
) -> tuple[Path, Path]:
    """Write any frame as `write_results` does, such as the table of topics; `text_columns` as in `write_table`."""
    csv, parquet = _paths(folder, name)
    store_table(frame, parquet, trace=trace)
    write_table(frame, csv, text_columns=text_columns)
    return csv, parquet


def write_table(frame: pd.DataFrame, path: Path, *, text_columns: Sequence[str]) -> Path:
    """Write a frame as a CSV file, atomically, with text protected as in `write_results`.

    Args:
        frame: any frame.
        path: destination; its folder is created if it does not exist.
        text_columns: columns with text from a corpus.

    Returns:
        The path.
    """
    write_text(path, format_csv(frame, text_columns=text_columns))
    return path


def format_csv(frame: pd.DataFrame, *, text_columns: Sequence[str], float_format: str | None = None) -> str:
    """Return a frame as CSV, with text protected as in `write_results`; floats are exact by default."""
    guarded = frame.assign(**{column: _guard_text(frame[column].astype(_TEXT)) for column in text_columns})
    return guarded.to_csv(index=False, lineterminator="\n", float_format=float_format)


def read_results(folder: Path, name: str) -> pd.DataFrame:
    """Read the Parquet file of a result frame written by `write_results`.

    Args:
        folder: the folder of the file.
        name: file name without folder and extension.

    Returns:
        The frame, with the columns of `RESULT_COLUMNS`.

    Raises:
        MeasurementError: the file does not exist, is unreadable, or does not hold results.
    """
    _, parquet = _paths(folder, name)
    if not parquet.is_file():
        known = sorted(path.stem for path in parquet.parent.glob("*.parquet"))
        raise MeasurementError(
            f"expected results in {parquet}, got no such file: measure first.{did_you_mean(name, known)}"
        )
    frame, _ = read_with_origin(parquet)
    missing = [column for column in RESULT_COLUMNS if column not in frame and column not in _ADDED]
    if missing:
        raise MeasurementError(f"expected results in {parquet}, got no column {missing[0]!r}: measure again")
    return as_results(rename_routing(frame))


def read_with_origin(path: Path) -> tuple[pd.DataFrame, Origin | None]:
    """Read a Parquet or CSV file of results, and check the types of the columns of the schema that it has.

    Args:
        path: the file; CSV if its suffix is ``.csv``.

    Returns:
        The frame, and where it comes from; None for a file without a checksum, as for every CSV file.

    Raises:
        MeasurementError: the file is unreadable or differs from its checksum, or a column holds other values than its
            name says.
    """
    try:
        frame, origin = (_read_csv(path), None) if path.suffix == ".csv" else read_stored(path)
        _check_types(frame, path)
    except MeasurementError:
        raise
    except Exception as error:  # the parsers of pandas and Arrow raise anything where bytes are wrong
        reason = clean_text(first_line(error))
        raise MeasurementError(f"{path}: expected results, got an unreadable file ({reason}); measure again") from error
    return frame, origin


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file whose rows have as many fields as its header; pandas alone would shift or fill the others."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(f"{len(row)} fields in line {rows.line_num}, {len(header)} in its header")
    return pd.read_csv(path)


def _check_types(frame: pd.DataFrame, path: Path) -> None:
    for column in frame.columns.intersection(list(RESULT_COLUMNS)):
        values = frame[column].dropna()
        if column in _NUMBERS:
            fits = values.empty or (is_numeric_dtype(values) and not is_bool_dtype(values))
            if fits and column in _WHOLE_NUMBERS:
                numbers = values.astype(float)
                fits = bool(((numbers.abs() < _LARGEST) & (numbers % 1 == 0)).all())
        else:  # text in CSV files may look like a number
            fits = path.suffix == ".csv" or infer_dtype(values) in ("string", "empty")
        if not fits:
            kind = "whole numbers" if column in _WHOLE_NUMBERS else "numbers" if column in _NUMBERS else "text"
            raise MeasurementError(f"{path}: expected {kind} in the column {column!r}, got others; measure again")


def rename_routing(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the routing of random routers in results of earlier versions."""
    return frame.assign(routing=frame["routing"].replace({"shadow": "random", "learned − shadow": "learned − random"}))


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise MeasurementError(f"expected a plain file name for results, got {name!r}: leave out slashes and dots")
    return Path(folder) / f"{name}.csv", Path(folder) / f"{name}.parquet"


def _guard_text(texts: pd.Series) -> pd.Series:
    stripped = texts.map({text: strip_controls(text) for text in texts.dropna().unique()}).astype(_TEXT)
    formula = stripped.map({text: _is_formula(text) for text in stripped.dropna().unique()}).eq(True)
    return stripped.where(~formula, "'" + stripped)


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a text for a formula.

    Spreadsheets read a sign of full width (U+FF1D) or of another form as the plain one, and some skip characters that
    are not visible, such as a byte order mark (U+FEFF) or a space without width (U+200B).
    """
    first = text.lstrip()[:1]
    return unicodedata.normalize("NFKC", first) in _STARTS_A_FORMULA or unicodedata.category(first or " ") == "Cf"
