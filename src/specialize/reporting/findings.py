"""The numbers that a report is about: one record a run, router, layer and label set, and the best layer of each."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from scipy.stats import false_discovery_control

from specialize.measure.base.shortage import read_shortage
from specialize.reporting.runs import RunResults
from specialize.text import is_smallest_p

METRIC = "uncertainty_coefficient"
MAXIMUM = "max_uncertainty_coefficient"


_NUMBERS = (
    "value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value", "n_permutations", "n_tokens",
    "n_documents",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """The uncertainty coefficient of one label set at one layer (None: the largest over the layers).

    `level` is ``token`` or ``document``, whichever has the labels. `value`, interval and null are shares of the label's
    entropy, 0.2 for 20 %; NaN where they were not measured.
    """

    run: str
    routing_unit: str
    causal: bool
    routing: str
    label_set: str
    level: str
    layer: int | None
    metric: str
    value: float
    ci_low: float
    ci_high: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float
    n_permutations: float
    n_tokens: float
    n_documents: float
    ci_kind: str

    @property
    def shortage(self) -> str:
        """Why there is too little data for the value; an empty string where there is enough."""
        return read_shortage(self.ci_kind)

    @property
    def has_smallest_p(self) -> bool:
        """Whether the p-value is the smallest that its permutations allow."""
        return is_smallest_p(self.p_value, self.n_permutations)

    def as_dict(self) -> dict[str, Any]:
        """Return the record with None for what is missing, for JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) > 1 else value
    return value


def read_records(runs: Sequence[RunResults]) -> list[Record]:
    """Return the records of every run: learned before random, by label set, layers in order, the maximum last."""
    records = []
    for run in runs:
        for label_set, frame in run.frames.items():
            rows = frame[frame["metric"].isin([METRIC, MAXIMUM])]
            rows = rows.sort_values(["routing", "layer"], kind="stable", na_position="last")
            records += [_read_record(run, label_set, row) for row in rows.to_dict("records")]
    return records


def _read_record(run: RunResults, label_set: str, row: dict[Any, Any]) -> Record:
    layer, kind = row["layer"], row.get("ci_kind")
    return Record(
        run=run.name,
        routing_unit=run.routing_unit,
        causal=run.is_causal,
        routing=row["routing"],
        label_set=label_set,
        level="token" if label_set in run.syntax else "document",
        layer=None if pd.isna(layer) or row["metric"] == MAXIMUM else int(layer),
        metric=row["metric"],
        ci_kind=kind if isinstance(kind, str) else "",
        **{name: math.nan if pd.isna(row[name]) else float(row[name]) for name in _NUMBERS},
    )


@dataclass(frozen=True)
class Finding:
    """One run and label set at the layer where U is largest.

    Attributes:
        best: the record of that layer.
        p_value: p of the largest value over the layers; where that was not measured, as for one of several kinds of
            routers, the smallest of the Benjamini-Hochberg adjusted p-values of the layers (Simes 1986).
        p_is_smallest: whether it is the smallest that the permutations allow.
        has_random: whether U of a random router was measured, too.
        num_layers: layers chosen from.
    """

    best: Record
    p_value: float
    p_is_smallest: bool
    has_random: bool
    num_layers: int


def find_best(records: Sequence[Record], run_name: str, label_set: str) -> Finding | None:
    """Return the finding of the run `run_name` for `label_set`, or None where no layer has a value."""
    own = [record for record in records if record.run == run_name and record.label_set == label_set]
    layers = [r for r in own if r.routing == "learned" and r.layer is not None and math.isfinite(r.value)]
    if not layers:
        return None
    best = max(layers, key=lambda record: record.value)
    over_layers = [r for r in own if r.routing == "learned" and r.metric == MAXIMUM and _is_probability(r.p_value)]
    tested = over_layers[:1] or [r for r in layers if _is_probability(r.p_value)]
    p_value = float(false_discovery_control([r.p_value for r in tested]).min()) if tested else math.nan
    return Finding(
        best=best,
        p_value=p_value,
        p_is_smallest=any(is_smallest_p(p_value, record.n_permutations) for record in tested),
        has_random=any(record.routing == "random" and math.isfinite(record.value) for record in own),
        num_layers=len(layers),
    )


def _is_probability(p_value: float) -> bool:
    """Return whether a p-value may be one; tables of other programs may hold anything, and NaN where there is none."""
    return 0 <= p_value <= 1
