"""A planted routing as a run folder, without gate weights."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import Shard, TraceWriter


def store_trace(
    run: Path,
    documents: NDArray[np.integer],
    routings: dict[int, NDArray[np.integer]],
    *,
    num_experts: int | dict[int, int],
    sizes: list[int] | None = None,
    labels: dict[str, list[str | None]] | None = None,
    texts: list[str] | None = None,
    known: dict[str, NDArray[np.integer]] | None = None,
) -> None:
    """Write experts [tokens, k] by layer, a label of each document by column, and the text of each where given.

    Token ids and places in the text are unknown unless `known` has these columns. `num_experts` may depend on the
    layer. There is one shard, or shards of so many tokens (`sizes`).
    """
    count = int(documents[-1]) + 1
    columns = {"id": [str(number) for number in range(count)], "text": texts or [None] * count, **(labels or {})}
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    all_experts = num_experts if isinstance(num_experts, dict) else dict.fromkeys(routings, num_experts)
    routers = [
        RouterSpec(layer, f"layers.{layer}", all_experts[layer], each.shape[1]) for layer, each in routings.items()
    ]
    unknown = np.full(len(documents), UNKNOWN)
    position = np.arange(len(documents)) - np.searchsorted(documents, documents)
    tokens = {
        "document": documents,
        "sequence": documents,
        "position": position,
        "phase": np.zeros(len(documents), dtype=np.uint8),
        **dict.fromkeys(("token_id", "char_start", "char_end"), unknown),
        **(known or {}),
    }
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch(list(columns.values()), schema=schema)])
        writer.describe(routers=[router.as_dict() for router in routers], contents=[])
        for rows in np.split(np.arange(len(documents)), np.cumsum(sizes or [])[:-1]):
            own = {name: values[rows] for name, values in tokens.items()}
            writer.write_shard(Shard(own, [{"experts": experts[rows]} for experts in routings.values()]))
        writer.finish()
