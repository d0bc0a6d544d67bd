"""Reading a trace: nothing is loaded before it is asked for, a layer at a time."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.files import read_arrow
from specialize.trace.schema import FORMAT, FORMAT_VERSION, NO_EXPERT, PHASES, RouterSpec, expert_dtype


def open_trace(run: str | Path) -> "RoutingTrace":
    """Open the routing trace of a run folder.

    Raises:
        TraceError: there is no trace, it is not complete, or a newer version of specialize wrote it.
    """
    return RoutingTrace(Path(run))


def read_manifest(run: Path, *, complete: bool = True) -> dict[str, Any]:
    """Read and check RUN/manifest.json.

    Args:
        run: the run folder.
        complete: refuse a trace that was not finished.

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
    if manifest.get("version") != FORMAT_VERSION:
        raise TraceError(
            f"{path}: expected format version {FORMAT_VERSION}, got {manifest.get('version')}: "
            "read it with the version of specialize that wrote it"
        )
    if complete and not manifest["complete"]:
        raise TraceError(f"{run}: the trace was interrupted; run its `specialize trace` command again to go on")
    return manifest


class RoutingTrace:
    """A routing trace on disk; read with `open_trace`.

    Attributes:
        path: the run folder.
        manifest: contents of manifest.json.
        layers: the routers, in layer order.
    """

    def __init__(self, run: Path) -> None:
        self.path = run
        self.manifest = read_manifest(run)
        self.layers = tuple(RouterSpec(**spec) for spec in self.manifest["routers"])

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

    def experts(self, layer: int | str) -> NDArray[np.int16]:
        """Chosen experts of a layer (its number, or its module's name), int16 [tokens, k], in rank order.

        NO_EXPERT (-1) marks a slot without an expert: dropped for capacity, or skipped.
        """
        index = self._index(layer)
        values = self._routing(f"experts.{index}", self.layers[index].top_k)
        experts = values.astype(np.int16)
        experts[values == np.iinfo(expert_dtype(self.layers[index].num_experts)).max] = NO_EXPERT
        return experts

    def weights(self, layer: int | str) -> NDArray[np.float32]:
        """Gate weights of the chosen experts, float32 [tokens, k]; stored in half precision."""
        index = self._index(layer)
        return self._routing(f"weights.{index}", self.layers[index].top_k).astype(np.float32)

    def tokens(self) -> pd.DataFrame:
        """One row a token.

        Columns: document (row of `documents()`), sequence, position, token_id, char_start, char_end (code
        points into the document's text, end exclusive) and phase (prefill or generation). Tokens of a
        document are together and in reading order.
        """
        frame = self._table("tokens").to_pandas()
        frame["phase"] = pd.Categorical.from_codes(frame["phase"], categories=list(PHASES))
        return frame

    def documents(self) -> pd.DataFrame:
        """One row a document: id, text, and a string column for each label of the corpus."""
        return self._documents.to_pandas()

    @cached_property
    def _documents(self) -> pa.Table:
        return read_arrow(self.path / "trace" / "documents.arrow")

    def _index(self, layer: int | str) -> int:
        key = "layer" if isinstance(layer, int | np.integer) else "name"
        found = [index for index, router in enumerate(self.layers) if getattr(router, key) == layer]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(self.layers[index].name for index in found)
            raise TraceError(f"layer {layer} has {len(found)} routers: ask by name, one of {names}")
        known = ", ".join(str(router.layer) for router in self.layers)
        raise TraceError(f"no router in layer {layer!r}; the trace has layers {known}")

    def _table(self, kind: str, columns: list[str] | None = None) -> pa.Table:
        names = [f"{kind}-{number:05d}.arrow" for number in range(len(self.manifest["shards"]))]
        return pa.concat_tables(read_arrow(self.path / "trace" / name, columns) for name in names)

    def _routing(self, column: str, top_k: int) -> NDArray[Any]:
        chunks = self._table("routing", [column]).column(column).chunks
        return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]).reshape(-1, top_k)
