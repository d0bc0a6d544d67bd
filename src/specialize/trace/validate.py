"""Checking the files of a trace against its manifest: presence, checksums, row counts."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pyarrow as pa

from specialize.addresses import fetched, prefetch
from specialize.errors import TraceError
from specialize.manifest import sha256_of
from specialize.remote.places import at_addresses
from specialize.trace.files import read_arrow
from specialize.trace.manifest import read_manifest
from specialize.trace.parts import part_of
from specialize.trace.reader import RoutingTrace


@dataclass(frozen=True)
class Check:
    """The result of checking one file.

    Attributes:
        file: path in the run folder.
        problem: what is wrong with the file; None if nothing is.
        rows: number of rows, 0 if the file cannot be read.
        shard: number of the shard that the file belongs to; None for the documents and the manifest.
        note: what a user should know although nothing is wrong; None for nothing.
    """

    file: str
    problem: str | None
    rows: int
    shard: int | None = None
    note: str | None = None


@at_addresses(run="read")
def validate_trace(run: str | PathLike[str]) -> list[Check]:
    """Check every file of a trace, complete or not.

    Args:
        run: the run folder, or its address.

    Returns:
        One check per file: the documents, then the token and routing files shard by shard. An interrupted trace
        adds one for the manifest, and so does one of several parts of a trace.

    Raises:
        TraceError: there is no trace in the folder.
    """
    run = Path(run)
    manifest = read_manifest(run, complete=False)
    prefetch(run)
    checks, part = [], part_of(manifest)
    if not manifest["complete"]:
        what = "the trace" if part is None else str(part)
        checks.append(Check("manifest.json", f"{what} was interrupted: repeat the same trace to resume it", 0))
    elif part is not None:
        held = f"{len(manifest['shards'])} of {manifest['part']['shards']} shards"
        checks.append(Check("manifest.json", None, 0, note=f"{part} of a trace, with {held}: merge the parts"))
    documents = manifest.get("documents")
    if documents is not None:
        checks.append(_check(run, "documents.arrow", documents["sha256"], documents["count"]))
    for number, shard in enumerate(manifest["shards"]):
        checks += [_check(run, name, checksum, shard["tokens"], number) for name, checksum in shard["files"].items()]
    if manifest["complete"] and not any(check.problem for check in checks):
        checks += _check_values(RoutingTrace(run, part=True)) if manifest["shards"] else []
    return checks


def _check_values(trace: RoutingTrace) -> list[Check]:
    """Check what the files hold; return the first problem, if any."""
    try:
        trace.check()
        for router in trace.routers:
            if not trace.has_tokens:
                trace.usage(router.name)
                continue
            for number in range(len(trace.manifest["shards"])):
                trace.shard_experts(number, [router])
            if "weights" in router.held(trace.contents):
                trace.weights(router.name, routing=router.routing)
    except TraceError as error:
        return [Check("trace", str(error), trace.num_tokens)]
    return []


def _check(run: Path, name: str, checksum: str, rows: int, shard: int | None = None) -> Check:
    path = fetched(run / "trace" / name)
    file = f"trace/{name}"
    try:
        if not path.is_file():
            return Check(file, "not a file" if path.exists() else "missing", 0, shard)
        if sha256_of(path) != checksum:
            return Check(file, "damaged: its checksum differs from the manifest's", 0, shard)
        table: pa.Table = read_arrow(path)
    except (TraceError, OSError) as error:
        return Check(file, str(error), 0, shard)
    if table.num_rows != rows:
        return Check(file, f"expected {rows} rows, got {table.num_rows}", table.num_rows, shard)
    return Check(file, None, table.num_rows, shard)
