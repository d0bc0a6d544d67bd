"""The numbers of a report, one record a run, router, layer and label set, and what they say in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from specialize.names import name_label_set
from specialize.reporting.runs import RunResults
from specialize.text import MINUS, NBSP, NO_VALUE, equate_p

METRIC = "uncertainty_coefficient"
MAXIMUM = "max_uncertainty_coefficient"
LEVEL = 0.05  # p-value up to which a finding is told as one
MOSTLY_NULL = 0.5  # from this share of the value on, the null has to be told beside it


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
    n_tokens: float
    n_documents: float

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
    """Return the records of every run: learned before control, by label set, layers in order, the maximum last."""
    records = []
    for run in runs:
        for label_set, frame in run.frames.items():
            rows = frame[frame["metric"].isin([METRIC, MAXIMUM])]
            rows = rows.sort_values(["routing", "layer"], kind="stable", na_position="last")
            records += [_read_record(run, label_set, row) for row in rows.to_dict("records")]
    return records


def _read_record(run: RunResults, label_set: str, row: dict[Any, Any]) -> Record:
    numbers = ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value", "n_tokens", "n_documents")
    layer = row["layer"]
    return Record(
        run=run.name,
        routing_unit=run.routing_unit,
        causal=run.is_causal,
        routing=row["routing"],
        label_set=label_set,
        level="token" if label_set in run.syntax else "document",
        layer=None if pd.isna(layer) or row["metric"] == MAXIMUM else int(layer),
        metric=row["metric"],
        **{name: math.nan if pd.isna(row[name]) else float(row[name]) for name in numbers},
    )


@dataclass(frozen=True)
class Finding:
    """What one run's routing tells about one label set, at the layer where it tells most.

    Attributes:
        best: the record of that layer.
        p_value: p of the largest value over the layers, or of the best layer where the former was not measured.
        corrected: whether `p_value` accounts for having chosen the best of several layers.
        control: the random router's record at its own best layer, or None.
        num_layers: layers chosen from.
    """

    best: Record
    p_value: float
    corrected: bool
    control: Record | None
    num_layers: int

    @property
    def exceeds_null(self) -> bool:
        """Whether the null would rarely reach the value."""
        return self.p_value <= LEVEL

    @property
    def exceeds_control(self) -> bool:
        """Whether the value's interval lies above that of the random router, where one was recorded."""
        return self.control is not None and _low(self.best) > _high(self.control)

    @property
    def falls_short_of_control(self) -> bool:
        """Whether the value's interval lies below that of the random router, where one was recorded."""
        return self.control is not None and _high(self.best) < _low(self.control)


def _low(record: Record) -> float:
    return record.ci_low if math.isfinite(record.ci_low) else record.value


def _high(record: Record) -> float:
    return record.ci_high if math.isfinite(record.ci_high) else record.value


def find_best(records: Sequence[Record], run: str, label_set: str) -> Finding | None:
    """Return the finding of `run` for `label_set`, or None where no layer has a value."""
    own = [record for record in records if record.run == run and record.label_set == label_set]
    layers = [r for r in own if r.routing == "learned" and r.layer is not None and math.isfinite(r.value)]
    if not layers:
        return None
    best = max(layers, key=lambda record: record.value)
    over_layers = [r for r in own if r.routing == "learned" and r.metric == MAXIMUM and math.isfinite(r.p_value)]
    random_routers = [r for r in own if r.routing == "random" and r.layer is not None and math.isfinite(r.value)]
    return Finding(
        best=best,
        p_value=over_layers[0].p_value if over_layers else best.p_value,
        corrected=bool(over_layers) or len(layers) == 1,
        control=max(random_routers, key=lambda record: record.value) if random_routers else None,
        num_layers=len(layers),
    )


def percent(share: float, *, unit: bool = True) -> str:
    """Return a share as a percentage with two or three digits that count; an en dash for NaN."""
    if not math.isfinite(share):
        return NO_VALUE
    number = 100 * share
    size = abs(number)
    digits = 1 if size >= 9.95 else 2 if size >= 0.0995 or size < 5e-7 else 3
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = "0"
    return text.replace("-", MINUS) + (f"{NBSP}%" if unit else "")


def describe(finding: Finding) -> str:
    """Return the finding in one or two plain sentences."""
    best = finding.best
    noun = f"the {name_label_set(best.label_set).long} of a {best.level}"
    where = f"layer {best.layer}" if finding.num_layers == 1 else f"the clearest layer ({best.layer})"
    interval = ""
    if math.isfinite(best.ci_low) and math.isfinite(best.ci_high):
        interval = f"95{NBSP}% interval {percent(best.ci_low, unit=False)} to {percent(best.ci_high)}; "
    null = f"null {percent(best.null_mean)}; " if math.isfinite(best.null_mean) else ""
    if not math.isfinite(finding.p_value):
        told = (
            f"At {where}, one routing decision removes {percent(best.value)} of the uncertainty about {noun} "
            f"({(interval + null).rstrip('; ')}), but no p-value was computed, so chance is not ruled out."
        ).replace(" (), but", ", but")
        return told + _describe_control(finding)
    chance = equate_p(finding.p_value)
    chance += "" if finding.corrected else f", not corrected for choosing among {finding.num_layers} layers"
    if not finding.exceeds_null:
        return (
            f"Routing tells no more about {noun} than the null does: even at {where} one decision removes "
            f"{percent(best.value)} of the uncertainty ({interval}{null}{chance})."
        )
    told = f"At {where}, one routing decision removes {percent(best.value)} of the uncertainty about {noun}"
    if best.null_mean >= MOSTLY_NULL * best.value:
        return (
            f"{told} ({interval}{chance}), but most of that, {percent(best.null_mean)}, is there under the null too: "
            f"only {percent(best.value - best.null_mean, unit=False)} points are more than the null."
        )
    return f"{told} ({interval}{null}{chance})." + _describe_control(finding)


def _describe_control(finding: Finding) -> str:
    control, best = finding.control, finding.best
    if control is None:
        return ""
    said = f" A frozen random router on the same hidden states reaches {percent(control.value)} (layer {control.layer})"
    if finding.falls_short_of_control:
        return said + ", more than the learned router: this need not have been learned."
    if not finding.exceeds_control:
        return said + ": the learned router tells no clearly larger share, so this need not have been learned."
    return said + f"; the learned router exceeds that by {percent(best.value - control.value, unit=False)} points."
