"""Contingency tables of a whole trace, counted from the stored arrays."""

from concurrent.futures import ThreadPoolExecutor
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
    directly from the stored arrays.

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
    documents = trace.tokens(["document"])["document"].to_numpy()
    of_documents = assign_blocks(trace.groups, num_blocks=num_blocks)
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
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:  # reading and counting release the GIL
        return dict(zip([router.name for router in routers], pool.map(count, routers), strict=True))
