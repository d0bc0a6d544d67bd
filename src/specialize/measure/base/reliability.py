"""Whether there is enough data for the bias correction and the interval of an information estimate."""

import re

import numpy as np
from numpy.typing import NDArray

FEWEST_DOCUMENTS = 30
FEWEST_PER_CELL = 3
MOST_BIAS = 0.5
_MARK = re.compile(r"unreliable, too little data \(([^)]*)\)")


def find_shortage(*, n_documents: int, per_cell: float, null_mean: float, error: float) -> str:
    """Return why there is too little data for an information estimate; an empty string where there is enough.

    Simulations (``analyses/calibration/small_corpora.py``) show that bias and coverage hold unless one of these is so:

    - There are fewer than 30 documents.
    - Labels are of documents, and there are fewer than 3 experts of documents per cell of the table (labels x experts),
      see `count_per_cell`: each document adds 1 if it goes to a single expert, more if it is spread over several.
    - The mean under the null exceeds half the standard error. The true value under the null is about 0, so that this
      mean is the bias that the jackknife has left.

    Args:
        n_documents: number of documents counted.
        per_cell: experts of documents per cell; infinite for labels of tokens.
        null_mean: mean of the estimator under the null; NaN where it is unknown.
        error: its standard error; NaN where it is unknown.
    """
    if n_documents < FEWEST_DOCUMENTS:
        return f"{n_documents} document{'s' * (n_documents != 1)}, at least {FEWEST_DOCUMENTS} needed"
    if per_cell < FEWEST_PER_CELL:
        times = FEWEST_PER_CELL / per_cell
        return f"{n_documents} documents, at least {times * n_documents:.0f} needed for labels x experts"
    if null_mean > MOST_BIAS * error:
        return f"{n_documents} documents, so few that a bias of more than half the standard error is left"
    return ""


def count_per_cell(masses: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    """Count the experts of documents per cell of a table, of labels and experts that occur.

    A document whose mass is m_e at expert e, of 1 in all, has ``1 / sum m_e^2`` experts: 1 if it goes to a single one.

    Args:
        masses: float64 [document, expert]; a document that was not routed has none.
        table: float64 [label, expert].
    """
    squares = (masses**2).sum(axis=1)
    cells = np.count_nonzero(table.sum(axis=1)) * np.count_nonzero(table.sum(axis=0))
    return float((1 / squares[squares > 0]).sum() / cells)


def mark_shortage(ci_kind: str | None, shortage: str) -> str:
    """Return the kind of an interval (None if there is none), marked with why there is too little data for it."""
    return f"unreliable, too little data ({shortage})" + ("" if ci_kind is None else f": {ci_kind}")


def read_shortage(ci_kind: object) -> str:
    """Return why there is too little data, as the kind of the interval says; an empty string where there is enough."""
    marked = _MARK.match(ci_kind) if isinstance(ci_kind, str) else None
    return marked[1] if marked else ""
