"""Arrow files, written atomically, and their checksums."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from mmap import PROT_READ, mmap
from pathlib import Path

import pyarrow as pa
import xxhash

from specialize.addresses import fetched
from specialize.atomic import replacing
from specialize.errors import TraceError, first_line
from specialize.manifest import sha256_of
from specialize.trace.schema import IPC_OPTIONS


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """Write record batches to a file that appears only when it is complete; return its SHA-256 (hexadecimal)."""
    with replacing(path) as partial:
        with partial.open("wb") as file, pa.ipc.new_file(file, schema, options=IPC_OPTIONS) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return sha256_of(partial)


def read_arrow(
    path: Path, columns: list[str] | None = None, *, schemas: Sequence[pa.Schema] = (), threads: bool = True
) -> pa.Table:
    """Read a file, or some of its columns, through a memory map.

    Args:
        path: the file.
        columns: the columns to read; default: all.
        schemas: what the file must hold: each column as in one of them; default: anything.
        threads: whether columns may be decompressed in parallel; not where files are read in parallel.

    Raises:
        TraceError: the file is missing, is not a whole Arrow file, or holds other columns.
    """
    with _opened(path) as source:
        stored = pa.ipc.open_file(source).schema
        for name in stored.names if columns is None else columns:
            found = _type_of(name, stored)
            if found is None or (schemas and found not in [_type_of(name, schema) for schema in schemas]):
                raise TraceError(f"{path}: expected the columns of a trace, got {name} of type {found}; {CHECK}")
        included = None if columns is None else [stored.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=included, use_threads=threads)
        table = pa.ipc.open_file(source, options=options).read_all()
        table.validate()  # that no column ends before its rows do; takes no time
        return table


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file, reading them through a memory map; at least one, which may be empty.

    Raises:
        TraceError: the file is missing or is not a whole Arrow file.
    """
    with _opened(path) as source:
        reader = pa.ipc.open_file(source)
        if not reader.num_record_batches:
            yield pa.RecordBatch.from_pylist([], schema=reader.schema)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)  # offsets of texts may point outside the file, whose checksum shows no intent
            yield batch


@contextmanager
def _opened(path: Path) -> Iterator[pa.MemoryMappedFile]:
    try:
        with pa.memory_map(str(fetched(path))) as source:
            yield source
    except FileNotFoundError as error:
        raise TraceError(f"{path}: expected a file of the trace, found none; {CHECK}") from error
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"{path}: expected a whole Arrow file, got {first_line(error)}; {CHECK}") from error


CHECK = "run `specialize validate`"


def _type_of(name: str, schema: pa.Schema) -> str | None:
    """Return the type of a column with what its metadata says of it, None unless there is one of that name."""
    index = schema.get_field_index(name)
    if index < 0:
        return None
    field = schema.field(index)
    notes = [f"{key.decode()} {value.decode(errors='replace')}" for key, value in (field.metadata or {}).items()]
    return f"{field.type} ({', '.join(notes)})" if notes else str(field.type)


def xxh3_of(path: Path) -> str:
    """Return the XXH3-128 (hexadecimal) of a file, which notices damage as SHA-256 does, several times as fast."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        if path.stat().st_size:  # an empty file cannot be mapped
            with mmap(file.fileno(), 0, prot=PROT_READ) as contents:
                digest.update(contents)
    return digest.hexdigest()
