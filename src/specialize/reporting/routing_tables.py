"""Tables of the routing itself, layer by layer, without labels."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from specialize.reporting.formatting import format_interval, format_share
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.text import NO_VALUE

_LOAD = ("layer", "experts", "entropy, bits (maximum)", "largest ÷ uniform", "smallest ÷ uniform", "unused experts")
_MORE = {
    "first_expert_repeats": ("same first expert", "shuffled"),
    "any_expert_repeats": ("any in common", "shuffled"),
    "flow_uncertainty_coefficient": ("U(next expert | expert)", "null mean"),
}


def routing_tables(run: RunResults) -> list[Table]:
    """Return the load of each layer and, where `specialize routing` measured them, repeats and flow, shares in %.

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
    return tables


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
    whole = rows[rows["expert"].isna() & (rows["label"].isna() | (rows["label_set"] == "next_router"))]
    for metric in metrics:
        found = whole[whole["metric"] == metric]
        if found.empty:  # the last layer has no next one
            yield from (Cell(NO_VALUE, "number faint"), Cell(NO_VALUE, "number faint"))
            continue
        row = found.iloc[0]
        yield Cell(format_share(row["value"]), "number", below=format_interval(row["ci_low"], row["ci_high"]))
        yield Cell(format_share(row["null_mean"]), "number")
