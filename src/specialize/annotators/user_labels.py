"""Labels that the user brings: a table with a row a document or a token."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from specialize.annotation import Annotation
from specialize.annotators.labels import LabelEncoder
from specialize.annotators.store import is_storable
from specialize.errors import AnnotationError

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

_READERS = {".parquet": "Parquet", ".csv": "CSV", ".tsv": "CSV", ".jsonl": "JSON Lines"}


def read_labels(trace: "RoutingTrace", path: str | Path) -> list[Annotation]:
    """Read the labels of a table, an annotation for each of its columns.

    The column ``id`` names documents of the trace; or the column ``token`` gives rows of `RoutingTrace.tokens()`, which
    are the numbers of `specialize export`. Every other column is a label set. Documents or tokens without a row, and
    missing or empty values, carry no label.

    Args:
        trace: an open trace.
        path: .parquet, .csv, .tsv or .jsonl.

    Returns:
        Annotations of documents or of tokens, labels in alphabetical order.

    Raises:
        AnnotationError: the file cannot be read, has neither column or both, names what the trace has not, or one
            thing twice, or holds no label.
    """
    place = Path(path)
    frame = _read(place)
    keys = [name for name in ("id", "token") if name in frame]
    if len(keys) != 1:
        raise AnnotationError(
            f"{place}: expected a column id (of documents) or a column token (row numbers), "
            f"got {'both' if keys else ', '.join(map(str, frame.columns))}"
        )
    names = [str(name) for name in frame.columns if name != keys[0]]
    if not names:
        raise AnnotationError(f"{place}: expected a column of labels beside {keys[0]}, got none")
    for name in names:
        if not is_storable(name):
            raise AnnotationError(f"{place}: a label set cannot be called {name!r}; rename the column")
    rows = _find_documents(trace, frame, place) if keys == ["id"] else _find_tokens(trace, frame, place)
    if len(np.unique(rows)) < len(rows):
        values, counts = np.unique(rows, return_counts=True)
        twice = frame[keys[0]].iloc[int(np.flatnonzero(rows == values[counts > 1][0])[0])]
        raise AnnotationError(f"{place}: expected each {keys[0]} once, got {twice!r} more than once")
    size = trace.num_documents if keys == ["id"] else trace.num_tokens
    return [_annotate(frame[name], rows, size, keys[0], name, place) for name in names]


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in _READERS:
        raise AnnotationError(f"{path}: expected {', '.join(_READERS)}, got {path.suffix or 'no suffix'}")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
        return frame.astype({"token": int}) if "token" in frame else frame
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AnnotationError(f"{path}: expected {_READERS[path.suffix]}, got: {reason}") from None


def _find_documents(trace: "RoutingTrace", frame: pd.DataFrame, path: Path) -> np.ndarray:
    places = {identifier: row for row, identifier in enumerate(trace.documents()["id"])}
    ids = frame["id"].astype(str)
    unknown = ids[~ids.isin(places)]
    if len(unknown):
        raise AnnotationError(
            f"{path}: {len(unknown)} of {len(ids)} ids are not in {trace.path}, the first is {unknown.iloc[0]!r}"
        )
    return ids.map(places).to_numpy(dtype=np.int64)


def _find_tokens(trace: "RoutingTrace", frame: pd.DataFrame, path: Path) -> np.ndarray:
    rows = frame["token"].to_numpy()
    if not np.issubdtype(rows.dtype, np.integer):
        raise AnnotationError(f"{path}: expected whole numbers in the column token, got {rows.dtype}")
    if len(rows) and not (rows.min() >= 0 and rows.max() < trace.num_tokens):
        raise AnnotationError(
            f"{path}: expected tokens from 0 to {trace.num_tokens - 1} as in {trace.path}, "
            f"got {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)


def _annotate(values: pd.Series, rows: np.ndarray, size: int, key: str, name: str, path: Path) -> Annotation:
    encoder = LabelEncoder()
    own = encoder.encode(None if pd.isna(value) else str(value) for value in values)
    codes = encoder.encode([None] * size)
    codes[rows] = own
    labels, codes = encoder.finish(codes)
    if not labels:
        raise AnnotationError(f"{path}: expected labels in the column {name!r}, all are missing")
    return Annotation(name, "document" if key == "id" else "token", labels, codes, {"tool": "table", "file": path.name})
