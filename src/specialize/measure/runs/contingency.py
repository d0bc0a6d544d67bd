"""Contingency tables of a whole trace, counted from the stored arrays."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.measure.base.blocks import assign_blocks
from specialize.measure.base.counting import as_codes
from specialize.measure.base.stored import count_packed, count_stored, number_rows
from specialize.measure.runs.routers import check_annotation
from specialize.trace.packing import PackedExperts

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

TOGETHER = 2  # routers, whose experts in one shard are read and counted together
Rows: TypeAlias = NDArray[np.uint32]


def count_contingency_tables(
    trace: "RoutingTrace", annotation: Annotation, *, routing: str = "learned", num_blocks: int = 50
) -> dict[str, NDArray[np.float64]]:
    """Count the mass of each label at each expert, by block of documents, for all layers of a trace.

    The unit is the token at both levels: a document label applies to all tokens of the document. Each labelled token
    contributes a mass of 1, spread equally over its experts (the selection rule). Layers are counted in parallel,
    directly from the stored arrays, a shard at a time; while one thread counts, another reads.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        routing: learned, for the model's own routers, or random, for random routers.
        num_blocks: maximum number of blocks; blocks are those of `assign_blocks` over all documents.

    Returns:
        Tables float64 [block, label, expert] by name of the router, in tokens; their sum over blocks is the
        contingency table of the trace.

    Raises:
        MeasurementError: the annotation does not match the trace.
        TraceError: a file of the trace is damaged, or an expert index is out of range.
    """
    check_annotation(trace, annotation)
    routers = trace.layers if routing == "learned" else trace.random_routers
    counting = _Counting(trace, annotation, routers, num_blocks)
    groups = [range(first, min(first + TOGETHER, len(routers))) for first in range(0, len(routers), TOGETHER)]
    counted: list[Future[None] | None] = [None] * len(groups)
    rows: Future[Rows] | None = None
    # Tasks begin in the order in which they are submitted and wait for earlier ones only; two shards are under way at
    # a time. Reading and counting release the GIL.
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for shard in range(len(trace.manifest["shards"])):
            rows, before = pool.submit(counting.read_rows, shard, rows), counted
            counted = [
                pool.submit(counting.count, shard, group, rows, earlier)
                for group, earlier in zip(groups, before, strict=True)
            ]
            _wait(before)
        _wait(counted)
    shape = counting.num_blocks, len(annotation.labels)
    return {
        router.name: table[:-1].reshape(*shape, router.num_experts)
        for router, table in zip(routers, counting.tables, strict=True)
    }


def _wait(tasks: "Sequence[Future[Any] | None]") -> None:
    for task in tasks:
        if task is not None:
            task.result()


class _Counting:
    """Counts a shard of the trace.

    Tables have one row for each block and label, and a last one for tokens without a label.
    """

    def __init__(
        self, trace: "RoutingTrace", annotation: Annotation, routers: "Sequence[RouterSpec]", num_blocks: int
    ) -> None:
        self._trace, self._annotation, self._routers, self._most = trace, annotation, routers, num_blocks
        self._firsts = np.cumsum([0, *(shard["tokens"] for shard in trace.manifest["shards"])]).tolist()

    @cached_property
    def _blocks(self) -> NDArray[np.int32]:
        return assign_blocks(self._trace.groups, num_blocks=self._most)

    @property
    def num_blocks(self) -> int:
        return int(self._blocks.max(initial=-1)) + 1

    @property
    def _last_row(self) -> int:
        return self.num_blocks * len(self._annotation.labels)

    @cached_property
    def tables(self) -> list[NDArray[np.float64]]:
        """The table of each router, float64 [row, expert]; in one piece of memory, which takes few page faults."""
        ends = np.cumsum([(self._last_row + 1) * router.num_experts for router in self._routers])
        cells = np.split(np.zeros(ends[-1] if len(ends) else 0), ends[:-1])
        return [own.reshape(-1, router.num_experts) for own, router in zip(cells, self._routers, strict=False)]

    def read_rows(self, shard: int, before: "Future[Rows] | None") -> Rows:
        """Return the row of each token of a shard, after those of the shard before: columns are read in order."""
        if before is None:
            self.tables  # noqa: B018 (made here, before several threads ask for them)
        else:
            before.result()
        tokens, labels = slice(*self._firsts[shard : shard + 2]), self._annotation
        documents = self._trace.column("document")[tokens]
        codes = as_codes(labels.codes[tokens if labels.level == "token" else documents])
        rows: Rows = number_rows(codes, documents, self._blocks * np.int64(len(labels.labels)), self._last_row)
        return rows

    def count(self, shard: int, places: range, rows: "Future[Rows]", before: "Future[None] | None") -> None:
        """Add a shard to the tables of some routers; experts are decompressed while labels are read."""
        experts = self._trace.shard_experts(shard, [self._routers[place] for place in places])
        of_tokens = rows.result()
        _wait([before])
        for place, chosen in zip(places, experts, strict=True):
            if isinstance(chosen, PackedExperts):
                count_packed(self.tables[place], of_tokens, chosen.words(), top_k=chosen.top_k, bits=chosen.bits)
            else:
                count_stored(self.tables[place], of_tokens, chosen)
