"""Q-values: p-values adjusted for multiple comparisons."""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control


def adjust_p_values(frame: pd.DataFrame) -> pd.Series:
    """Compute Benjamini-Hochberg q-values, separately for each metric, over all rows that have a p-value.

    Args:
        frame: a frame with the columns ``metric`` and ``p_value``.

    Returns:
        float64, aligned with the frame; NaN in rows without a p-value.

    Source:
        Benjamini & Hochberg (1995), Controlling the false discovery rate.
    """
    adjusted = pd.Series(np.nan, index=frame.index, dtype=np.float64)
    for _, tested in frame["p_value"].dropna().groupby(frame["metric"]):
        adjusted[tested.index] = false_discovery_control(tested.to_numpy(), method="bh")
    return adjusted


def adjust_by_routing(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with q-values computed separately for each metric and routing (learned, random)."""
    adjusted = frame.assign(q_value=np.nan)
    for _, own in frame.groupby("routing"):
        adjusted.loc[own.index, "q_value"] = adjust_p_values(own)
    return adjusted
