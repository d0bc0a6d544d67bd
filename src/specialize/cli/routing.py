"""The command that measures the routing itself."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, out, print_json
from specialize.cli.options import EngineOptions, Json, Permutations, Rule, Run, Seed, arguments, grouped
from specialize.cli.tables import (
    format_estimate,
    format_row_p,
    frame_records,
    number,
    print_table,
    router_columns,
    text,
)
from specialize.names import CACHE_SIZE
from specialize.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_PAIRS = ("coactivation", "transition")
_LOAD = {
    "load_entropy": "load entropy,\nbits",
    "load_peak": "largest load\nover mean",
    "dead_experts": "dead",
    "flow_uncertainty_coefficient": "U(next layer\n| this one)",
}
_PREDICTED = {
    "next_layer_recall": ("next layer's\nexperts", "most\nloaded"),
    "lru_hit_rate": ("in the cache\n(LRU)", "random\norder"),
    "same_token_overlap": ("as the same\ntoken id", "shifted\nids"),
}
_BY_LABEL = {
    "common_committee_size": ("experts that hold half\nof each label", "null"),
    "signature_difference": ("cosine within\n− between labels", "null"),
}
_REPEATS = {"first_expert_repeats": "same first\nexpert", "any_expert_repeats": "any same\nexpert"}


@add_command(MEASURE)
@grouped
def routing(
    run: Run,
    *,
    scaling: EngineOptions,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Labels of documents to measure by; may be repeated. Default: all that RUN has."),
    ] = None,
    rule: Rule = "selection",
    cache_size: Annotated[
        int | None, typer.Option(min=1, help="Experts that a cache holds. Default: a quarter of a layer's.")
    ] = None,
    permutations: Permutations = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure load, co-activation, repeats, flow between layers, and hit rates of a cache. Needs no labels.

    For known labels of documents, also repeats by label, the experts that hold half of a label's mass, the overlap of
    two labels' experts, and the similarity of documents. Results: RUN/routing/routing.csv and .parquet, one row per
    quantity.
    """
    import specialize

    frame = specialize.routing(
        run,
        labels=labels,
        rule=rule,
        cache_size=cache_size,
        permutations=permutations,
        seed=seed,
        **arguments(scaling),
        reporter=TERMINAL,
    )
    if as_json:
        print_json(frame_records(frame[~frame["metric"].isin(_PAIRS)]))
    else:
        _print_routing(frame)
        _print_predicted(frame)
        _print_by_label(frame)


def _print_routing(frame: "pd.DataFrame") -> None:
    where = router_columns(frame)
    whole = frame[frame["expert"].isna() & (frame["label_set"].isna() | (frame["label_set"] == "next_router"))]
    load, repeats = [], []
    measured = [metric for metric in _LOAD if (whole["metric"] == metric).any()]
    for _, rows in whole.groupby(["routing", "layer", "router"], sort=False):
        router = rows[list(where)].iloc[0].tolist()
        found = rows.set_index("metric").reindex([*_LOAD, *_REPEATS])
        load.append([*router, *(format_estimate(found.loc[metric]) for metric in measured)])
        repeats.append([*router, *(cell for metric in _REPEATS for cell in _beside_null(found.loc[metric]))])
    title = "Load and flow" if "flow_uncertainty_coefficient" in measured else "Load"
    heads = [number(_LOAD[metric]) for metric in measured]
    print_table(f"{title}, with 95 % intervals", [*where.values(), *heads], load)
    if not whole["metric"].isin(_REPEATS).any():  # the run has no tokens
        return
    out.print()
    print_table(
        "Neighbouring tokens, with 95 % intervals; null: the same tokens in random order",
        [*where.values(), *(number(head) for name in _REPEATS.values() for head in (name, "null", "p"))],
        repeats,
    )


def _print_predicted(frame: "pd.DataFrame") -> None:
    """Print which share of the slots the layer before, a cache and the token id predict."""
    shown = {name: heads for name, heads in _PREDICTED.items() if (frame["metric"] == name).any()}
    if not shown:  # the run has no tokens
        return
    where = router_columns(frame)
    sizes = frame.loc[frame["label_set"] == CACHE_SIZE, "label"].unique()
    body = [
        [*rows[list(where)].iloc[0].tolist(), *_cells(rows, shown)]
        for _, rows in frame[frame["metric"].isin(shown)].groupby(["routing", "layer", "router"], sort=False)
    ]
    out.print()
    print_table(
        f"Shares of slots predicted, with 95 % intervals, beside chance; experts in the cache: {', '.join(sizes)}",
        [*where.values(), *(number(head) for heads in shown.values() for head in heads)],
        body,
    )


def _print_by_label(frame: "pd.DataFrame") -> None:
    """Print the experts that are common to the labels of a set, and how similar their documents are."""
    where = router_columns(frame)
    rows = frame[frame["metric"].isin(_BY_LABEL)]
    if rows.empty:
        return
    body = [
        [*each[list(where)].iloc[0].tolist(), label_set, *_cells(each, _BY_LABEL)]
        for (*_, label_set), each in rows.groupby(["routing", "layer", "router", "label_set"], sort=False)
    ]
    out.print()
    print_table(
        "Labels of documents; null: labels permuted over documents",
        [*where.values(), text("labels"), *(number(head) for heads in _BY_LABEL.values() for head in heads)],
        body,
    )


def _cells(rows: "pd.DataFrame", metrics: dict[str, tuple[str, str]]) -> list[str]:
    found = rows.drop_duplicates("metric").set_index("metric").reindex(list(metrics))
    return [cell for metric in metrics for cell in _beside_null(found.loc[metric])[:2]]


def _beside_null(row: "pd.Series") -> list[str]:
    return [format_estimate(row), format_number(row["null_mean"]), format_row_p(row)]
