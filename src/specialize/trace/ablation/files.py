"""Arrow files of an ablation, and what to say where one is damaged."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import TraceError, first_line


def read_table(path: Path) -> tuple[pa.Table, dict[str, str]]:
    """Read a table and its metadata; raise TraceError where it is missing or damaged."""
    if not path.is_file():
        raise TraceError(f"{path}: expected changes of the loss, found none: run `specialize ablate` again")
    try:
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        table.validate(full=True)
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except Exception as error:  # Arrow raises anything where bytes are wrong
        raise damaged(path, error) from None
    return table, metadata


def digest_array(values: NDArray[Any]) -> str:
    """Return the SHA-256 (hexadecimal) of an array, its type and its shape."""
    return hashlib.sha256(
        f"{values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes()
    ).hexdigest()


def digest_table(table: pa.Table) -> str:
    """Return the SHA-256 (hexadecimal) of the rows of a table."""
    return hashlib.sha256(json.dumps(table.to_pylist(), sort_keys=True).encode()).hexdigest()


def damaged(path: Path, error: Exception) -> TraceError:
    """Return the error of a file that cannot be what was written."""
    return TraceError(
        f"{path}: expected a file of `specialize ablate`, got a damaged one ({first_line(error)}): remove it and run "
        "the command again"
    )
