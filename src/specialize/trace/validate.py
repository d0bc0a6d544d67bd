"""Checking the files of a trace against its manifest: presence, checksums, row counts."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pyarrow as pa

from specialize.errors import TraceError
from specialize.trace.files import read_arrow, sha256_of
from specialize.trace.reader import read_manifest


@dataclass(frozen=True)
class Check:
    """The result of checking one file.

    Attributes:
        file: path in the run folder.
        problem: what is wrong with the file; None if nothing is.
        rows: number of rows, 0 if the file cannot be read.
        shard: number of the shard that the file belongs to; None for the documents and the manifest.
    """

    file: str
    problem: str | None
    rows: int
    shard: int | None = None


def validate_trace(run: str | PathLike[str]) -> list[Check]:
    """Check every file of a trace, complete or not.

    Args:
        run: the run folder.

    Returns:
        One check per file: the documents, then the token and routing files shard by shard. An interrupted trace
        adds one for the manifest.

    Raises:
        TraceError: there is no trace in the folder.
    """
    run = Path(run)
    manifest = read_manifest(run, complete=False)
    checks = []
    if not manifest["complete"]:
        checks.append(Check("manifest.json", "the trace was interrupted: repeat the same trace to resume it", 0))
    if "documents" in manifest:
        documents = manifest["documents"]
        checks.append(_check(run, "documents.arrow", documents["sha256"], documents["count"]))
    for number, shard in enumerate(manifest["shards"]):
        checks += [_check(run, name, checksum, shard["tokens"], number) for name, checksum in shard["files"].items()]
    return checks


def _check(run: Path, name: str, checksum: str, rows: int, shard: int | None = None) -> Check:
    path = run / "trace" / name
    file = f"trace/{name}"
    if not path.exists():
        return Check(file, "missing", 0, shard)
    if sha256_of(path) != checksum:
        return Check(file, "damaged: its checksum differs from the manifest's", 0, shard)
    try:
        table: pa.Table = read_arrow(path)
    except TraceError as error:
        return Check(file, str(error), 0, shard)
    if table.num_rows != rows:
        return Check(file, f"expected {rows} rows, got {table.num_rows}", table.num_rows, shard)
    return Check(file, None, table.num_rows, shard)
