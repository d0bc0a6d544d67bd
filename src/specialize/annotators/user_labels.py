"""Labels that the user provides: a table with one row per document or token."""

from collections.abc import Hashable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.annotators.label_tables import UNWRITABLE, read_table, write_labels
from specialize.annotators.labels import LabelEncoder
from specialize.annotators.store import TABLES, is_storable
from specialize.errors import AnnotationError
from specialize.text import list_names

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace


def read_labels(trace: "RoutingTrace", source: str | PathLike[str] | pd.DataFrame) -> list[Annotation]:
    """Read a table of labels and return an annotation for each of its label columns.

    The table has either a column ``id``, the ids of documents of the trace, or a column ``token``, row numbers of
    `RoutingTrace.tokens()` (which `specialize export` writes too). Every other column is a label set. Documents or
    tokens without a row, and missing or empty values, carry no label.

    Args:
        trace: the trace.
        source: a .parquet, .csv, .tsv or .jsonl file, or a data frame.

    Returns:
        Annotations of documents or of tokens, labels in alphabetical order.

    Raises:
        AnnotationError: the file cannot be read; the table has neither of the two columns or both, no label column, or
            one that cannot be stored; a document or token does not exist or occurs more than once; or a label column
            has no values.
    """
    if isinstance(source, pd.DataFrame):
        table = _Table(source, "the data frame", {})
    else:
        table = _Table(read_table(Path(source)), str(source), {"file": Path(source).name})
    frame = table.frame
    keys = [name for name in ("id", "token") if name in frame]
    if len(keys) != 1:
        raise AnnotationError(
            f"{table.name}: expected a column id (of documents) or a column token (row numbers), "
            f"got {'both' if keys else list_names(frame.columns) if len(frame.columns) else 'no columns'}"
        )
    names = [name for name in frame.columns if name != keys[0]]
    if not names:
        raise AnnotationError(f"{table.name}: expected a column of labels beside {keys[0]}, got none")
    for name in names:
        if not is_storable(str(name)):
            raise AnnotationError(
                f"{table.name}: expected names of label columns of letters, digits, spaces and . _ + -, other than "
                f"{' or '.join(TABLES)}, and at most 200 bytes, got {str(name)!r:.60}; rename the column"
            )
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise AnnotationError(f"{table.name}: expected each column once, got {twice!r} more than once; rename one")
    if keys != ["id"] and not trace.num_tokens:
        raise AnnotationError(
            f"{table.name}: expected labels of documents, with a column id, as {trace.path} has no tokens; got labels "
            "of tokens"
        )
    rows = _find_documents(trace, table) if keys == ["id"] else _find_tokens(trace, table)
    if len(np.unique(rows)) < len(rows):
        values, counts = np.unique(rows, return_counts=True)
        twice = frame[keys[0]].iloc[int(np.flatnonzero(rows == values[counts > 1][0])[0])]
        raise AnnotationError(f"{table.name}: expected each {keys[0]} once, got {twice!r} more than once")
    size = trace.num_documents if keys == ["id"] else trace.num_tokens
    level: Literal["document", "token"] = "document" if keys == ["id"] else "token"
    return [_annotate(table, name, rows, size, level) for name in names]


@dataclass(frozen=True)
class _Table:
    """A table of labels, what errors call it, and what the provenance says of where it came from."""

    frame: pd.DataFrame
    name: str
    origin: dict[str, str]


def _find_documents(trace: "RoutingTrace", table: _Table) -> NDArray[np.int64]:
    """Return the document of each row of the table, int64 [rows]."""
    places = {identifier: row for row, identifier in enumerate(trace.documents(labels_only=True)["id"])}
    missing = int(table.frame["id"].isna().sum())
    if missing:
        raise AnnotationError(f"{table.name}: expected an id in every row, {missing} of {len(table.frame)} have none")
    try:
        ids = [str(value) for value in table.frame["id"]]  # no column of pandas: it takes no lone surrogates
    except UNWRITABLE:  # also as pandas takes them from the column
        raise AnnotationError(
            f"{table.name}: expected ids that can be written, got others ({table.frame['id'].dtype})"
        ) from None
    unknown = [identifier for identifier in ids if identifier not in places]
    if unknown:
        raise AnnotationError(
            f"{table.name}: expected ids of documents in {trace.path}, {len(unknown)} of {len(ids)} ids are unknown, "
            f"the first is {unknown[0]!r:.60}"
        )
    return np.array([places[identifier] for identifier in ids], dtype=np.int64)


def _find_tokens(trace: "RoutingTrace", table: _Table) -> NDArray[np.int64]:
    """Return the token of each row of the table, int64 [rows]."""
    column = table.frame["token"]
    if not pd.api.types.is_integer_dtype(column) or column.hasnans:
        raise AnnotationError(f"{table.name}: expected integers in the column token, got {column.dtype}")
    rows = column.to_numpy()
    if len(rows) and not (rows.min() >= 0 and rows.max() < trace.num_tokens):
        raise AnnotationError(
            f"{table.name}: expected tokens from 0 to {trace.num_tokens - 1} as in {trace.path}, "
            f"got {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)


def _annotate(
    table: _Table, column: Hashable, rows: NDArray[np.int64], size: int, level: Literal["document", "token"]
) -> Annotation:
    encoder = LabelEncoder()
    own = encoder.encode(write_labels(table.frame[column], f"{table.name}: column {str(column)!r}"))
    codes = encoder.encode([None] * size)
    codes[rows] = own
    labels, codes = encoder.finish(codes)
    if not labels:
        raise AnnotationError(f"{table.name}: expected labels in the column {str(column)!r}, all are missing")
    return Annotation(str(column), level, labels, codes, {"tool": "table", **table.origin})
