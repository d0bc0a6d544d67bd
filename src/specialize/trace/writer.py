"""Writing a trace shard by shard, each of them atomically, so that an interrupted run can be resumed."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from specialize.errors import OutputError, TraceError
from specialize.lock import locked
from specialize.manifest import digest_of
from specialize.trace.files import write_arrow, xxh3_of
from specialize.trace.manifest import write_manifest
from specialize.trace.packing import pack_experts
from specialize.trace.parts import Part
from specialize.trace.schema import (
    CONTENTS,
    FORMAT,
    FORMAT_VERSION,
    USAGE,
    RouterSpec,
    expert_dtype,
    routing_schema,
    shard_files,
    token_schema,
)
from specialize.trace.unfinished import partial_files, read_unfinished


@dataclass(frozen=True)
class Shard:
    """Consecutive tokens and their routing.

    Attributes:
        tokens: a column [tokens] for each field of the token schema.
        routing: the columns of each router: experts, int [tokens, k], NO_EXPERT in a slot without one; and, if the
            trace holds them, weights [tokens, k], logits [tokens, E] and norms [tokens, k]. In a run without tokens
            rows are documents, and there is usage [documents, E] alone.
        facts: further entries of the shard in the manifest, besides its size and checksums.
    """

    tokens: Mapping[str, NDArray[Any]]
    routing: Sequence[Mapping[str, NDArray[Any]]]
    facts: Mapping[str, Any] = field(default_factory=dict)


class TraceWriter:
    """Writes the trace of one run folder; use as a context manager.

    A trace with the same settings is resumed: `num_shards` is the number of shards already written. Names of a model
    and of a corpus, and the size of batches, may be others, see `specialize.trace.unfinished`.

    Args:
        run: the run folder; created if missing.
        settings: everything that determines the contents of the trace, JSON-serialisable.
        provenance: further entries of the manifest (command, versions).
        part: which part of a trace is written; default: all of it.

    Raises:
        TraceError: the folder holds something else, another part or a trace with other settings, or another process is
            writing to it.
    """

    def __init__(
        self, run: Path, *, settings: Mapping[str, Any], provenance: Mapping[str, Any], part: Part | None = None
    ) -> None:
        self.run, self.part = run, part
        self.folder = run / "trace"
        self._settings = dict(settings)
        self._provenance = dict(provenance)
        self._locked = ExitStack()
        self.manifest = self._read_or_begin()

    def _read_or_begin(self) -> dict[str, Any]:
        manifest = read_unfinished(self.run, self._settings, part=self.part)
        return manifest or {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "complete": False,
            **self._provenance,
            "settings": self._settings,
            "settings_digest": digest_of(self._settings),
            "routers": [],
            "contents": [],
            "shards": [],
            **({} if self.part is None else {"part": asdict(self.part)}),
        }

    def __enter__(self) -> "TraceWriter":
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder / ".lock", on_busy=self._refuse))
            self.manifest = self._read_or_begin()  # another process may have written since it was first read
            try:
                for path in partial_files(self.run):
                    path.unlink()
            except OSError as error:
                raise OutputError(
                    f"{self.folder}: could not be written ({error.strerror or error}); choose another folder"
                ) from error
            if not (self.run / "manifest.json").exists():
                write_manifest(self.run, self.manifest)
            self._locked = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locked.close()

    def _refuse(self) -> None:
        raise TraceError(
            f"{self.run}: another process is writing this trace; wait for it to finish or choose another folder"
        )

    @property
    def is_complete(self) -> bool:
        """Whether the trace is complete."""
        return bool(self.manifest["complete"])

    @property
    def num_shards(self) -> int:
        """Number of shards written."""
        return len(self.manifest["shards"])

    @property
    def num_tokens(self) -> int:
        """Number of tokens in the written shards."""
        return sum(shard["tokens"] for shard in self.manifest["shards"])

    def has_documents(self) -> bool:
        """Whether documents.arrow is written."""
        return self.manifest.get("documents") is not None

    def write_documents(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write documents.arrow: the columns id, text and the labels, all of them strings.

        If there are others, the trace is unfinished and without documents until it is described or finished: at no
        moment does the manifest name documents that are not there.
        """
        count = 0

        def counted() -> Iterable[pa.RecordBatch]:
            nonlocal count
            for batch in batches:
                count += batch.num_rows
                yield batch
            if self.has_documents():  # all are read and written, and soon they replace the others
                self.describe(complete=False, documents=None)

        checksum = write_arrow(self.folder / "documents.arrow", schema, counted())
        xxh3 = xxh3_of(self.folder / "documents.arrow")
        self.manifest["documents"] = {"count": count, "sha256": checksum, "xxh3": xxh3}

    def describe(self, **facts: Any) -> None:
        """Add entries (routers, corpus; contents, a list of keys of CONTENTS or USAGE) to the manifest and write it."""
        unknown = set(facts.get("contents", ())) - {*CONTENTS, USAGE}
        if unknown:
            raise TraceError(f"contents: expected any of {', '.join(CONTENTS)}, got {', '.join(sorted(unknown))}")
        self.manifest |= facts
        write_manifest(self.run, self.manifest)

    def write_shard(self, shard: Shard, *, number: int | None = None) -> None:
        """Write a shard and add it to the manifest; it is stored durably when this returns.

        Args:
            shard: the tokens and their routing.
            number: of the shard to replace; default: the next one.
        """
        number = self.num_shards if number is None else number
        routers = tuple(RouterSpec(**spec) for spec in self.manifest["routers"])
        contents = self.manifest["contents"]
        schema = token_schema(contents)
        tokens = [pa.array(shard.tokens[field.name], field.type) for field in schema]
        batches = pa.record_batch(tokens, schema=schema), _routing_batch(routers, contents, shard)
        files = zip(shard_files(number), batches, strict=True)
        checksums = {name: write_arrow(self.folder / name, batch.schema, [batch]) for name, batch in files}
        xxh3 = {name: xxh3_of(self.folder / name) for name in checksums}
        entry = {"tokens": len(shard.tokens["document"]), **shard.facts, "files": checksums, "xxh3": xxh3}
        self.describe(shards=[*self.manifest["shards"][:number], entry, *self.manifest["shards"][number + 1 :]])

    def finish(self) -> None:
        """Mark the trace as complete."""
        self.describe(complete=True)


def _routing_batch(routers: Sequence[RouterSpec], contents: Sequence[str], shard: Shard) -> pa.RecordBatch:
    rows, fields, columns = len(shard.tokens["document"]), [], []
    schemas = [routing_schema(routers, contents, packed=packed) for packed in (False, True)]
    for listed, packed in zip(*schemas, strict=True):
        name, index = listed.name.split(".")
        values, router = shard.routing[int(index)][name], routers[int(index)]
        if values.shape != (rows, listed.type.list_size):
            raise TraceError(
                f"{listed.name}: expected an array [{rows}, {listed.type.list_size}], got one of shape {values.shape}"
            )
        # NO_EXPERT wraps around to the largest value of the unsigned type, the sentinel on disk
        kinds: dict[str, Any] = {"experts": expert_dtype(router.num_experts), USAGE: np.float64}
        column = pack_experts(values, router) if name == "experts" else None
        fields.append(listed if column is None else packed)
        columns.append(_as_lists(values, kinds.get(name, np.float16)) if column is None else column)
    return pa.record_batch(columns, schema=pa.schema(fields))


def _as_lists(values: NDArray[Any], dtype: DTypeLike) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1])
