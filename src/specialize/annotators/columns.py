"""Labels that the corpus brings: its columns other than id and text."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from specialize.annotation import Annotation
from specialize.annotators.store import is_storable
from specialize.choices import Level
from specialize.errors import AnnotationError, did_you_mean

_NOT_LABELS = ("id", "text")
_TAKEN_NAMES = ("upos", "bertopic", "bertopic_window")  # made by specialize, and overwritten by such a column
_MOST_VALUES = 100
_FEWEST_PER_VALUE = 5  # documents or tokens, on average
_FEWEST_OF_OTHER_VALUES = 5  # with fewer, what is measured is these documents or tokens, not the label


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


def label_columns(documents: pd.DataFrame, *, group: str | None = None) -> tuple[str, ...]:
    """Return the names of the columns that can serve as labels.

    These are the columns other than id and text with 2 to 100 distinct values, on average at least five documents per
    value, and at least five documents whose value is not the most frequent one. Columns whose name is that of an
    annotation that specialize makes, or cannot be a file name, are excluded, and so is the column that says which
    documents belong together.

    Args:
        documents: one row per document, as returned by `RoutingTrace.documents()`.
        group: the column that says which documents belong together.
    """
    unusable = explain_unusable(documents, group=group)
    return tuple(
        str(column) for column in documents.columns if column not in _NOT_LABELS and str(column) not in unusable
    )


def explain_unusable(
    documents: pd.DataFrame, columns: Sequence[str] | None = None, *, group: str | None = None
) -> dict[str, str]:
    """Return the columns that are not measured as labels, with the reason.

    Args:
        documents: one row per document, as returned by `RoutingTrace.documents()`.
        columns: columns that the user named, which are passed over only if they cannot be measured: a single value,
            or fewer than five documents of other values than the most frequent. Default: all columns but id and text.
        group: the column that says which documents belong together.
    """
    unusable = {}
    for column in documents.columns:
        name = str(column)
        if column in _NOT_LABELS or (columns and name not in columns):
            continue
        counts = _strings(documents[column]).value_counts()
        reason = None if columns else _explain_name(name) or _explain_counts(counts)
        if name == group and not columns:
            reason = "it says which documents belong together"
        reason = reason or (_explain_rare(counts) if len(counts) or not columns else None)
        if reason:
            unusable[name] = reason
    return unusable


def explain_labels(annotation: Annotation) -> str | None:
    """Return why labels of the user's own are not measured, by the rules for columns of the corpus; None if they are.

    The limit of 100 values is that of labels of documents.
    """
    counts = pd.Series(np.bincount(annotation.codes[annotation.codes >= 0], minlength=len(annotation.labels)))
    counts = counts[counts > 0]
    return _explain_counts(counts, annotation.level) or _explain_rare(counts, annotation.level)


def _explain_name(name: str) -> str | None:
    if name in _TAKEN_NAMES:
        return "labels of this name are made by specialize"
    return None if is_storable(name) else "results of this name cannot be stored"


def _explain_counts(counts: pd.Series, level: Level = "document") -> str | None:
    """Return why a column whose values have these numbers of documents or tokens is probably no label set."""
    units, distinct = int(counts.sum()), len(counts)
    if distinct > _MOST_VALUES and level == "document":
        return f"{distinct:,} values, more than {_MOST_VALUES}"
    if distinct > 1 and units < _FEWEST_PER_VALUE * distinct:
        return f"{units:,} {level}s for {distinct:,} values, fewer than {_FEWEST_PER_VALUE} each"
    return None


def _explain_rare(counts: pd.Series, level: Level = "document") -> str | None:
    """Return why labels with these numbers of documents or tokens cannot be measured."""
    if len(counts) < 2:
        return "a single value" if len(counts) else "no value"
    others = int(counts.sum() - counts.max())
    if others < _FEWEST_OF_OTHER_VALUES:
        units = int(counts.sum())
        return f"all but {others} of {units:,} {level}s have one value; {_FEWEST_OF_OTHER_VALUES} others are needed"
    return None


def _strings(column: pd.Series) -> pd.Series:
    """Return the values as strings; empty ones become missing."""
    strings = column.astype(str).where(column.notna())
    return strings.where(strings != "")
