"""Which experts of a layer belong together: chosen for the same tokens, or with similar labels."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.names import name_label_set
from specialize.reporting.formatting import round_number
from specialize.reporting.runs import RunResults

MOST = 4
LEAST_LABELS = 4  # a correlation over fewer labels says little
SMALLEST_LIFT = 1 / 8  # below it, lifts are those of hardly any tokens

ByExpert = defaultdict[float, dict[str, Any]]  # by layer, then by the expert's number as text


def list_partners(run: RunResults, routing: str = "learned") -> ByExpert:
    """Return the experts that are chosen together with each expert more often than expected from their loads.

    Each is [expert, share of the tokens, that share divided by the expected one], the largest ratio first.
    """
    found: ByExpert = defaultdict(dict)
    if run.routing is None:
        return found
    rows = run.routing[(run.routing["metric"] == "coactivation") & (run.routing["routing"] == routing)]
    rows = rows.assign(ratio=rows["value"] / rows["null_mean"])
    rows = rows[np.isfinite(rows["ratio"]) & (rows["ratio"] > 1)].sort_values("ratio", ascending=False, kind="stable")
    columns = ("layer", "expert", "label", "value", "ratio")
    for layer, expert, other, share, ratio in zip(*(rows[name].tolist() for name in columns), strict=True):
        own = found[layer].setdefault(str(int(expert)), [])
        if len(own) < MOST:
            own.append([int(other), round_number(share), round_number(ratio)])
    return found


def list_similar(run: RunResults, routing: str = "learned") -> ByExpert:
    """Return the experts whose labels are most similar to those of each expert, by the label sets that stand first.

    For each label set [its name, [[expert, correlation], ...]]: Pearson's correlation of log2(lift) over the labels,
    lifts below `SMALLEST_LIFT` taken as that; the largest first, only positive ones.
    """
    found: ByExpert = defaultdict(dict)
    for label_set in run.main_label_sets:
        short = name_label_set(label_set).short
        for layer, experts, matrix in _correlations(run.frames[label_set], routing):
            for expert, row in zip(experts, matrix, strict=True):
                order = [place for place in np.argsort(-row, kind="stable") if row[place] > 0][:MOST]
                if order:
                    similar = [[int(experts[place]), round_number(float(row[place]))] for place in order]
                    found[layer].setdefault(str(int(expert)), []).append([short, similar])
    return found


def _correlations(frame: pd.DataFrame, routing: str) -> Iterator[tuple[float, NDArray[np.int64], NDArray[np.float64]]]:
    """Yield each layer with its experts and the correlations [experts, experts] of their lifts, NaN for itself."""
    rows = frame[(frame["metric"] == "lift") & (frame["routing"] == routing) & frame["label"].notna()]
    label, labels = pd.factorize(rows["label"])
    if len(labels) < LEAST_LABELS:
        return
    expert = rows["expert"].to_numpy(dtype=np.int64)
    for layer, places in rows.groupby("layer").indices.items():
        lifts = np.full((int(expert[places].max()) + 1, len(labels)), np.nan)
        lifts[expert[places], label[places]] = rows["value"].to_numpy(dtype=np.float64)[places]
        lifts = lifts[:, ~np.isnan(lifts).all(axis=0)]  # labels that this layer has no lift of
        known = np.flatnonzero(~np.isnan(lifts).any(axis=1))
        if len(known) < 2 or lifts.shape[1] < LEAST_LABELS:
            continue
        profiles = np.log2(np.maximum(lifts[known], SMALLEST_LIFT))
        with np.errstate(invalid="ignore", divide="ignore"):  # an expert with the same lift of every label has none
            matrix = np.corrcoef(profiles)
        np.fill_diagonal(matrix, np.nan)
        yield float(layer), known, matrix
