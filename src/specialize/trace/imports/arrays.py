"""A plain layout for a user's own routing: arrays in a folder of .npy files or in one .npz.

    experts       integers [tokens, layers, k], in rank order; -1 (65535 in uint16) in a slot without an expert
    weights       optional, gate weights, same shape
    document      optional, integers [tokens]: row of the token's document in the table of documents; the tokens of a
                  document are contiguous. Default: all tokens belong to one document
    token_id, position, char_start, char_end
                  optional, integers [tokens]; characters are code points in the document's text, end exclusive
    layers        optional, integers [layers]: numbers of the layers in the model; default: 0, 1, …
    num_experts   optional, one integer: E

Or one Parquet file with one row per token: the optional columns document (integers, or ids as strings), position,
token_id, char_start and char_end, and for each layer a column of lists experts_LAYER, and weights_LAYER if there are
gate weights; null is a slot without an expert. A file documents.parquet in the folder, or beside the Parquet file, is
the table of documents (id, text, labels) unless another one is given.

A folder and a Parquet file are streamed; an .npz is read into memory.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specialize.errors import TraceError, did_you_mean
from specialize.text import list_names
from specialize.trace.imports.npy import load_archive, load_array
from specialize.trace.imports.serving import reject_torch
from specialize.trace.imports.source import (
    BLOCK_TOKENS,
    Block,
    ImportOptions,
    Numbering,
    Source,
    check_file,
    guard_parser,
    list_files,
)
from specialize.trace.schema import NO_EXPERT

_TOKEN_COLUMNS = ("token_id", "position", "char_start", "char_end")
_NAMES = ("experts", "weights", "document", *_TOKEN_COLUMNS, "layers", "num_experts")
_PARQUET_ROWS = 2**14

_Arrays = Mapping[str, NDArray[Any]]


def open_arrays(path: Path, options: ImportOptions) -> Source:
    """Open a folder of .npy files, an .npz or a Parquet file."""
    reject_torch(path)
    if path.is_dir():
        files = list_files(path, ["*.npy"], what="arrays")
        return _source(path, {file.stem: load_array(file) for file in files}, beside=path)
    if path.suffix not in (".npz", ".parquet"):
        raise TraceError(
            f"{path}: expected a folder of .npy files, an .npz or a Parquet file, got {path.suffix or 'no extension'}"
        )
    check_file(path)
    if path.suffix == ".parquet":
        return _parquet_source(path)
    return _source(path, load_archive(path), beside=None)


def _source(path: Path, arrays: _Arrays, *, beside: Path | None) -> Source:
    for name in arrays:
        if name not in _NAMES:
            hint = did_you_mean(name, _NAMES)
            raise TraceError(f"{path}: expected arrays called {', '.join(_NAMES)}, got {name!r:.60}.{hint}")
    if "experts" not in arrays:
        raise TraceError(f"{path}: expected an array called experts, got {list_names(arrays)}")
    shape = arrays["experts"].shape
    if len(shape) != 3:
        raise TraceError(f"{path}: expected experts of shape [tokens, layers, k], got {list(shape)}")
    shapes = {"weights": shape, "layers": shape[1:2], "num_experts": ()}
    for name, array in arrays.items():
        expected = shape if name == "experts" else shapes.get(name, shape[:1])
        kinds = "f" if name == "weights" else "iu"
        if array.shape != expected or array.dtype.kind not in kinds:
            what = "floats" if name == "weights" else "integers"
            raise TraceError(
                f"{path}: expected {name} as {what} {list(expected)}, got {array.dtype} {list(array.shape)}"
            )
    return Source(
        path=path,
        read=lambda: _read_arrays(path, arrays),
        size=sum(array.nbytes for array in arrays.values()),
        layers=tuple(arrays["layers"].tolist()) if "layers" in arrays else None,
        num_experts=int(arrays["num_experts"]) if "num_experts" in arrays else None,
        marks_absent=True,
        documents=_table_in(beside),
    )


def _table_in(folder: Path | None) -> Path | None:
    table = folder / "documents.parquet" if folder else None
    return table if table and table.is_file() else None


def _read_arrays(path: Path, arrays: _Arrays) -> Iterator[Block]:
    experts, numbering = arrays["experts"], Numbering()
    row_bytes = sum(array[:1].nbytes for array in arrays.values() if array.shape[:1] == experts.shape[:1])
    for start in range(0, len(experts), BLOCK_TOKENS):
        rows = slice(start, start + BLOCK_TOKENS)
        part = experts[rows]
        named = np.asarray(arrays["document"][rows]) if "document" in arrays else np.zeros(len(part), np.int64)
        document, keys = numbering.take(named)
        yield Block(
            document=document,
            keys=keys,
            experts=part,
            weights=arrays["weights"][rows] if "weights" in arrays else None,
            tokens={name: arrays[name][rows] for name in _TOKEN_COLUMNS if name in arrays},
            where=lambda row, start=start: f"{path}, token {start + row}",  # type: ignore[misc]
            bytes_read=(start + len(part)) * row_bytes,
        )


def _parquet_source(path: Path) -> Source:
    with guard_parser(path, "a Parquet file"):
        schema = pq.read_schema(path)
    columns: dict[str, dict[int, str]] = {"experts": {}, "weights": {}}
    for place, name in enumerate(schema.names):
        match = re.fullmatch(r"(experts|weights)_([0-9]{1,9})", name)
        earlier = columns[match[1]].setdefault(int(match[2]), name) if match else name
        if earlier != name or name in schema.names[:place]:
            raise TraceError(f"{path}: expected each column once, got {earlier!r} and {name!r}; remove one")
        if not match and name not in ("document", *_TOKEN_COLUMNS):
            known = ("document", *_TOKEN_COLUMNS, "experts_LAYER", "weights_LAYER")
            raise TraceError(
                f"{path}: expected columns {', '.join(known)}, got {name!r:.60}.{did_you_mean(name, known)}"
            )
    layers = tuple(sorted(columns["experts"]))
    if not layers:
        raise TraceError(f"{path}: expected columns experts_LAYER of lists, got {list_names(schema.names)}")
    if columns["weights"] and sorted(columns["weights"]) != list(layers):
        raise TraceError(
            f"{path}: expected gate weights for all layers or none, got experts of layers {list_names(layers)} and "
            f"weights of layers {list_names(sorted(columns['weights']))}"
        )
    return Source(
        path=path,
        read=lambda: _read_parquet(path, layers, columns["experts"], columns["weights"]),
        size=path.stat().st_size,
        layers=layers,
        marks_absent=True,
        documents=_table_in(path.parent) if path.name != "documents.parquet" else None,
    )


def _read_parquet(
    path: Path, layers: tuple[int, ...], experts_in: Mapping[int, str], weights_in: Mapping[int, str]
) -> Iterator[Block]:
    numbering, start = Numbering(), 0
    with pq.ParquetFile(path) as file:
        total, size = max(file.metadata.num_rows, 1), path.stat().st_size
        batches = file.iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            with guard_parser(path, "a whole Parquet file"):
                batch = next(batches, None)
                if batch is not None:
                    batch.validate(full=True)
            if batch is None:
                return
            if not len(batch):
                continue
            named = np.zeros(len(batch), np.int64)
            if "document" in batch.schema.names:
                named = _plain(batch["document"], f"{path}, column document")
            document, keys = numbering.take(named)
            place = f"{path}, row {start} or after"
            experts, weights = (
                [_lists(batch[names[layer]], absent, f"{place}, {names[layer]}") for layer in layers if names]
                for names, absent in ((experts_in, NO_EXPERT), (weights_in, np.nan))  # NaN is refused beside an expert
            )
            for layer, part in zip(layers * (1 + bool(weights)), experts + weights, strict=True):
                if part.shape != experts[0].shape:
                    raise TraceError(
                        f"{place}: expected lists of the same length k in all layers, got {experts[0].shape[1]} and, "
                        f"in layer {layer}, {part.shape[1]}; import the layers separately"
                    )
            if np.result_type(*experts).kind == "f":  # of uint64 and a signed type: ids would be rounded
                types = list_names(sorted({str(part.dtype) for part in experts}))
                raise TraceError(f"{place}: expected experts of one type of integers in all layers, got {types}")
            columns = [name for name in _TOKEN_COLUMNS if name in batch.schema.names]
            yield Block(
                document=document,
                keys=keys,
                experts=np.stack(experts, axis=1),
                weights=np.stack(weights, axis=1) if weights else None,
                tokens={name: _plain(batch[name], f"{path}, column {name}") for name in columns},
                where=lambda row, start=start: f"{path}, row {start + row}",  # type: ignore[misc]
                bytes_read=(start + len(batch)) * size // total,
            )
            start += len(batch)


def _plain(column: pa.Array, place: str) -> NDArray[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    strings = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if column.null_count or not (pa.types.is_integer(column.type) or (strings and place.endswith("document"))):
        raise TraceError(f"{place}: expected an integer for each token, got {column.type!s:.100} with nulls or text")
    return column.to_numpy(zero_copy_only=False)


def _lists(column: pa.Array, absent: float, place: str) -> NDArray[Any]:
    """Return the values [rows, k] of a column of lists of equal length; a null in a list becomes `absent`."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise TraceError(f"{place}: expected lists of numbers, got {kind!s:.100}")
    fits = pa.types.is_integer if absent == NO_EXPERT else pa.types.is_floating
    if not fits(kind.value_type):
        what = "integers" if absent == NO_EXPERT else "floats"
        raise TraceError(f"{place}: expected lists of {what}, got {kind!s:.100}")
    lengths = column.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
    if (lengths != lengths[0]).any() or lengths[0] < 1:
        raise TraceError(f"{place}: expected lists of equal length k, got lengths {lengths.min()} to {lengths.max()}")
    values = column.flatten()
    if values.null_count:
        values = values.cast(pa.int64() if absent == NO_EXPERT else pa.float64()).fill_null(absent)
    return values.to_numpy(zero_copy_only=False).reshape(-1, int(lengths[0]))
