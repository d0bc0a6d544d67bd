"""Arrow files, written atomically, and their checksums."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from specialize.atomic import replacing
from specialize.errors import TraceError
from specialize.trace.schema import IPC_OPTIONS


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """Write record batches to a file that appears only when it is complete; return its SHA-256 (hexadecimal)."""
    with replacing(path) as partial:
        with partial.open("wb") as file, pa.ipc.new_file(file, schema, options=IPC_OPTIONS) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return sha256_of(partial)


def read_arrow(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file, or some of its columns, through a memory map.

    Raises:
        TraceError: the file is missing or is not a whole Arrow file.
    """
    try:
        with pa.memory_map(str(path)) as source:
            included = None
            if columns is not None:
                schema = pa.ipc.open_file(source).schema
                included = [schema.get_field_index(name) for name in columns]
            # Arrow's threads do not speed up a single column, and parallel readers would compete for them
            options = pa.ipc.IpcReadOptions(included_fields=included, use_threads=columns is None or len(columns) > 1)
            return pa.ipc.open_file(source, options=options).read_all()
    except FileNotFoundError as error:
        raise TraceError(f"{path}: expected a file of the trace, found none; run `specialize validate`") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise TraceError(f"{path}: expected a whole Arrow file, got {error}; run `specialize validate`") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
