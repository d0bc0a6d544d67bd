"""Result frames: one shape, and files that are either whole or not there."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from specialize.atomic import replacing
from specialize.errors import MeasurementError, did_you_mean
from specialize.measure.schema import RESULT_COLUMNS

_TEXT = pd.StringDtype(na_value=np.nan)
_WHOLE_NUMBERS = ("layer", "expert", "n_tokens", "n_documents")
_TEXTS = ("run", "routing", "router", "label_set", "label", "metric", "unit", "ci_kind")
_FROM_A_CORPUS = ("label_set", "label")
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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

    Each file appears whole under its name or not at all. Labels come from a corpus: one that a spreadsheet
    would take for a formula is written to the CSV with a leading apostrophe. The Parquet file is exact.

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
    guarded = results.assign(**{column: _guard_formulas(results[column]) for column in _FROM_A_CORPUS})
    with replacing(parquet) as partial:
        results.to_parquet(partial, index=False)
    with replacing(csv) as partial:
        guarded.to_csv(partial, index=False, lineterminator="\n")
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
    guarded = frame.assign(**{column: _guard_formulas(frame[column].astype(_TEXT)) for column in text_columns})
    with replacing(path) as partial:
        guarded.to_csv(partial, index=False, lineterminator="\n")
    return path


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
    return as_results(frame)


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise MeasurementError(f"expected a plain file name for results, got {name!r}: leave out slashes and dots")
    return Path(folder) / f"{name}.csv", Path(folder) / f"{name}.parquet"


def _guard_formulas(texts: pd.Series) -> pd.Series:
    harmless = texts.where(~texts.str.startswith(_STARTS_A_FORMULA, na=False), "'" + texts)
    return harmless.str.replace("\r", " ")  # the csv module leaves it unquoted, readers take it for a new row
