"""Writing a trace: shard by shard, each whole or absent, so that a run that was killed goes on."""

import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import OutputError, TraceError
from specialize.manifest import digest_of, write_json
from specialize.trace.files import write_arrow
from specialize.trace.reader import read_manifest
from specialize.trace.schema import (
    CONTENTS,
    FORMAT,
    FORMAT_VERSION,
    RouterSpec,
    expert_dtype,
    routing_schema,
    token_schema,
)


@dataclass(frozen=True)
class Shard:
    """Consecutive tokens and their routing.

    Attributes:
        tokens: a column of [tokens] for each field of the token schema.
        routing: for each router its columns: experts, int [tokens, k], NO_EXPERT where a slot has none; and, where
            the trace holds them, weights [tokens, k], logits [tokens, E] and norms [tokens, k].
        facts: what the manifest tells of this shard beside its size and checksums.
    """

    tokens: Mapping[str, NDArray[Any]]
    routing: Sequence[Mapping[str, NDArray[Any]]]
    facts: Mapping[str, Any] = field(default_factory=dict)


class TraceWriter:
    """Writes the trace of one run folder; use as a context manager.

    Opening a folder that holds an unfinished trace of the same settings goes on with it: `num_shards` says
    how many shards are there already.

    Args:
        run: the run folder; made when missing.
        settings: everything that decides what the trace holds. A folder of other settings is refused.
        provenance: what else the manifest tells (command, versions).

    Raises:
        TraceError: the folder holds something else, or another process is writing to it.
    """

    def __init__(self, run: Path, *, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        self.run = run
        self.folder = run / "trace"
        self._settings = dict(settings)
        self._provenance = dict(provenance)
        self._lock: int | None = None
        self.manifest = self._read_or_begin()

    def _read_or_begin(self) -> dict[str, Any]:
        if self.run.is_file():
            raise TraceError(f"{self.run}: expected a folder to write the run to, got a file; choose another with -o")
        if (self.run / "manifest.json").exists():
            manifest = read_manifest(self.run, complete=False)
            self._refuse_other_settings(manifest)
            return manifest
        ours = {"trace", ".lock", *(path.name for path in self._left_by_a_kill())}
        folders = [folder for folder in (self.run, self.folder) if folder.exists()]
        foreign = [path for folder in folders for path in folder.iterdir() if path.name not in ours]
        if foreign:
            raise TraceError(f"{self.run} is not empty and holds no trace: choose another folder with -o")
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "complete": False,
            **self._provenance,
            "settings": self._settings,
            "settings_digest": digest_of(self._settings),
            "routers": [],
            "contents": [],
            "shards": [],
        }

    def _refuse_other_settings(self, manifest: Mapping[str, Any]) -> None:
        if manifest["settings_digest"] == digest_of(self._settings):
            return
        before, now = manifest["settings"], self._settings
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        details = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed)
        raise TraceError(f"{self.run} holds a trace of other settings ({details}): choose another folder with -o")

    def __enter__(self) -> "TraceWriter":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: could not be made ({error.strerror or error}); choose another folder with -o"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.manifest = self._read_or_begin()  # another process may have written since it was first read
            for path in self._left_by_a_kill():
                path.unlink()
            write_json(self.run / "manifest.json", self.manifest)
        except BlockingIOError:
            self._unlock()
            raise TraceError(
                f"{self.run}: another process is writing this trace; wait for it or choose another folder"
            ) from None
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def _left_by_a_kill(self) -> list[Path]:
        return [path for folder in (self.run, self.folder) for path in folder.glob(".*.partial")]

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)  # closing releases the lock
            self._lock = None

    @property
    def is_complete(self) -> bool:
        """Whether the whole trace is there."""
        return bool(self.manifest["complete"])

    @property
    def num_shards(self) -> int:
        """How many shards are written."""
        return len(self.manifest["shards"])

    @property
    def num_tokens(self) -> int:
        """How many tokens the written shards hold."""
        return sum(shard["tokens"] for shard in self.manifest["shards"])

    def has_documents(self) -> bool:
        """Whether documents.arrow is written."""
        return "documents" in self.manifest

    def write_documents(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write documents.arrow: columns id, text and the labels, all strings."""
        count = 0

        def counted() -> Iterable[pa.RecordBatch]:
            nonlocal count
            for batch in batches:
                count += batch.num_rows
                yield batch

        checksum = write_arrow(self.folder / "documents.arrow", schema, counted())
        self.manifest["documents"] = {"count": count, "sha256": checksum}

    def describe(self, **facts: Any) -> None:
        """Add facts to the manifest (corpus digest, routers, contents: a list of keys of CONTENTS) and write it."""
        unknown = set(facts.get("contents", ())) - set(CONTENTS)
        if unknown:
            raise TraceError(f"contents: expected some of {', '.join(CONTENTS)}, got {', '.join(sorted(unknown))}")
        self.manifest |= facts
        write_json(self.run / "manifest.json", self.manifest)

    def write_shard(self, shard: Shard, *, number: int | None = None) -> None:
        """Write the next shard, or another version of one that is there already, and enter it in the manifest.

        It is there for good when this returns.
        """
        number = self.num_shards if number is None else number
        routers = tuple(RouterSpec(**spec) for spec in self.manifest["routers"])
        contents = self.manifest["contents"]
        schema = token_schema(contents)
        files = {
            f"tokens-{number:05d}.arrow": pa.record_batch(
                [pa.array(shard.tokens[field.name], field.type) for field in schema], schema=schema
            ),
            f"routing-{number:05d}.arrow": _routing_batch(routers, contents, shard),
        }
        checksums = {name: write_arrow(self.folder / name, batch.schema, [batch]) for name, batch in files.items()}
        entry = {"tokens": len(shard.tokens["document"]), **shard.facts, "files": checksums}
        self.describe(shards=[*self.manifest["shards"][:number], entry, *self.manifest["shards"][number + 1 :]])

    def finish(self) -> None:
        """Mark the trace as complete."""
        self.describe(complete=True)


def _routing_batch(routers: Sequence[RouterSpec], contents: Sequence[str], shard: Shard) -> pa.RecordBatch:
    schema = routing_schema(routers, contents)
    columns = []
    for column in schema:
        name, index = column.name.split(".")
        values = shard.routing[int(index)][name]
        # NO_EXPERT wraps round to the largest value of the unsigned type, which is the sentinel on disk
        dtype = expert_dtype(routers[int(index)].num_experts) if name == "experts" else np.float16
        columns.append(
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.ascontiguousarray(values, dtype=dtype).reshape(-1)), column.type.list_size
            )
        )
    return pa.record_batch(columns, schema=schema)
