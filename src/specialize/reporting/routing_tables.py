"""Tables of the routing itself, layer by layer, without labels; shares in %."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from specialize.names import CACHE_SIZE, name_label_set
from specialize.reporting.formatting import format_interval, format_share
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.text import NO_VALUE, format_number

_LOAD = ("layer", "experts", "entropy, bits (maximum)", "largest ÷ uniform", "smallest ÷ uniform", "unused experts")
_MORE = {
    "first_expert_repeats": ("same first expert", "shuffled"),
    "any_expert_repeats": ("any in common", "shuffled"),
    "flow_uncertainty_coefficient": ("U(next expert | expert)", "null mean"),
}
_PREDICTED = {
    "next_layer_recall": ("next layer’s experts", "most loaded"),
    "lru_hit_rate": ("in the cache", "shuffled"),
    "optimal_hit_rate": ("in the best cache", ""),
    "same_token_overlap": ("shared by occurrences of a token id", "shifted"),
}
_BY_LABEL = {
    "common_committee_size": ("experts that hold half of each label", "null mean"),
    "signature_difference": ("cosine within − between labels, × 100", "null mean"),
}


def routing_tables(run: RunResults) -> list[Table]:
    """Return the load of each layer and, where `specialize routing` measured them, repeats, flow and predictions.

    Loads are those of `specialize routing`, else those that came with the first label set.
    """
    frame = run.load_frame
    if frame is None:
        return []
    own = frame[(frame["routing"] == "learned") & frame["layer"].notna()]
    layers = list(own.groupby("layer"))
    load = [_load_cells(layer, rows) for layer, rows in layers]
    tables = [Table(f"{run.label}: load of the experts by layer", [_head(_LOAD)], load)]
    # all tokens of a sequence that is routed as one have the same experts
    more = {key: names for key, names in _MORE.items() if run.routing_unit != "sequence" or key.startswith("flow")}
    more = {key: names for key, names in more.items() if run.routing is not None and (own["metric"] == key).any()}
    if more:
        body = [[Cell(f"{layer:g}", "text"), *_more_cells(rows, more)] for layer, rows in layers]
        pairs = "consecutive tokens that share an expert, in % of token pairs; " if len(more) > 1 else ""
        title = f"{run.label}: {pairs}flow to the next layer, in % of H(next expert)"
        tables.append(Table(title, [_head(("layer", *(name for pair in more.values() for name in pair)))], body))
    predicted = (
        {} if run.routing is None else {key: names for key, names in _PREDICTED.items() if (own["metric"] == key).any()}
    )
    if predicted:
        sizes = sorted(own.loc[own["label_set"] == CACHE_SIZE, "label"].astype(int).unique())
        held = f"a cache (size {', '.join(map(str, sizes))})" if sizes else "a cache"
        title = f"{run.label}: experts predicted by the layer before, {held} and the token id, in % of slots"
        names = (name for pair in predicted.values() for name in pair if name)
        body = [[Cell(f"{layer:g}", "text"), *_more_cells(rows, predicted)] for layer, rows in layers]
        tables.append(Table(title, [_head(("layer", *names))], body))
    return [*tables, *_label_tables(run, own)]


def _label_tables(run: RunResults, own: pd.DataFrame) -> Iterator[Table]:
    """Yield for each label set of documents how many experts its labels share, and how similar their documents are."""
    names = [name for pair in _BY_LABEL.values() for name in pair]
    for label_set, rows in own[own["metric"].isin(_BY_LABEL)].groupby("label_set", sort=False):
        body = [[Cell(f"{layer:g}", "text"), *_label_cells(each)] for layer, each in rows.groupby("layer")]
        title = f"{run.label}: experts used by {name_label_set(str(label_set)).long}; null: labels permuted"
        yield Table(title, [_head(("layer", *names))], body)


def _label_cells(rows: pd.DataFrame) -> Iterator[Cell]:
    found = rows.drop_duplicates("metric").set_index("metric").reindex(list(_BY_LABEL))
    size, difference = (found.loc[metric] for metric in _BY_LABEL)
    yield Cell(format_number(size["value"], digits=0), "number")
    yield Cell(format_number(size["null_mean"], digits=1), "number")
    interval = format_interval(difference["ci_low"], difference["ci_high"])
    yield Cell(format_share(difference["value"]), "number", below=interval)
    yield Cell(format_share(difference["null_mean"]), "number")


def _head(names: Sequence[str]) -> list[Cell]:
    return [Cell(name, "number" if place else "text") for place, name in enumerate(names)]


def _load_cells(layer: object, rows: pd.DataFrame) -> list[Cell]:
    load = rows.loc[rows["metric"] == "load", "value"]
    entropy = rows.loc[rows["metric"] == "load_entropy", "value"]
    num_experts = len(load)
    bits = float(entropy.iloc[0]) if len(entropy) else math.nan
    return [
        Cell(f"{layer:g}", "text"),
        Cell(str(num_experts), "number"),
        Cell(f"{bits:.3f} of {math.log2(num_experts):.3f}" if math.isfinite(bits) else NO_VALUE, "number"),
        Cell(f"{load.max() * num_experts:.2f}", "number strong"),
        Cell(f"{load.min() * num_experts:.2f}", "number"),
        Cell(str(int((load <= 0).sum())), "number"),
    ]


def _more_cells(rows: pd.DataFrame, metrics: dict[str, tuple[str, str]]) -> Iterator[Cell]:
    whole = rows[rows["expert"].isna() & (rows["label"].isna() | rows["label_set"].isin(["next_router", CACHE_SIZE]))]
    for metric, (_, null) in metrics.items():
        found = whole[whole["metric"] == metric]
        if found.empty:  # the last layer has no next one
            yield from [Cell(NO_VALUE, "number faint")] * (2 if null else 1)
            continue
        row = found.iloc[0]
        yield Cell(format_share(row["value"]), "number", below=format_interval(row["ci_low"], row["ci_high"]))
        if null:
            yield Cell(format_share(row["null_mean"]), "number")
