"""Convert estimates to rows of the result schema."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from specialize.measure.base.estimate import Estimate, EstimateArray

_PER_CELL = ("value", "ci_low", "ci_high", "ci_kind", "null_mean", "null_low", "null_high", "p_value")


def estimate_rows(estimate: Estimate | EstimateArray, metric: str, labels: Sequence[str] = ()) -> pd.DataFrame:
    """Convert estimates of shape [], [expert] or [label, expert] to one row each.

    Args:
        estimate: the estimates.
        metric: name of the quantity.
        labels: names of the labels, for estimates [label, expert].

    Returns:
        A frame with columns of `RESULT_COLUMNS`; `as_results` sets the dtypes.
    """
    shape = np.shape(estimate.value)
    columns: dict[str, Any] = {name: np.ravel(np.asarray(getattr(estimate, name))) for name in _PER_CELL}
    if shape:
        columns["expert"] = np.tile(np.arange(shape[-1]), len(labels) or 1)
    if labels:
        columns["label"] = np.repeat(np.asarray(labels, dtype=object), shape[-1])
    count = len(columns["value"])
    untested = np.isnan(columns["p_value"]) | (estimate.n_permutations is None)
    columns |= {
        "metric": np.full(count, metric, dtype=object),
        "unit": np.full(count, estimate.unit, dtype=object),
        "n_permutations": pd.arrays.IntegerArray(np.full(count, estimate.n_permutations or 0), mask=untested),
        "n_tokens": estimate.n_tokens,
        "n_documents": estimate.n_documents,
    }
    return pd.DataFrame(columns)
