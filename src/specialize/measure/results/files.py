"""Result frames: one shape, and files that are either whole or not there."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from specialize.atomic import replacing, write_text
from specialize.errors import MeasurementError, did_you_mean
from specialize.measure.results.schema import RESULT_COLUMNS
from specialize.text import strip_controls

_TEXT = pd.StringDtype(na_value=np.nan)
_WHOLE_NUMBERS = ("layer", "expert", "n_tokens", "n_documents")
_TEXTS = ("run", "routing", "router", "label_set", "label", "metric", "unit", "ci_kind")
_NAMES = ("run", "router", "label_set", "label")  # given by people, models and corpora
_STARTS_A_FORMULA = ("=", "+", "-", "@")


def as_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a frame the columns, order and types of the result schema.

    Texts are strings with NaN where missing, ``layer``, ``expert`` and counts nullable integers (Int64), all
    else float64.

    Args:
        frame: any of the columns of `RESULT_COLUMNS`; those that are not there become missing.

    Raises:
        MeasurementError: for a column that the schema does not know.
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


def write_results(frame: pd.DataFrame, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a result frame as ``name.csv`` and ``name.parquet``.

    Each file appears whole under its name or not at all. Labels come from a corpus: in the CSV one that a spreadsheet
    would take for a formula has a leading apostrophe, and control characters are gone. The Parquet file is exact.

    Args:
        frame: columns of `RESULT_COLUMNS`.
        folder: made if it does not exist.
        name: a plain file name without extension.

    Returns:
        The paths of the CSV and the Parquet file.

    Raises:
        MeasurementError: for a name that is no plain file name, or a column that the schema does not know.
    """
    results = as_results(frame)
    csv, parquet = _paths(folder, name)
    with replacing(parquet) as partial:
        results.to_parquet(partial, index=False)
    write_table(results, csv, text_columns=_NAMES)
    return csv, parquet


def write_table(frame: pd.DataFrame, path: Path, *, text_columns: Sequence[str]) -> Path:
    """Write any frame as one CSV file, whole or not at all, its texts guarded as `write_results` guards labels.

    Args:
        frame: what to write.
        path: the file; its folder is made if it does not exist.
        text_columns: columns whose texts come from a corpus.

    Returns:
        The path.
    """
    write_text(path, format_csv(frame, text_columns=text_columns))
    return path


def format_csv(frame: pd.DataFrame, *, text_columns: Sequence[str], float_format: str | None = None) -> str:
    """Return any frame as CSV, its texts guarded as `write_results` guards labels; floats exact unless told."""
    guarded = frame.assign(**{column: _guard_text(frame[column].astype(_TEXT)) for column in text_columns})
    return guarded.to_csv(index=False, lineterminator="\n", float_format=float_format)


def read_results(folder: Path, name: str) -> pd.DataFrame:
    """Read a result frame that `write_results` wrote, from its Parquet file.

    Raises:
        MeasurementError: when there is no such file, it cannot be read, or it does not hold results.
    """
    _, parquet = _paths(folder, name)
    if not parquet.is_file():
        known = sorted(path.stem for path in parquet.parent.glob("*.parquet"))
        raise MeasurementError(
            f"expected results in {parquet}, got no such file: measure first.{did_you_mean(name, known)}"
        )
    try:
        frame = pd.read_parquet(parquet)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise MeasurementError(
            f"expected results in {parquet}, got an unreadable file ({error}): measure again"
        ) from error
    missing = [column for column in RESULT_COLUMNS if column not in frame]
    if missing:
        raise MeasurementError(f"expected results in {parquet}, got no column {missing[0]!r}: measure again")
    return as_results(rename_routing(frame))


def rename_routing(frame: pd.DataFrame) -> pd.DataFrame:
    """Give random routers their name in results that were written when it was another."""
    return frame.assign(routing=frame["routing"].replace({"shadow": "random", "learned − shadow": "learned − random"}))


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise MeasurementError(f"expected a plain file name for results, got {name!r}: leave out slashes and dots")
    return Path(folder) / f"{name}.csv", Path(folder) / f"{name}.parquet"


def _guard_text(texts: pd.Series) -> pd.Series:
    stripped = texts.map({text: strip_controls(text) for text in texts.dropna().unique()}).astype(_TEXT)
    formula = stripped.str.lstrip().str.startswith(_STARTS_A_FORMULA, na=False)
    return stripped.where(~formula, "'" + stripped)
