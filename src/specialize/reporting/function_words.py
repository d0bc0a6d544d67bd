"""What was found when experts were switched off, in words."""

import math
from collections.abc import Iterator

import pandas as pd

from specialize.names import name_label_set
from specialize.reporting.ablations import Ablation, Number, find_number, list_ablations, of_sets
from specialize.reporting.formatting import ALPHA
from specialize.reporting.runs import RunResults
from specialize.text import NBSP, equate_p, format_number

_INTERVAL = f"95{NBSP}% interval"


def describe_function(run: RunResults) -> list[str]:
    """Return what was done and found, in a few sentences for each mode and label set; none without an ablation."""
    return [sentence for ablation in list_ablations(run) for sentence in _describe(run, ablation)]


def summarise_agreement(run: RunResults) -> list[str]:
    """Return the agreement of lift and per-use effect, a line for each mode and label set."""
    lines = []
    for ablation in list_ablations(run):
        for label_set, frame in ablation.label_sets.items():
            found = find_number(frame, "per_use_agreement")
            if found.is_measured:
                lines.append(
                    f"{run.label}, {name_label_set(label_set).long}: rank correlation of lift and per-use effect "
                    f"{_write(found)} (mode {ablation.mode})"
                )
    return lines


def _describe(run: RunResults, ablation: Ablation) -> Iterator[str]:
    yield _tell_conditions(run, ablation)
    for label_set, frame in ablation.label_sets.items():
        parts = [part for part in (_tell_agreement(label_set, frame), _tell_sets(frame)) if part]
        if parts:
            yield " ".join(parts)


def _tell_conditions(run: RunResults, ablation: Ablation) -> str:
    frames = [*ablation.label_sets.values()] if ablation.experts is None else [ablation.experts]
    everything = pd.concat(frames, ignore_index=True)
    alone = everything[everything["expert"].notna()]
    number = len(alone[alone["metric"] == "effect"].drop_duplicates(["layer", "expert"]))
    alone = alone[alone["metric"] == "per_use_effect"]  # none of an expert that no token uses
    what = "sets of experts were switched off"
    if number:
        what = f"{number:,} experts were switched off one at a time" if number > 1 else "one expert was switched off"
    documents, tokens = (everything[name].max() for name in ("n_documents", "n_tokens"))
    counted = f" ({documents:,.0f} documents, {tokens:,.0f} tokens)" if documents > 0 and tokens > 0 else ""
    said = (
        f"In {run.label}, {what} ({ablation.means}). All numbers are changes of this model’s loss of the next token on "
        f"these documents{counted}."
    )
    if ablation.experts is None or not number:
        return said
    layers = alone.groupby("layer")["value"].mean()
    largest = layers.idxmax() if layers.notna().any() else None
    if largest is None:
        return said
    bits = f"{format_number(layers[largest])}{NBSP}bits"
    if len(layers) == 1:
        return f"{said} The mean per-use effect of an expert is {bits}."
    return (
        f"{said} The mean per-use effect of an expert is largest in layer {largest:g} ({bits}) and smallest in layer "
        f"{layers.idxmin():g} ({format_number(layers.min())}{NBSP}bits)."
    )


def _tell_agreement(label_set: str, frame: pd.DataFrame) -> str:
    per_use, total = (find_number(frame, f"{kind}_agreement") for kind in ("per_use", "total"))
    if not per_use.is_measured:
        return ""
    long = name_label_set(label_set).long
    corrected = find_number(frame, "corrected_per_use_agreement")
    said = (
        f"{long[:1].upper()}{long[1:]}: lift and per-use effect have a rank correlation of "
        f"{_write(per_use, in_text=True)}, the mean over the layers, {_judge(per_use)}"
    )
    if corrected.is_measured:
        said += f"; corrected for noise it is {format_number(corrected.value, digits=2)}"
    return f"{said}. With the total effect it is {_write(total, in_text=True)}." if total.is_measured else f"{said}."


def _tell_sets(frame: pd.DataFrame) -> str:
    rows = of_sets(frame)
    rows = rows[rows["null_high"].notna()]
    if rows.empty:
        return ""
    above, drawn = int((rows["value"] > rows["null_high"]).sum()), rows["n_permutations"].dropna()
    number, by_chance = "all", ""
    if drawn.nunique() == 1:
        number = f"all {drawn.iloc[0]:.0f}"
        by_chance = f" (expected by chance: {format_number(len(rows) / (1 + drawn.iloc[0]), digits=1)})"
    return (
        f"For {above} of {len(rows)} labels{by_chance}, the experts that lead the label are more selective for it than "
        f"{number} random sets of about the same load."
    )


def _write(found: Number, *, in_text: bool = False) -> str:
    value, low, high = (format_number(each, digits=2) for each in (found.value, found.ci_low, found.ci_high))
    has_interval = found.ci_low == found.ci_low and found.ci_high == found.ci_high
    p_value = equate_p(found.p_value, at_most=found.p_is_smallest) if found.p_value == found.p_value else ""
    if not in_text:
        return value + (f" [{low}, {high}]" if has_interval else "") + (f", {p_value}" if p_value else "")
    basis = "; ".join(part for part in (f"{_INTERVAL} {low} to {high}" if has_interval else "", p_value) if part)
    return value + (f" ({basis})" if basis else "")


def _judge(found: Number) -> str:
    if found.p_value != found.p_value:
        return "which was not tested"
    null = found.null_mean if math.isfinite(found.null_mean) else 0.0
    apart = found.ci_low > max(0.0, null) or found.ci_high < min(0.0, null)
    if found.p_value <= ALPHA and apart:
        return f"which is {'above' if found.value > 0 else 'below'} chance"
    if found.p_value <= ALPHA or apart:
        return "for which test and interval disagree"
    return "which is not distinguishable from chance"
