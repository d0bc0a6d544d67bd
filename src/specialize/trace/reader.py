"""Reading a trace. Columns are loaded on demand, one layer at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.addresses import show
from specialize.column import Column
from specialize.errors import TraceError
from specialize.remote.places import open_place
from specialize.trace.checks import (
    CHECKED_COLUMNS,
    check_documents,
    check_roles,
    check_stored,
    check_tokens,
    check_usage,
    read_values,
)
from specialize.trace.files import read_batches
from specialize.trace.groups import count_tokens, hash_groups
from specialize.trace.lookup import find_router
from specialize.trace.manifest import digest_trace, read_manifest
from specialize.trace.packing import PackedExperts, rows_of, stored_experts
from specialize.trace.schema import CONTENTS, PHASES, RouterSpec, token_schema
from specialize.trace.shards import Kind, Shards
from specialize.trace.verified import list_files, verify_ahead


def open_trace(run: str | PathLike[str]) -> "RoutingTrace":
    """Open the routing trace of a run folder.

    Args:
        run: the run folder; or its address, such as ``s3://bucket/x``, whose files are downloaded when they are read.

    Raises:
        TraceError: there is no trace, it is damaged, incomplete or one of several parts of a trace, or a newer version
            of specialize wrote it.
    """
    return RoutingTrace(open_place(run))


class RoutingTrace:
    """A routing trace on disk; read with `open_trace`.

    Files are compared with their checksums when the process first reads them; ids of experts, numbers of documents and
    character positions are checked, too. What does not fit raises a TraceError.

    Args:
        run: the run folder.
        part: whether it may be one of several parts of a trace, which no stage measures.

    Attributes:
        path: the run folder.
        manifest: contents of manifest.json.
        routers: all routers, as the manifest lists them.
        layers: the model's own routers, in layer order.
        random_routers: the first random router (control) recorded beside each of them, in layer order; may be empty.
        contents: what the trace holds besides the experts: keys of `CONTENTS`; or usage alone.
    """

    def __init__(self, run: Path, *, part: bool = False) -> None:
        self.path = run
        self.manifest = read_manifest(run, part=part)
        self.routers = tuple(RouterSpec(**spec) for spec in self.manifest["routers"])
        self.layers = tuple(router for router in self.routers if router.routing == "learned")
        self.random_routers = tuple(each for each in self.routers if each.routing == "random" and each.draw == 0)
        self.contents = tuple(self.manifest.get("contents", ("weights",)))
        self._shards = Shards(run, self.manifest, self.routers, self.contents)

    def __repr__(self) -> str:
        return f"RoutingTrace({show(self.path)!r}, {self.num_tokens} tokens, {len(self.layers)} layers)"

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: all but the texts, which it can read."""
        return {name: value for name, value in vars(self).items() if name != "_documents"}

    @property
    def num_tokens(self) -> int:
        """Number of tokens: rows of `tokens()`, `experts()` and `weights()`; 0 where the trace has none."""
        return sum(self._shards.sizes) if self.has_tokens else 0

    @property
    def has_tokens(self) -> bool:
        """Whether the trace has tokens and their experts, or only the `usage` of each document's experts."""
        return "usage" not in self.contents

    def require_tokens(self, what: str) -> None:
        """Raise TraceError, which says what needs tokens, if the trace has none."""
        if not self.has_tokens:
            raise TraceError(
                f"{self.path}: {what}: expected the experts of each token, got usage by document, without tokens; "
                "record or import the routing of tokens"
            )

    @property
    def num_documents(self) -> int:
        """Number of documents: rows of `documents()`."""
        return int(self.manifest["documents"]["count"])

    @property
    def text_digest(self) -> str:
        """SHA-256 (hexadecimal) of documents and tokens, not of their routing; annotations are matched by it."""
        tokens = [checksums.sha256 for _, checksums in list_files(self.path, self.manifest, "tokens")]
        return hashlib.sha256("\n".join([self.manifest["documents"]["sha256"], *tokens]).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of documents, tokens, routing and routers; results are matched by it."""
        return digest_trace(self.manifest)

    def random_draws(self, name: str) -> tuple[RouterSpec, ...]:
        """Return the random routers beside the router whose experts module has this path, the first draw first."""
        found = [router for router in self.routers if router.routing == "random" and router.name == name]
        return tuple(sorted(found, key=lambda router: router.draw))

    def experts(self, layer: int | str, *, routing: str = "learned", draw: int = 0) -> NDArray[np.int16]:
        """Return the chosen experts of a layer, int16 [tokens, k], in rank order.

        NO_EXPERT (-1) marks a slot without an expert: dropped for capacity, or skipped.

        Args:
            layer: number of the layer, or path of its experts module.
            routing: ``learned``, the model's own router, or ``random``, a random router run beside it.
            draw: which of the random routers, from 0.

        Raises:
            TraceError: the trace has no such router, or a shard cannot be read.
        """
        return self.column("experts", layer, routing=routing, draw=draw)[:]

    def usage(self, layer: int | str) -> NDArray[np.float64]:
        """Return how much of each document every expert of a layer received, float64 [documents, E], without tokens.

        In tokens, which divide their mass of 1 over k experts, if the input counted; shares of a document sum to 1.
        """
        if self.has_tokens:
            raise TraceError(f"{self.path}: expected usage by document, without tokens; the trace has tokens")
        router = self.routers[index := find_router(self.routers, layer, "learned", 0, run=self.path)]
        shards = self.shards("routing", [f"usage.{index}"])
        usage: NDArray[np.float64] = np.concatenate([rows_of(each.column(0), router.num_experts) for each in shards])
        check_usage(usage, router, self.path)
        return usage

    def shard_experts(self, number: int, routers: Sequence[RouterSpec]) -> list[NDArray[Any] | PackedExperts]:
        """Return the chosen experts of some routers in one shard, arrays [tokens, k], uint8 or uint16, or packed.

        Slots without an expert hold the largest value of the type. Ids stay packed where E is a power of two: any of
        their bits are an expert.

        Args:
            number: of the shard.
            routers: of this trace.
        """
        self.require_tokens("experts")
        names = [f"experts.{self.routers.index(router)}" for router in routers]
        table = self._shards.read("routing", number, names)
        experts: list[NDArray[Any] | PackedExperts] = []
        for name, router in zip(names, routers, strict=True):
            stored = stored_experts(table.column(name), router)
            experts.append(check_stored(stored, router, self.path, sum(self._shards.sizes[:number])))
        return experts

    def weights(self, layer: int | str, *, routing: str = "learned") -> NDArray[np.float32]:
        """Return the gate weights of the chosen experts, float32 [tokens, k]; stored in half precision.

        Of random routers the trace holds those of the first one.
        """
        return self.column("weights", layer, routing=routing)[:]

    def router_logits(self, layer: int | str) -> NDArray[np.float32]:
        """Return the router logits before the score function, float32 [tokens, E]; stored in half precision."""
        return self.column("logits", layer)[:]

    def output_norms(self, layer: int | str) -> NDArray[np.float32]:
        """Return the Euclidean norm of each chosen expert's weighted output, float32 [tokens, k]."""
        return self.column("norms", layer)[:]

    def column(self, name: str, layer: int | str | None = None, *, routing: str = "learned", draw: int = 0) -> Column:
        """Return a column of the trace that is read from disk a slice at a time.

        Args:
            name: experts, weights, logits or norms of a router, with the types of `experts`, `weights`,
                `router_logits` and `output_norms`; or a column of numbers of `tokens`, such as token_id.
            layer: of a router, number of the layer or path of its experts module; None for a column of tokens.
            routing: ``learned`` or ``random``.
            draw: which of the random routers, from 0.

        Raises:
            TraceError: the trace has no such router, or was recorded without this.
        """
        self.require_tokens(name)
        if layer is None:
            self.check()
            dtype = token_schema(self.contents).field(name).type.to_pandas_dtype()
            shards = self._shards
            return Column(shards.sizes, lambda number: shards.column("tokens", number, name).to_numpy(), dtype=dtype)
        if name != "experts" and name not in self.contents:
            has = ", ".join(self.contents) or "experts alone"
            raise TraceError(f"{self.path}: expected {CONTENTS[name]}; the trace holds {has}; record {name} with it")
        router = self.routers[index := find_router(self.routers, layer, routing, draw, run=self.path)]
        width = router.num_experts if name == "logits" else router.top_k

        def read(number: int) -> NDArray[Any] | PackedExperts:
            column = self._shards.column("routing", number, f"{name}.{index}")
            return stored_experts(column, router) if name == "experts" else rows_of(column, width)

        dtype = np.int16 if name == "experts" else np.float32
        return Column(
            self._shards.sizes, read, dtype=dtype, width=width, convert=partial(read_values, name, router, self.path)
        )

    def tokens(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return a frame with one row per token.

        Columns: document (row of `documents()`), sequence, position, token_id, char_start, char_end (code points in
        the document's text, end exclusive) and phase (prefill or generation); with predictions also predicted_token_id
        and next_token_loss (nats, NaN without a next token), of conversations role (system, user …; template). An id or
        a character position that is not known is -1. Tokens of a document are contiguous and in reading order.

        Args:
            columns: the columns to read; default: all.
        """
        self.require_tokens("tokens")
        self.check()
        frame: pd.DataFrame = pa.concat_tables(
            self.shards("tokens", None if columns is None else list(columns))
        ).to_pandas()
        if "phase" in frame:
            frame["phase"] = pd.Categorical.from_codes(frame["phase"], categories=list(PHASES))
        if "role" in frame:
            check_roles(frame["role"].to_numpy(), self.manifest["roles"], self.path)
            frame["role"] = pd.Categorical.from_codes(frame["role"], categories=self.manifest["roles"])
        return frame

    @cached_property
    def token_counts(self) -> NDArray[np.int64]:
        """Number of tokens of each document, int64 [documents]."""
        self.check()
        return count_tokens(self.shards("tokens", ["document"]), self.num_documents)

    def documents(self, *, labels_only: bool = False) -> pd.DataFrame:
        """Return a frame with one row per document: id, text, and a string column for each label of the corpus.

        Args:
            labels_only: leave out the texts, so that they are not held in memory.
        """
        if labels_only:
            kept = (batch.drop_columns(["text"]) for batch in self.stored_documents())
            return pa.Table.from_batches(kept).to_pandas()
        return self._documents.to_pandas()

    @cached_property
    def _documents(self) -> pa.Table:
        return pa.Table.from_batches(self.stored_documents())

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The group of each document, int64 [documents]: documents of one group are kept together by measures.

        Documents belong together that have the same value in the corpus's column of groups (`group_column`), or else
        the same text. Numbers are hashes of these contents.
        """
        return hash_groups(self.stored_documents(), self.group_column)

    @property
    def group_column(self) -> str | None:
        """The column that says which documents belong together; None if the corpus has none."""
        return (self.manifest.get("corpus") or {}).get("group")

    def stored_documents(self) -> Iterator[pa.RecordBatch]:
        """Yield the documents as stored, a batch in memory at a time."""
        [path] = verify_ahead(list_files(self.path, self.manifest, "documents"))
        yield from check_documents(read_batches(path), self.num_documents, self.group_column, path)

    def check(self) -> None:
        """Check that tokens are in the order of their documents and lie in their texts, once per process.

        Raises:
            TraceError: they do not.
        """
        if self.text_digest not in _checked:
            check_tokens(self.shards("tokens", list(CHECKED_COLUMNS)), self.stored_documents(), self.path)
            _checked.add(self.text_digest)

    def shards(self, kind: Kind, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield some or all columns of the shards of a kind as stored, see `specialize.trace.schema`."""
        return self._shards.iterate(kind, columns)


_checked: set[str] = set()  # text digests of traces whose tokens lie in their documents
