"""A snapshot in a few numbers, for loggers: as many for a model of a hundred layers as for one of two."""

import numpy as np
import pandas as pd

from specialize.measure.runs.snapshots import TO_PREVIOUS

PREFIX = "specialize/"


def summarize_snapshot(rows: pd.DataFrame) -> dict[str, float]:
    """Return means and extremes over the layers of the model's own routers, by the name under which they are logged.

    These are, of each label set, mean and maximum of U and the mean of its null; mean and minimum of the entropy of the
    load as a share of log2 E; the largest load over its mean; the number of dead experts of all layers; and mean and
    minimum of the saturation against the snapshot before. Names do not depend on the numbers of layers and experts.

    Args:
        rows: result rows of a snapshot, see `measure_snapshot`.

    Returns:
        The numbers; those that are not defined are left out.
    """
    own = rows[rows["routing"] == "learned"]
    values = {str(metric): part for metric, part in own.groupby("metric", sort=False)}
    found: dict[str, float] = {}

    def add(name: str, numbers: pd.Series, *statistics: str) -> None:
        for statistic in statistics:
            found[f"{PREFIX}{name}/{statistic}"] = float(numbers.agg(statistic))

    for label_set, part in values["uncertainty_coefficient"].groupby("label_set", sort=False):
        add(f"uncertainty_coefficient/{label_set}", part["value"], "mean", "max")
        found[f"{PREFIX}uncertainty_coefficient/{label_set}/null_mean"] = float(part["null_mean"].mean())
    experts = values["load"].groupby("router").size()
    entropy = values["load_entropy"].set_index("router")["value"]
    add("load_entropy_share", entropy / np.log2(experts.reindex(entropy.index).clip(lower=2)), "mean", "min")
    add("load_peak", values["load_peak"]["value"], "max")
    add("dead_experts", values["dead_experts"]["value"], "sum")
    if TO_PREVIOUS in values:
        add(TO_PREVIOUS, values[TO_PREVIOUS]["value"], "mean", "min")
    return {name: value for name, value in found.items() if np.isfinite(value)}
