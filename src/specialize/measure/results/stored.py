"""Result tables as Parquet, with a checksum of their contents and, where it is known, the trace they are of.

Parquet's own checksums cover pages of values, not the names, types and metadata beside them. The entry `KEY` of the
file's metadata is therefore a JSON object with ``sha256``, of all that is read; ``trace``, the digest of the trace (see
`RoutingTrace.digest`); ``other``, that of the one it was compared with; and ``place``, the path in the run folder
without suffix. A table without the entry was written by another program.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from specialize.atomic import replacing

KEY = b"specialize.result"


class TraceOfResults(Protocol):
    """The part of a trace that its results name."""

    @property
    def path(self) -> Path:
        """The run folder."""

    @property
    def digest(self) -> str:
        """Digest of documents, tokens, routing and routers."""


@dataclass(frozen=True)
class Origin:
    """What a stored table says of where it comes from.

    Attributes:
        trace: digest of the trace that was measured; None if unknown.
        place: where the table was written, such as ``syntax/upos``; None outside the run folder.
        other: digest of the trace with which it was compared; None if there is none.
    """

    trace: str | None = None
    place: str | None = None
    other: str | None = None


def store_table(
    frame: pd.DataFrame, path: Path, *, trace: TraceOfResults | None = None, other: TraceOfResults | None = None
) -> None:
    """Write a frame as Parquet, atomically, with the entry that `read_stored` verifies.

    Args:
        frame: any frame; its index is not written.
        path: of the file, with the suffix ``.parquet``; the folder is made where it is missing.
        trace: the trace that was measured.
        other: the one with which it was compared.

    Raises:
        OutputError: the file cannot be written.
    """
    categories = frame.columns[[isinstance(dtype, pd.CategoricalDtype) for dtype in frame.dtypes]]
    plain = frame.astype(dict.fromkeys(categories, object))  # Parquet does not keep the types of categories
    table = pa.Table.from_pandas(plain, preserve_index=False)
    origin = Origin() if trace is None else origin_of(path, trace, other)
    entry = json.dumps(asdict(origin) | {"sha256": _digest(table, origin)})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: entry})
    with replacing(path) as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def read_stored(path: Path) -> tuple[pd.DataFrame, Origin | None]:
    """Read a Parquet file and verify its entry.

    Args:
        path: of the file.

    Returns:
        The frame, and where it comes from; None where the file has no entry.

    Raises:
        Exception: of any kind, if the file is damaged; a ValueError if it is not what its checksum says.
    """
    with pq.ParquetFile(pa.BufferReader(path.read_bytes()), page_checksum_verification=True) as file:
        table = file.read()
    table.validate(full=True)
    entry = (table.schema.metadata or {}).get(KEY)
    if entry is None:
        return table.to_pandas(), None
    said: dict[str, Any] = json.loads(entry)
    origin = Origin(said["trace"], said["place"], said["other"])
    if said["sha256"] != _digest(table, origin):
        raise ValueError("its contents do not match its checksum")
    return table.to_pandas(ignore_metadata=True), origin  # the checksum does not cover the metadata of pandas


def origin_of(path: Path, trace: TraceOfResults, other: TraceOfResults | None = None) -> Origin:
    """Return what a table of a trace says of where it comes from.

    Args:
        path: of its Parquet file.
        trace: the trace that was measured.
        other: the one with which it was compared.
    """
    inside, run = path.with_suffix("").absolute(), trace.path.absolute()
    place = inside.relative_to(run).as_posix() if inside.is_relative_to(run) else None
    return Origin(trace.digest, place, None if other is None else other.digest)


def _digest(table: pa.Table, origin: Origin) -> str:
    """Return the SHA-256 (hexadecimal) of an origin and of the names, types and values of columns."""
    digest = hashlib.sha256(json.dumps([asdict(origin), table.num_rows]).encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.combine_chunks()
        digest.update(json.dumps([name, str(values.type)]).encode())
        digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        present = values.drop_null()
        if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            digest.update(present.to_numpy(zero_copy_only=False).tobytes())
        else:
            encoded = present.dictionary_encode()
            digest.update(json.dumps(encoded.dictionary.to_pylist(), default=str).encode())
            digest.update(encoded.indices.to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()
