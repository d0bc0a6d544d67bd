"""Contingency tables of a whole trace, counted where it lies on disk."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes, assign_blocks, count_stored
from specialize.measure.runs.routers import check_annotation

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace


def count_contingency_tables(
    trace: "RoutingTrace", annotation: Annotation, *, routing: str = "learned", num_blocks: int = 50
) -> dict[str, NDArray[np.float64]]:
    """Count every label at every expert, by block of documents, for all layers of a trace.

    Tokens are the unit at either level: a document's label is given to its tokens. Each labelled token spreads 1 evenly
    over its experts (the selection rule). Layers are counted side by side,
    each from its stored numbers: nothing is converted.

    Args:
        trace: an open trace.
        annotation: labels for its tokens or for its documents.
        routing: learned or random.
        num_blocks: the most blocks of documents; the blocks are those of `assign_blocks` over all documents.

    Returns:
        By name of the router, float64 [block, label, expert]; sum over the first axis for the table of the trace.

    Raises:
        MeasurementError: the annotation does not fit the trace, or the trace holds experts that its layer has not.
    """
    check_annotation(trace, annotation)
    documents = trace.tokens(["document"])["document"].to_numpy()
    of_documents = assign_blocks(trace.num_documents, num_blocks=num_blocks)
    blocks = of_documents[documents]
    codes = as_codes(annotation.codes if annotation.level == "token" else annotation.codes[documents])

    def count(router: "RouterSpec") -> NDArray[np.float64]:
        table = np.zeros((int(of_documents.max(initial=-1)) + 1, len(annotation.labels), router.num_experts))
        first = 0
        for experts in trace.stored_experts(router.name, routing=routing):
            own, kind = slice(first, first + len(experts)), experts.dtype.type
            limit, absent = kind(router.num_experts), kind(np.iinfo(kind).max)
            if count_stored(table, codes[own], experts, blocks[own], limit, absent):
                raise MeasurementError(
                    f"{trace.path}: expected experts below {router.num_experts} in {router.name}, got others; "
                    "run `specialize validate`"
                )
            first = own.stop
        return table

    routers = trace.layers if routing == "learned" else trace.random_routers
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:  # reading and counting let go of the lock
        return dict(zip([router.name for router in routers], pool.map(count, routers), strict=True))
