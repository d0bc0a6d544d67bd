"""Reading one shard of a trace."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.files import read_arrow
from specialize.trace.verified import REPAIR

Shards: TypeAlias = Literal["tokens", "routing"]


def read_rows(path: Path, columns: list[str] | None, *, schema: pa.Schema, expected: int) -> pa.Table:
    """Read a shard, or some of its columns.

    Args:
        path: of the file.
        columns: the columns to read; None for all.
        schema: what the file must hold.
        expected: number of rows that it must have.

    Raises:
        TraceError: it holds something else.
    """
    table = read_arrow(path, columns, schema=schema)
    if table.num_rows != expected:
        raise TraceError(f"{path}: expected {expected} rows, got {table.num_rows}; {REPAIR}")
    return table


def rows_of(column: pa.ChunkedArray, width: int) -> NDArray[Any]:
    """Return a column of lists as an array [rows, width]; without a copy where it is one chunk."""
    values: NDArray[Any] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)
