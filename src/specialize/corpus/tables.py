"""Readers of typed tables: Parquet, Arrow and Feather files, and Hugging Face datasets."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from specialize.corpus.columns import (
    ColumnChoice,
    ColumnKind,
    ColumnRequest,
    choose_columns,
    make_record,
    peek_kinds,
)
from specialize.corpus.document import Record
from specialize.errors import CorpusError

_ROWS_AT_ONCE = 256


def read_parquet(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document for each row, reading only the columns that are used."""
    try:
        with pq.ParquetFile(path) as file:
            choice = choose_columns(_kinds_of_schema(file.schema_arrow), request, name=name)
            batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=choice.names)
            yield from _read_batches(batches, name, choice)
    except pa.ArrowException as error:
        raise _damaged(name, "a Parquet file", error) from None


def read_arrow(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document for each row of an Arrow IPC file (Feather) or stream."""
    try:
        with pa.memory_map(str(path)) as source:
            batches, schema = _open_arrow(source)
            choice = choose_columns(_kinds_of_schema(schema), request, name=name)
            narrow = (batch.slice(i, _ROWS_AT_ONCE) for batch in batches for i in range(0, len(batch), _ROWS_AT_ONCE))
            yield from _read_batches((batch.select(choice.names) for batch in narrow), name, choice)
    except pa.ArrowException as error:
        raise _damaged(name, "an Arrow file", error) from None


def _open_arrow(source: pa.MemoryMappedFile) -> tuple[Iterator[pa.RecordBatch], pa.Schema]:
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:  # `datasets` writes the stream format under the same extension
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return iter(stream), stream.schema
    return (file.get_batch(i) for i in range(file.num_record_batches)), file.schema


def _damaged(name: str, kind: str, error: Exception) -> CorpusError:
    return CorpusError(f"{name}: expected {kind}, got a file that cannot be read ({str(error).splitlines()[0]})")


def _read_batches(batches: Iterator[pa.RecordBatch], name: str, choice: ColumnChoice) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield make_record(row, choice, where=f"{name}, row {number}", number=number)
            number += 1


def _kinds_of_schema(schema: pa.Schema) -> dict[str, ColumnKind]:
    return {column.name: _kind_of_type(column.type) for column in schema}


def _kind_of_type(dtype: pa.DataType) -> ColumnKind:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return "text"
    return "scalar" if pa.types.is_integer(dtype) or pa.types.is_boolean(dtype) else "other"


def read_hub(address: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document for each row of a Hugging Face dataset, streamed.

    Args:
        address: `hf://DATASET[#CONFIGURATION][:SPLIT]`; the split is `train` unless given. Datasets that
            bring their own loading code are refused.
        request: the columns asked for.

    Raises:
        CorpusError: `datasets` is not installed, or it cannot load the dataset.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise CorpusError(f"{address}: expected the package datasets, it is missing; pip install datasets") from None
    path, _, split = address.removeprefix("hf://").partition(":")
    dataset_name, _, configuration = path.partition("#")
    try:
        dataset = load_dataset(dataset_name, configuration or None, split=split or "train", streaming=True)
        # Classes come as numbers; their names say more.
        features = (dataset.features or {}).items()
        classes = {column: feature.names for column, feature in features if hasattr(feature, "names")}
        kinds, rows = peek_kinds(enumerate(dataset))
        if not kinds:
            return
        choice = choose_columns(kinds, request, name=address)
        for number, row in rows:
            for column in classes.keys() & set(choice.labels):
                code = row[column]
                row[column] = classes[column][code] if code is not None and code >= 0 else None
            yield make_record(row, choice, where=f"{address}, row {number}", number=number)
    except CorpusError:
        raise
    except Exception as error:  # whatever hub, network, builder or decoder may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(f"{address}: expected a dataset that loads, got {type(error).__name__}: {reason}") from None
