"""A trace as Parquet files for DuckDB, polars, pandas and data lakes; reading them does not need this package.

    documents.parquet   document, id, text, and a column per label
    tokens.parquet      token, document, sequence, position, token_id, text (of the token), char_start, char_end,
                        phase; and predicted_token_id and next_token_loss if the trace holds predictions
    routing.parquet     one row per slot of each token: token, layer, router, routing (learned or random), draw (number
                        of the random router, 0 for a learned one), slot (rank, from 0), expert; and weight and norm
                        if the trace holds them

``token`` and ``document`` are row numbers from 0. Unknown values and slots without an expert are null. A row group of
routing.parquet holds the rows of one router in one shard, so that a query of one layer reads only that layer. Router
logits are not exported.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specialize.errors import OutputError
from specialize.events import Progress
from specialize.trace.checks import check_experts, check_roles, check_weights
from specialize.trace.folders import whole_folder
from specialize.trace.packing import rows_of, unpacked_experts
from specialize.trace.reader import RoutingTrace
from specialize.trace.schema import PHASES, UNKNOWN

_SLOT_COLUMNS = {"weights": "weight", "norms": "norm"}
_MAY_BE_UNKNOWN = ("token_id", "char_start", "char_end", "predicted_token_id")


def export_parquet(trace: RoutingTrace, folder: Path, *, progress: Progress | None = None) -> Path:
    """Write a trace as Parquet files, one shard at a time.

    Args:
        trace: the trace.
        folder: the folder to create, all of it or nothing.
        progress: called with (tokens done, tokens in total) after each shard.

    Returns:
        The folder.

    Raises:
        OutputError: the folder is not empty, or cannot be written.
    """
    try:
        with whole_folder(folder) as partial:
            _write_documents(trace, partial / "documents.parquet")
            _write_shards(trace, partial, progress or (lambda done, total: None))
    except OSError as error:
        raise OutputError(
            f"{folder}: could not be written ({error.strerror or error}); free some space and try again"
        ) from error
    return folder


def _write_documents(trace: RoutingTrace, path: Path) -> None:
    first, writer = 0, None
    try:
        for batch in trace.stored_documents():
            rows = pa.array(np.arange(first, first + len(batch)), pa.int32())
            table = pa.Table.from_batches([batch.add_column(0, "document", rows)])
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            first += len(batch)
    finally:
        if writer is not None:
            writer.close()


def _write_shards(trace: RoutingTrace, folder: Path, progress: Callable[[int, int], None]) -> None:
    schema = _routing_schema(trace)
    texts, first = _Texts(trace), 0
    columns = [f"{name}.{index}" for index in range(len(trace.routers)) for name in _held(trace, index)]
    trace.check()
    token_writer = None
    # no dictionaries where they do not pay: token numbers increase by one every k rows, weights hardly repeat
    with pq.ParquetWriter(
        folder / "routing.parquet",
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name not in ("token", *_SLOT_COLUMNS.values())],
        column_encoding={"token": "DELTA_BINARY_PACKED"}
        | {name: "BYTE_STREAM_SPLIT" for name in schema.names if name in _SLOT_COLUMNS.values()},
    ) as routing_writer:
        try:
            for stored, routing in zip(trace.shards("tokens"), trace.shards("routing", columns), strict=True):
                tokens = _tokens(stored, texts, first, trace)
                token_writer = token_writer or pq.ParquetWriter(
                    folder / "tokens.parquet", tokens.schema, compression="zstd"
                )
                token_writer.write_table(tokens)
                for index in range(len(trace.routers)):
                    table = _routing(routing, trace, index, schema, first)
                    routing_writer.write_table(table, row_group_size=max(1, table.num_rows))
                first += stored.num_rows
                progress(first, trace.num_tokens)
        finally:
            if token_writer is not None:
                token_writer.close()


def _tokens(table: pa.Table, texts: "_Texts", first: int, trace: RoutingTrace) -> pa.Table:
    roles, run = trace.manifest.get("roles", ()), trace.path
    columns = {name: table[name].to_numpy() for name in table.schema.names}
    result: dict[str, Any] = {"token": pa.array(np.arange(first, first + table.num_rows), pa.int64())}
    for name, values in columns.items():
        if name == "phase":
            result["phase"] = pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int8)), list(PHASES))
            continue
        if name == "role":
            check_roles(values, roles, run)
            result["role"] = pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int16)), list(roles))
            continue
        unknown = (
            values == UNKNOWN if name in _MAY_BE_UNKNOWN else np.isnan(values) if values.dtype.kind == "f" else None
        )
        result[name] = pa.array(values, table.schema.field(name).type, mask=unknown)
        if name == "token_id":
            spans = (columns[each] for each in ("document", "char_start", "char_end"))
            result["text"] = pa.array(texts.cut(*spans), pa.large_string())
    return pa.table(result)


def _routing_schema(trace: RoutingTrace) -> pa.Schema:
    names = pa.dictionary(pa.int16(), pa.string())
    fields = [
        ("token", pa.int64()), ("layer", pa.int16()), ("router", names), ("routing", names), ("draw", pa.int16()),
        ("slot", pa.int16()), ("expert", pa.int16()),
    ]  # fmt: skip
    return pa.schema(fields + [(name, pa.float32()) for held, name in _SLOT_COLUMNS.items() if held in trace.contents])


def _held(trace: RoutingTrace, index: int) -> list[str]:
    """Return what of a router is exported."""
    return ["experts", *(name for name in trace.routers[index].held(trace.contents) if name in _SLOT_COLUMNS)]


def _routing(table: pa.Table, trace: RoutingTrace, index: int, schema: pa.Schema, first: int) -> pa.Table:
    """One row per slot of each token of a shard."""
    router, held = trace.routers[index], _held(trace, index)
    chosen = unpacked_experts(table[f"experts.{index}"], router)
    check_experts(chosen, router, trace.path)
    experts = chosen.reshape(-1)
    absent = experts == np.iinfo(experts.dtype).max
    rows = len(experts)
    tokens = first + np.arange(table.num_rows)
    columns: dict[str, Any] = {
        "token": np.repeat(tokens, router.top_k),
        "layer": np.full(rows, router.layer),
        "router": _constant(router.name, rows),
        "routing": _constant(router.routing, rows),
        "draw": np.full(rows, router.draw),
        "slot": np.tile(np.arange(router.top_k), table.num_rows),
        "expert": pa.array(experts.astype(np.int16), mask=absent),
    }
    for name, column in _SLOT_COLUMNS.items():
        if name in held:
            values = rows_of(table[f"{name}.{index}"], router.top_k).astype(np.float32)
            if name == "weights":
                check_weights(values, router, trace.path)
            columns[column] = pa.array(values.reshape(-1), mask=absent)
        elif column in schema.names:
            columns[column] = pa.nulls(rows, pa.float32())
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int16)), pa.array([value]))


class _Texts:
    """Cuts the tokens' texts out of the documents, of which only those near the current token are in memory."""

    def __init__(self, trace: RoutingTrace) -> None:
        self._batches = (batch.column("text").to_pylist() for batch in trace.stored_documents())
        self._first = 0
        self._texts: list[str | None] = []

    def cut(
        self, document: NDArray[np.integer], start: NDArray[np.integer], end: NDArray[np.integer]
    ) -> list[str | None]:
        """Return the text of each token, None if it is not known; documents must not decrease between calls."""
        self._move(int(document[0]), int(document[-1]))
        places = zip((document - self._first).tolist(), start.tolist(), end.tolist(), strict=True)
        return [self._cut(self._texts[row], begin, stop) for row, begin, stop in places]

    @staticmethod
    def _cut(text: str | None, begin: int, stop: int) -> str | None:
        return None if text is None or begin < 0 else text[begin:stop]

    def _move(self, lowest: int, highest: int) -> None:
        while self._first + len(self._texts) <= highest:
            self._texts += next(self._batches)
        self._texts, self._first = self._texts[lowest - self._first :], lowest
