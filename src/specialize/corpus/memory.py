"""Documents that are in memory: lists of texts, pandas DataFrames, and datasets of the package ``datasets``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from specialize.corpus.columns import LARGEST_EXACT, ColumnRequest, make_record, peek_columns
from specialize.corpus.document import Document, Record
from specialize.errors import CorpusError, first_line
from specialize.text import list_names

if TYPE_CHECKING:
    import pandas as pd

TEXTS, FRAME, DATASET = "texts", "DataFrame", "Dataset"  # names of the sources, for messages and the manifest
_ROWS_AT_ONCE = 256


def read_texts(texts: Sequence[str]) -> Iterator[Record]:
    """Yield one document per text, numbered from 0."""
    for number, text in enumerate(texts):
        where = f"{TEXTS}, item {number}"
        if not isinstance(text, str):
            raise CorpusError(f"{where}: expected a string, got {type(text).__name__}")
        yield Record(where, Document(str(number), text))


def read_frame(frame: "pd.DataFrame", request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row of a DataFrame; its index is ignored, and missing values are null.

    The kind of each column is determined by the first 100 rows. Columns of floats that are integers, with missing
    values among them, are columns of integers.
    """
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise CorpusError(f"{FRAME}: expected distinct column names, got {twice!r:.60} twice")
    yield from _read_rows(enumerate(_rows_of(frame)), FRAME, request, {})


def _rows_of(frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    names = [str(column) for column in frame.columns]
    integers = [column for column in frame.columns if is_integral_column(frame[column])]
    if integers:
        frame = frame.astype(dict.fromkeys(integers, "Int64"))
    for start in range(0, len(frame), _ROWS_AT_ONCE):
        part = frame.iloc[start : start + _ROWS_AT_ONCE].astype(object)
        for row in part.where(part.notna(), None).itertuples(index=False, name=None):
            yield dict(zip(names, row, strict=True))


def is_integral_column(column: "pd.Series") -> bool:
    """Return whether a column holds floats that are integers, with missing values among them."""
    import pandas as pd

    if not pd.api.types.is_float_dtype(column.dtype):
        return False
    present = column.dropna().astype("float64")  # half precision cannot hold the limit
    return 0 < len(present) < len(column) and bool((present % 1 == 0).all() and (present.abs() <= LARGEST_EXACT).all())


def is_dataset(source: object) -> bool:
    """Return whether a source is a dataset, or several splits of one, of the package ``datasets``."""
    return hasattr(source, "column_names") and isinstance(source, Iterable)


def read_dataset(dataset: Any, request: ColumnRequest, *, name: str = DATASET) -> Iterator[Record]:
    """Yield one document per row of a dataset; classes are given by their names.

    Args:
        dataset: a ``Dataset`` or ``IterableDataset``.
        request: the columns asked for.
        name: of the dataset, for messages.

    Raises:
        CorpusError: several splits are given, or the dataset cannot be read.
    """
    if isinstance(dataset, Mapping):
        raise CorpusError(f"{name}: expected one split of a dataset, got {list_names(dataset)}; choose one")
    try:
        features = (getattr(dataset, "features", None) or {}).items()
        classes = {column: feature.names for column, feature in features if hasattr(feature, "names")}
        yield from _read_rows(enumerate(dataset), name, request, classes)
    except CorpusError:
        raise
    except Exception as error:  # whatever hub, network, builder or decoder may raise
        reason = first_line(error)
        raise CorpusError(f"{name}: expected a readable dataset, got {type(error).__name__}: {reason:.300}") from None


def _read_rows(
    numbered: Iterator[tuple[int, dict[str, Any]]],
    name: str,
    request: ColumnRequest,
    classes: Mapping[str, Sequence[str]],
) -> Iterator[Record]:
    choice, rows = peek_columns(numbered, request, name=name)
    if choice is None:
        return
    for number, given in rows:
        row = given
        for column in classes.keys() & set(choice.labels):
            code = row[column]
            row = row | {column: classes[column][code] if code is not None and code >= 0 else None}
        yield make_record(row, choice, where=f"{name}, row {number}", number=number)
