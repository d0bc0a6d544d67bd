"""Documents with a label and their usage of experts, for measures that need no more than counts of documents."""

import numpy as np
from numpy.typing import ArrayLike

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted
from specialize.measure.base.counting import as_codes, check_range
from specialize.measure.estimators.label_sums import LabelledSums
from specialize.measure.estimators.observed import observe_units


def observe_usage(
    usage: ArrayLike,
    codes: ArrayLike,
    *,
    num_labels: int,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    unit_length: bool = False,
) -> LabelledSums:
    """Keep the documents that have a label and an expert, and normalise their usage.

    Args:
        usage: mass of each expert in each document, float64 [documents, experts], in tokens.
        codes: integers [documents], the label of each document; negative where there is none.
        num_labels: number of labels of the label set, including labels that do not occur.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks.
        unit_length: divide the usage of a document by its Euclidean norm, and append a column of ones that counts
            documents; by default it is divided by its sum, so that each document has a mass of 1.

    Returns:
        The documents, their labels, blocks and groups.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no document has both.
    """
    table, labels = np.asarray(usage, dtype=np.float64), as_codes(codes)
    if table.ndim != 2 or labels.ndim != 1 or len(table) != len(labels):
        raise MeasurementError(
            f"expected usage [documents, experts] and codes [documents], got shapes {table.shape} and {labels.shape}"
        )
    if table.size and not (table.min() >= 0 and np.isfinite(table.max())):
        raise MeasurementError("usage: expected finite, non-negative masses, got others: count tokens of each expert")
    check_range("codes", labels, num_labels)
    total = table.sum(axis=1)
    kept = np.flatnonzero((labels >= 0) & (total > 0))
    if not len(kept):
        raise MeasurementError("expected documents with both a label and an expert, got none: check the labels")
    size = np.linalg.norm(table[kept], axis=1) if unit_length else total[kept]
    masses = table[kept] / size[:, None]
    if unit_length:
        masses = np.hstack([masses, np.ones((len(kept), 1))])
    seen = observe_units(
        labels[kept],
        np.tile(np.arange(masses.shape[1], dtype=np.int16), (len(kept), 1)),
        masses,
        kept,
        groups=groups,
        num_blocks=num_blocks,
    )
    counts: Counted = {"n_tokens": round(float(total[kept].sum())), "n_documents": len(kept)}
    return LabelledSums(seen, masses.shape[1], "document", num_labels, counts)
