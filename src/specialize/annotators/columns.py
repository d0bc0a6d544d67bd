"""Labels that the corpus brings: its columns other than id and text."""

import numpy as np
import pandas as pd

from specialize.annotation import Annotation
from specialize.annotators.store import is_storable
from specialize.errors import AnnotationError, did_you_mean

_NOT_LABELS = ("id", "text")
_TAKEN_NAMES = ("upos", "bertopic", "bertopic_window")  # made by specialize, and overwritten by such a column
_MOST_VALUES = 100
_FEWEST_DOCUMENTS_PER_VALUE = 5


def annotate_column(documents: pd.DataFrame, column: str) -> Annotation:
    """Turn a column of the documents into labels.

    Args:
        documents: one row per document, as returned by `RoutingTrace.documents()`.
        column: name of the column; missing and empty values carry no label.

    Returns:
        Annotation of documents with the name of the column; codes int32 [documents], labels in alphabetical order.

    Raises:
        AnnotationError: there is no such column, all its values are missing, or its name is that of an annotation
            that specialize makes.
    """
    if column in _TAKEN_NAMES:
        raise AnnotationError(
            f"expected a label column not named {', '.join(_TAKEN_NAMES)}, got {column!r}; rename the column"
        )
    known = [name for name in documents.columns if name not in _NOT_LABELS]
    if column not in known:
        raise AnnotationError(
            f"expected a label column, got {column!r}; the columns are {', '.join(known) or 'none'}."
            + did_you_mean(column, known)
        )
    values = _strings(documents[column])
    present = values.dropna()
    if present.empty:
        raise AnnotationError(
            f"expected values in the label column {column!r}, got {len(documents)} missing ones; choose another column"
        )
    labels = tuple(sorted(present.unique()))
    codes = pd.Categorical(values, categories=labels).codes.astype(np.int32)  # a missing value is -1, NO_LABEL
    return Annotation(column, "document", labels, codes, {"tool": "corpus", "column": column})


def read_texts(documents: pd.DataFrame) -> list[str]:
    """Return the text of each document.

    Raises:
        AnnotationError: documents have no text, as in a trace that was imported without its documents.
    """
    missing = int(documents["text"].isna().sum())
    if missing:
        raise AnnotationError(
            f"expected a text for each of the {len(documents)} documents, {missing} have none; "
            "import the trace with its documents (--documents)"
        )
    texts: list[str] = documents["text"].tolist()
    return texts


def label_columns(documents: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of the columns that can serve as labels.

    These are the columns other than id and text with 2 to 100 distinct values and, on average, at least five documents
    per value. Columns whose name is that of an annotation that specialize makes, or cannot be a file name, are
    excluded.
    """
    excluded = _NOT_LABELS + _TAKEN_NAMES
    return tuple(
        str(column)
        for column in documents.columns
        if column not in excluded and is_storable(str(column)) and _is_usable(documents[column])
    )


def _is_usable(column: pd.Series) -> bool:
    values = _strings(column).dropna()
    distinct = values.nunique()
    return 2 <= distinct <= _MOST_VALUES and len(values) >= _FEWEST_DOCUMENTS_PER_VALUE * distinct


def _strings(column: pd.Series) -> pd.Series:
    """Return the values as strings; empty ones become missing."""
    strings = column.astype(str).where(column.notna())
    return strings.where(strings != "")
