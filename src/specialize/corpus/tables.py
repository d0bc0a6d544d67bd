"""Readers of typed tables: Parquet, Arrow and Feather files, and Hugging Face datasets."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specialize.corpus.columns import (
    LARGEST_EXACT,
    ColumnChoice,
    ColumnKind,
    ColumnRequest,
    choose_columns,
    make_record,
)
from specialize.corpus.document import Record
from specialize.corpus.memory import read_dataset
from specialize.errors import CorpusError, first_line

_ROWS_AT_ONCE = 256
_ROWS_TO_SCAN = 2**16


def read_parquet(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row, reading only the columns that are used."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            kinds = _kinds_of_schema(schema, name)
            floats = _float_columns(schema)
            if floats:
                kinds |= _find_integral(file.iter_batches(batch_size=_ROWS_TO_SCAN, columns=floats), floats)
            choice = choose_columns(kinds, request, name=name, types=_types_of_schema(schema))
            batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=choice.names)
            yield from _read_batches(batches, name, choice)
    except (CorpusError, OSError):
        raise
    except Exception as error:  # whatever the decoder raises for damaged data
        raise _damaged(name, "a Parquet file", error) from None


def read_arrow(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row of an Arrow IPC file (Feather) or stream."""
    try:
        with pa.memory_map(str(path)) as source:
            batches, schema = _open_arrow(source)
            kinds = _kinds_of_schema(schema, name)
            floats = _float_columns(schema)
            if floats:
                kinds |= _find_integral((batch.select(floats) for batch in batches), floats)
                source.seek(0)
                batches, _ = _open_arrow(source)
            choice = choose_columns(kinds, request, name=name, types=_types_of_schema(schema))
            narrow = (batch.slice(i, _ROWS_AT_ONCE) for batch in batches for i in range(0, len(batch), _ROWS_AT_ONCE))
            yield from _read_batches((batch.select(choice.names) for batch in narrow), name, choice)
    except (CorpusError, OSError):
        raise
    except Exception as error:  # whatever the decoder raises for damaged data
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
    reason = first_line(error)
    return CorpusError(f"{name}: expected {kind}, got a file that cannot be read ({reason:.300})")


def _read_batches(batches: Iterator[pa.RecordBatch], name: str, choice: ColumnChoice) -> Iterator[Record]:
    number = 0
    for batch in batches:
        batch.validate(full=True)  # offsets of damaged files point outside the file
        for row in batch.to_pylist():
            yield make_record(row, choice, where=f"{name}, row {number}", number=number)
            number += 1


def _kinds_of_schema(schema: pa.Schema, name: str) -> dict[str, ColumnKind]:
    twice = [column for column in schema.names if schema.names.count(column) > 1]
    if twice:
        raise CorpusError(f"{name}: expected distinct column names, got {twice[0]!r:.60} twice")
    return {column.name: _kind_of_type(column.type) for column in schema}


def _types_of_schema(schema: pa.Schema) -> dict[str, str]:
    return {column.name: str(column.type) for column in schema}


def _float_columns(schema: pa.Schema) -> list[str]:
    return [column.name for column in schema if pa.types.is_floating(column.type)]


def _find_integral(batches: Iterable[pa.RecordBatch], columns: list[str]) -> dict[str, ColumnKind]:
    """Return the columns of floats that are integers, with missing values among them.

    Reading stops as soon as no column can be one.
    """
    left, missing, present = set(columns), set(), set()
    for batch in batches:
        batch.validate()
        for column in list(left):
            values = batch[column].to_numpy(zero_copy_only=False).astype(np.float64)  # null becomes NaN
            known = values[~np.isnan(values)]
            if len(known) < len(values):
                missing.add(column)
            if len(known):
                present.add(column)
            if not ((known == np.floor(known)) & (np.abs(known) <= LARGEST_EXACT)).all():
                left.discard(column)
        if not left:
            break
    return dict.fromkeys(left & missing & present, "integral")


def _kind_of_type(dtype: pa.DataType) -> ColumnKind:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return "text"
    if pa.types.is_integer(dtype) or pa.types.is_boolean(dtype):
        return "scalar"
    is_list = pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
    return "conversation" if is_list and pa.types.is_struct(dtype.value_type) else "other"


def read_hub(address: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield one document per row of a Hugging Face dataset, streamed.

    Args:
        address: `hf://DATASET[#CONFIGURATION][:SPLIT]`; the default split is `train`. Datasets with their own
            loading code are not supported.
        request: the columns asked for.

    Raises:
        CorpusError: the package ``datasets`` is not installed, or the dataset cannot be loaded.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise CorpusError(
            f"{address}: needs the package datasets, which is not installed: pip install datasets"
        ) from None
    path, _, split = address.removeprefix("hf://").partition(":")
    dataset_name, _, configuration = path.partition("#")
    try:
        dataset = load_dataset(dataset_name, configuration or None, split=split or "train", streaming=True)
    except Exception as error:  # whatever hub, network or builder may raise
        reason = first_line(error)
        raise CorpusError(
            f"{address}: expected a readable dataset, got {type(error).__name__}: {reason:.300}"
        ) from None
    yield from read_dataset(dataset, request, name=address)
