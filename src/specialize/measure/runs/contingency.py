"""Contingency tables of a whole trace, counted from the stored arrays."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks
from specialize.measure.base.counting import as_codes, count_stored
from specialize.measure.runs.routers import check_annotation

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace


def count_contingency_tables(
    trace: "RoutingTrace", annotation: Annotation, *, routing: str = "learned", num_blocks: int = 50
) -> dict[str, NDArray[np.float64]]:
    """Count the mass of each label at each expert, by block of documents, for all layers of a trace.

    The unit is the token at both levels: a document label applies to all tokens of the document. Each labelled token
    contributes a mass of 1, spread equally over its experts (the selection rule). Layers are counted in parallel,
    directly from the stored arrays, a shard at a time.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        routing: learned, for the model's own routers, or random, for random routers.
        num_blocks: maximum number of blocks; blocks are those of `assign_blocks` over all documents.

    Returns:
        Tables float64 [block, label, expert] by name of the router, in tokens; their sum over blocks is the
        contingency table of the trace.

    Raises:
        MeasurementError: the annotation does not match the trace, or an expert index is out of range.
    """
    check_annotation(trace, annotation)
    routers = trace.layers if routing == "learned" else trace.random_routers
    of_documents = assign_blocks(trace.groups, num_blocks=num_blocks)
    size = int(of_documents.max(initial=-1)) + 1
    tables = {each.name: np.zeros((size, len(annotation.labels), each.num_experts)) for each in routers}

    def count(router: "RouterSpec", shard: int, codes: NDArray[np.int32], blocks: NDArray[np.int32]) -> None:
        for experts in trace.stored_experts(router.name, routing=routing, shards=[shard]):
            kind = experts.dtype.type
            limit, absent = kind(router.num_experts), kind(np.iinfo(kind).max)
            if count_stored(tables[router.name], codes, experts, blocks, limit, absent):
                raise MeasurementError(
                    f"{trace.path}: expected experts below {router.num_experts} in {router.name}, got others; "
                    "run `specialize validate`"
                )

    counting: list[Future[None]] = []
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:  # reading and counting release the GIL
        for shard, (codes, documents) in enumerate(_read_shards(trace, annotation)):
            blocks = of_documents[documents]
            for each in counting:  # the labels of a shard are read while the one before is counted
                each.result()
            counting = [pool.submit(count, router, shard, codes, blocks) for router in routers]
        for each in counting:
            each.result()
    return tables


def _read_shards(
    trace: "RoutingTrace", annotation: Annotation
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.integer]]]:
    """Yield the label and the document of each token, a shard at a time."""
    documents, first = trace.column("document"), 0
    for shard in trace.manifest["shards"]:
        rows = slice(first, first + shard["tokens"])
        places = documents[rows]
        yield as_codes(annotation.codes[rows if annotation.level == "token" else places]), places
        first = rows.stop
