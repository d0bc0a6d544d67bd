"""Reading a trace. Columns are loaded on demand, one layer at a time."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.manifest import digest_of
from specialize.trace.files import read_arrow
from specialize.trace.schema import (
    CONTENTS,
    FORMAT,
    FORMAT_VERSION,
    NO_EXPERT,
    PHASES,
    READABLE_VERSIONS,
    RouterSpec,
    expert_dtype,
)


def open_trace(run: str | PathLike[str]) -> "RoutingTrace":
    """Open the routing trace of a run folder.

    Args:
        run: the run folder.

    Raises:
        TraceError: there is no trace, it is incomplete, or a newer version of specialize wrote it.
    """
    return RoutingTrace(Path(run))


def read_manifest(run: Path, *, complete: bool = True) -> dict[str, Any]:
    """Read and check RUN/manifest.json.

    A manifest of an earlier format version is returned in the form of the current one.

    Args:
        run: the run folder.
        complete: whether an unfinished trace is an error.

    Raises:
        TraceError: as `open_trace`.
    """
    path = run / "manifest.json"
    if not run.is_dir():
        raise TraceError(
            f"{run}: expected a run folder, found none; make one with `specialize trace MODEL CORPUS -o {run}`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TraceError(f"{run}: expected a run folder with a manifest.json, found none in it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TraceError(f"{path}: expected the manifest of a {FORMAT}, got something else")
    if manifest.get("version") not in READABLE_VERSIONS:
        raise TraceError(
            f"{path}: expected format version {' or '.join(map(str, READABLE_VERSIONS))}, "
            f"got {manifest.get('version')}; read it with the version of specialize that wrote it"
        )
    if complete and not manifest["complete"]:
        raise TraceError(f"{run}: the trace was interrupted; repeat the same trace to resume it")
    return _upgrade(manifest)


def _upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of any readable version as one of the current version."""
    routers = [
        router | ({"routing": "random"} if router.get("routing") == "shadow" else {}) for router in manifest["routers"]
    ]
    return manifest | {"version": FORMAT_VERSION, "routers": routers}


def digest_trace(manifest: Mapping[str, Any]) -> str:
    """Return the digest of the trace that a manifest of the current version describes, see `RoutingTrace.digest`."""
    files = [shard["files"] for shard in manifest["shards"]]
    return digest_of({"documents": manifest["documents"]["sha256"], "shards": files, "routers": manifest["routers"]})


class RoutingTrace:
    """A routing trace on disk; read with `open_trace`.

    Attributes:
        path: the run folder.
        manifest: contents of manifest.json.
        layers: the model's own routers, in layer order.
        random_routers: the random routers (controls) recorded beside them, in layer order; may be empty.
        contents: what the trace holds besides the experts: any of weights, logits, norms, predictions.
    """

    def __init__(self, run: Path) -> None:
        self.path = run
        self.manifest = read_manifest(run)
        self._routers = tuple(RouterSpec(**spec) for spec in self.manifest["routers"])
        self.layers = tuple(router for router in self._routers if router.routing == "learned")
        self.random_routers = tuple(router for router in self._routers if router.routing == "random")
        self.contents = tuple(self.manifest.get("contents", ("weights",)))

    def __repr__(self) -> str:
        return f"RoutingTrace({str(self.path)!r}, {self.num_tokens} tokens, {len(self.layers)} layers)"

    @property
    def num_tokens(self) -> int:
        """Number of tokens: rows of `tokens()`, `experts()` and `weights()`."""
        return sum(shard["tokens"] for shard in self.manifest["shards"])

    @property
    def num_documents(self) -> int:
        """Number of documents: rows of `documents()`."""
        return int(self.manifest["documents"]["count"])

    @property
    def text_digest(self) -> str:
        """SHA-256 (hexadecimal) of documents and tokens, not of their routing; annotations are matched by it."""
        tokens = [shard["files"][f"tokens-{number:05d}.arrow"] for number, shard in enumerate(self.manifest["shards"])]
        return hashlib.sha256("\n".join([self.manifest["documents"]["sha256"], *tokens]).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of documents, tokens, routing and routers; results are matched by it."""
        return digest_trace(self.manifest)

    def experts(self, layer: int | str, *, routing: str = "learned") -> NDArray[np.int16]:
        """Return the chosen experts of a layer, int16 [tokens, k], in rank order.

        NO_EXPERT (-1) marks a slot without an expert: dropped for capacity, or skipped.

        Args:
            layer: number of the layer, or path of its experts module.
            routing: ``learned``, the model's own router, or ``random``, the random router run beside it.

        Raises:
            TraceError: the trace has no such router, or a shard cannot be read.
        """
        index = self._index(layer, routing)
        router = self._routers[index]
        experts = np.concatenate(self._chunks("experts", index, router.top_k), dtype=np.int16, casting="unsafe")
        absent = np.iinfo(expert_dtype(router.num_experts)).max
        if absent < 2**15 and experts.max(initial=0) == absent:  # the sentinel of uint16 is -1 as int16 already
            experts[experts == absent] = NO_EXPERT
        return experts

    def stored_experts(self, layer: int | str, *, routing: str = "learned") -> Iterator[NDArray[Any]]:
        """Yield the chosen experts of a layer as stored, arrays [tokens, k] of one shard after the other.

        Slots without an expert hold the largest value of the type, uint8 or uint16.

        Args:
            layer: number of the layer, or path of its experts module.
            routing: ``learned`` or ``random``.
        """
        index = self._index(layer, routing)
        for path in self._paths("routing"):
            yield from _split(read_arrow(path, [f"experts.{index}"]).column(0), self._routers[index].top_k)

    def weights(self, layer: int | str, *, routing: str = "learned") -> NDArray[np.float32]:
        """Return the gate weights of the chosen experts, float32 [tokens, k]; stored in half precision."""
        return self._half("weights", layer, routing)

    def router_logits(self, layer: int | str) -> NDArray[np.float32]:
        """Return the router logits before the score function, float32 [tokens, E]; stored in half precision."""
        return self._half("logits", layer)

    def output_norms(self, layer: int | str) -> NDArray[np.float32]:
        """Return the Euclidean norm of each chosen expert's weighted output, float32 [tokens, k]."""
        return self._half("norms", layer)

    def _half(self, name: str, layer: int | str, routing: str = "learned") -> NDArray[np.float32]:
        if name not in self.contents:
            has = ", ".join(self.contents) or "experts alone"
            raise TraceError(f"{self.path}: expected {CONTENTS[name]}; the trace holds {has}; record {name} with it")
        index = self._index(layer, routing)
        router = self._routers[index]
        width = router.num_experts if name == "logits" else router.top_k
        return np.concatenate(self._chunks(name, index, width), dtype=np.float32)

    def tokens(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return a frame with one row per token.

        Columns: document (row of `documents()`), sequence, position, token_id, char_start, char_end (code
        points in the document's text, end exclusive) and phase (prefill or generation); where the trace holds
        predictions also predicted_token_id and next_token_loss (nats, NaN without a next token). A token id or
        a character position that is not known is -1. Tokens of a document are contiguous and in reading order.

        Args:
            columns: the columns to read; default: all.
        """
        frame: pd.DataFrame = self._table("tokens", None if columns is None else list(columns)).to_pandas()
        if "phase" in frame:
            frame["phase"] = pd.Categorical.from_codes(frame["phase"], categories=list(PHASES))
        return frame

    def documents(self) -> pd.DataFrame:
        """Return a frame with one row per document: id, text, and a string column for each label of the corpus."""
        return self._documents.to_pandas()

    @cached_property
    def _documents(self) -> pa.Table:
        return read_arrow(self.path / "trace" / "documents.arrow")

    def _index(self, layer: int | str, routing: str) -> int:
        key = "layer" if isinstance(layer, int | np.integer) else "name"
        routers = [(index, router) for index, router in enumerate(self._routers) if router.routing == routing]
        found = [(index, router.name) for index, router in routers if getattr(router, key) == layer]
        if len(found) == 1:
            return found[0][0]
        if found:
            names = ", ".join(name for _, name in found)
            raise TraceError(f"layer {layer} has {len(found)} routers; name one of {names}")
        if not routers:
            held = ", ".join(sorted({router.routing for router in self._routers})) or "none"
            raise TraceError(f"{self.path}: expected {routing} routing; the trace has {held}")
        known = ", ".join(str(router.layer) for _, router in routers)
        raise TraceError(f"no router in layer {layer!r}; the trace has layers {known}")

    def _paths(self, kind: str) -> Iterator[Path]:
        for number in range(len(self.manifest["shards"])):
            yield self.path / "trace" / f"{kind}-{number:05d}.arrow"

    def _table(self, kind: str, columns: list[str] | None = None) -> pa.Table:
        return pa.concat_tables(read_arrow(path, columns) for path in self._paths(kind))

    def _chunks(self, name: str, index: int, width: int) -> list[NDArray[Any]]:
        """Read a routing column as arrays [tokens, width], one per stored chunk and at least one."""
        column = self._table("routing", [f"{name}.{index}"]).column(0)
        return list(_split(column, width)) or list(_split(pa.chunked_array([column.combine_chunks()]), width))


def _split(column: pa.ChunkedArray, width: int) -> Iterator[NDArray[Any]]:
    for chunk in column.chunks:
        yield chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
