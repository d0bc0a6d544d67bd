"""Whether there is enough data for the bias correction and the interval of an information estimate."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from specialize.measure.base.units import Units

FEWEST_DOCUMENTS = 30
FEWEST_PER_CELL = 4


def find_shortage(seen: Units, table: NDArray[np.float64], *, n_documents: int) -> str:
    """Return why there is too little data for the information in a table; an empty string where there is enough.

    There have to be at least 30 documents, and they have to fill the table: a document fills ``1 / sum p_ye^2`` cells,
    where p_ye is the share of its mass at label y and expert e; all documents together have to fill each cell, of
    labels and experts that occur, 4 times on average. With labels of documents, a document that goes to a single expert
    fills one cell; one whose tokens are spread over many experts fills more, and fewer documents are enough. With less
    data the jackknife leaves a bias of more than half a standard error, and intervals undercover
    (``analyses/calibration/small_corpora.py``).

    Where documents belong together, the groups are counted instead: copies of a document are no further evidence.

    Args:
        seen: the labelled units.
        table: float64 [label, expert], their mass.
        n_documents: number of documents counted.
    """
    observed = len(seen.blocks)
    distinct = observed if seen.groups is None else len(np.unique(seen.groups))
    of_observed, units = distinct / max(observed, 1), "group" if distinct < observed else "document"
    independent = round(n_documents * of_observed)
    if independent < FEWEST_DOCUMENTS:
        return f"{independent} {units}{'s' * (independent != 1)}, at least {FEWEST_DOCUMENTS} needed"
    cells = np.count_nonzero(table.sum(axis=1)) * np.count_nonzero(table.sum(axis=0))
    filled, scratch = 0.0, np.zeros_like(table)
    for part in seen.parts():
        filled = count_filled(filled, part.codes, part.experts, part.masses, part.starts, scratch)
    filled *= of_observed
    if filled < FEWEST_PER_CELL * cells:
        needed = int(np.ceil(independent * FEWEST_PER_CELL * cells / filled))
        return f"{independent:,} {units}s for {cells:,} cells of labels x experts, about {needed:,} needed"
    return ""


@njit(cache=True, nogil=True)
def count_filled(filled, codes, experts, masses, starts, scratch):  # type: ignore[no-untyped-def]
    """Add ``1 / sum p_ye^2`` of each document to ``filled``; ``scratch`` [label, expert] is zero before and after."""
    one_mass = masses.shape[1] == 1
    for document in range(len(starts) - 1):
        mass, squares = 0.0, 0.0
        for row in range(starts[document], starts[document + 1]):
            for slot in range(experts.shape[1]):
                if experts[row, slot] >= 0:
                    own = masses[row, 0 if one_mass else slot]
                    scratch[codes[row], experts[row, slot]] += own
                    mass += own
        for row in range(starts[document], starts[document + 1]):
            for slot in range(experts.shape[1]):
                if experts[row, slot] >= 0:
                    squares += scratch[codes[row], experts[row, slot]] ** 2
                    scratch[codes[row], experts[row, slot]] = 0.0
        if squares > 0:
            filled += mass * mass / squares
    return filled
