"""OLMoE's analysis: JSON Lines of {input_ids [T], predicted_token_ids [T], exp_ids [T, k, L]}.

Each line becomes a document. The losses of the predictions are not known (NaN).

Source: Muennighoff et al. 2024, https://arxiv.org/abs/2409.02060.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from specialize.errors import TraceError, first_line
from specialize.trace.imports.source import Block, ImportOptions, Source, check_file, list_files, read_lines

_BYTES_AT_ONCE = 2**23
_IDS = pa.list_(pa.int32())
_SCHEMA = pa.schema([("input_ids", _IDS), ("predicted_token_ids", _IDS), ("exp_ids", pa.list_(pa.list_(_IDS)))])
_TOKEN_COLUMNS = {"input_ids": "token_id", "predicted_token_ids": "predicted_token_id"}

_Line = tuple[Path, int, bytes]


def open_olmoe(path: Path, options: ImportOptions) -> Source:
    """Open a JSON Lines file of OLMoE's analysis, or a folder of them."""
    files = list_files(path, ["*.jsonl"], what="OLMoE's analysis in JSON Lines")
    for file in files:
        check_file(file)
    return Source(path=path, read=lambda: _read(files), size=sum(file.stat().st_size for file in files))


def _read(files: list[Path]) -> Iterator[Block]:
    document, lines, held, done = 0, [], 0, 0
    for path, number, line, done in read_lines(files):
        lines.append((path, number, line))
        held += len(line)
        if held >= _BYTES_AT_ONCE:
            yield _block(lines, document, done)
            document, lines, held = document + len(lines), [], 0
    if lines:
        yield _block(lines, document, done)


def _block(lines: list[_Line], document: int, done: int) -> Block:
    table = _parse(lines)
    places = [f"{path}, line {number}" for path, number, _ in lines]
    tokens_of = _lengths(table["exp_ids"], places, "exp_ids")
    starts = np.cumsum(tokens_of) - tokens_of
    line_of = np.repeat(np.arange(len(lines)), tokens_of)

    def where(row: int) -> str:
        return f"{places[line_of[row]]}, token {row - starts[line_of[row]]}"

    experts = _experts(table["exp_ids"], where)
    columns: dict[str, NDArray[Any]] = {}
    for name, column in _TOKEN_COLUMNS.items():
        if table[name].null_count == len(lines):
            continue
        lengths = _lengths(table[name], places, name)
        wrong = np.flatnonzero(lengths != tokens_of)
        if wrong.size:
            line = int(wrong[0])
            raise TraceError(
                f"{places[line]}: expected {name} for the {tokens_of[line]} tokens of exp_ids, got {lengths[line]}"
            )
        columns[column] = _values(table[name].flatten(), places[0], name)
    if "predicted_token_id" in columns:
        columns["next_token_loss"] = np.full(len(line_of), np.nan, np.float32)
    keys = range(document, document + len(lines))
    return Block(document + line_of, keys, experts, where, tokens=columns, bytes_read=done)


def _parse(lines: list[_Line]) -> dict[str, pa.ListArray]:
    text = b"\n".join(line.strip() for _, _, line in lines) + b"\n"
    try:
        if not all(line.lstrip().startswith(b"{") for _, _, line in lines):
            raise ValueError("a line that is no object")  # Arrow's parser would end the process on a null
        table = pa.json.read_json(
            pa.BufferReader(text),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(text)),
            parse_options=pa.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"),
        )
        if table.num_rows != len(lines):
            raise ValueError(f"{table.num_rows} objects")
    except Exception as error:  # whatever the parser raises
        if len(lines) > 1:
            for line in lines:  # to name the line
                _parse([line])
        path, number, _ = lines[0]
        raise TraceError(
            f"{path}, line {number}: expected one JSON object with input_ids, predicted_token_ids and exp_ids "
            f"[T, k, L] of integers, got something else ({first_line(error):.300})"
        ) from None
    return {name: table[name].combine_chunks() for name in _SCHEMA.names}


def _lengths(column: pa.ListArray, places: list[str], name: str) -> NDArray[np.int64]:
    lengths = column.value_lengths()
    if lengths.null_count:
        line = lengths.is_null().to_pylist().index(True)
        raise TraceError(f"{places[line]}: expected {name}, found none")
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _experts(column: pa.ListArray, where: Any) -> NDArray[np.int32]:
    """Return expert ids [T, L, k] from lists [T, k, L]."""
    sizes, values = [], column.flatten()
    for axis in ("k", "layers"):
        lengths = values.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
        sizes.append(int(lengths[0]) if len(lengths) else 0)
        ragged = np.flatnonzero(lengths != sizes[-1])
        if ragged.size or sizes[-1] < 1:
            row = int(ragged[0]) // (sizes[0] if axis == "layers" else 1) if ragged.size else 0
            place = where(row) if len(lengths) else "exp_ids"
            raise TraceError(f"{place}: expected exp_ids [T, k, L] with the same number of {axis} for all tokens")
        values = values.flatten()
    flat = _values(values, where(0), "exp_ids")
    return flat.reshape(-1, *sizes).transpose(0, 2, 1)


def _values(flat: pa.Array, place: str, name: str) -> NDArray[np.int32]:
    if flat.null_count:
        raise TraceError(f"{place} or after: expected integers in {name}, got null")
    values: NDArray[np.int32] = flat.to_numpy()
    return values
