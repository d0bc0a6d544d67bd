"""Commands that need no labels of their own: the routing of a run, and the differences of two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import out, print_json
from specialize.cli.measuring import PERMUTATIONS, do_compare, do_routing
from specialize.cli.options import Json, Rule, Run, Seed, SlotRule
from specialize.cli.tables import (
    format_estimate,
    frame_records,
    number,
    print_table,
    router_columns,
    text,
    word,
)
from specialize.errors import MeasurementError
from specialize.text import format_number, format_p

if TYPE_CHECKING:
    import pandas as pd


_PAIRS = ("coactivation", "transition")
_LOAD = {
    "load_entropy": "load entropy,\nbits",
    "load_peak": "largest load\nover mean",
    "dead_experts": "dead",
    "flow_uncertainty_coefficient": "U(next layer\n| this one)",
}
_REPEATS = {"first_expert_repeats": "same first\nexpert", "any_expert_repeats": "any same\nexpert"}
_COMPARED = {
    "mutual_information": "I(expert; label), bits",
    "uncertainty_coefficient": "U, share of H(label)",
    "load_entropy": "load entropy, bits",
    "first_expert_repeats": "same first expert, share",
    "any_expert_repeats": "any same expert, share",
}


@app.command()
def routing(
    run: Run,
    rule: SlotRule = Rule.selection,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the nulls.")] = PERMUTATIONS,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure load, co-activation, consecutive repeats and flow between layers. Needs no labels.

    Repeats are also given for each value of the labels that the corpus knows. Results: RUN/routing/routing.csv and
    .parquet, a row a quantity.
    """
    from specialize.trace import open_trace

    frame = do_routing(open_trace(run), rule=rule.value, permutations=permutations, seed=seed)
    if as_json:
        print_json(frame_records(frame[~frame["metric"].isin(_PAIRS)]))
    else:
        _show_routing(frame)


@app.command()
def compare(
    run: Run,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN_B]", help="A run of the same corpus. Default: --against-random.")
    ] = None,
    against_random: Annotated[
        bool, typer.Option("--against-random", help="Compare RUN's routers with the random routers beside them.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder to write. Default: RUN/compare.")
    ] = None,
    rule: SlotRule = Rule.selection,
    margin: Annotated[
        float | None,
        typer.Option(help="Also test that differences lie within plus and minus this, in the unit of each metric."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how the routing of two runs of one corpus differs, RUN minus RUN_B, paired by blocks of documents.

    Compared are information and U of every annotation that both runs hold, load entropy, repeats, and saturation: the
    share of slots that agree. Without RUN_B, a model's routers are compared with the random routers beside them.
    """
    if against_random and other is not None:
        raise MeasurementError("expected RUN_B or --against-random, got both: leave one out")
    if margin is not None and not 0 < margin < float("inf"):
        raise MeasurementError(f"--margin: expected a number above 0, got {margin:g}")
    from specialize.trace import open_trace

    second = None if other is None else open_trace(other)
    frame = do_compare(open_trace(run), second, output=output, rule=rule.value, margin=margin)
    if as_json:
        print_json(frame_records(frame))
    else:
        _show_differences(frame, margin)


def _show_routing(frame: "pd.DataFrame") -> None:
    where = router_columns(frame)
    whole = frame[frame["expert"].isna() & (frame["label_set"].isna() | (frame["label_set"] == "next_router"))]
    load, repeats = [], []
    for _, rows in whole.groupby(["routing", "layer", "router"], sort=False):
        router = rows[list(where)].iloc[0].tolist()
        found = rows.set_index("metric").reindex([*_LOAD, *_REPEATS])
        load.append([*router, *(format_estimate(found.loc[metric]) for metric in _LOAD)])
        repeats.append([*router, *(cell for metric in _REPEATS for cell in _beside_null(found.loc[metric]))])
    print_table("Load and flow, with 95 % intervals", [*where.values(), *map(number, _LOAD.values())], load)
    out.print()
    print_table(
        "Neighbouring tokens, with 95 % intervals; null: the same tokens in random order",
        [*where.values(), *(number(head) for name in _REPEATS.values() for head in (name, "null", "p"))],
        repeats,
    )


def _beside_null(row: "pd.Series") -> list[str]:
    return [format_estimate(row), format_number(row["null_mean"]), format_p(row["p_value"])]


def _show_differences(frame: "pd.DataFrame", margin: float | None) -> None:
    where = router_columns(frame)
    title, routing = frame["run"].iloc[0], frame["routing"].iloc[0]
    if frame["routing"].nunique() == 1 and routing != "learned":
        title = f"{title}, {routing}"
    agreement = frame[frame["metric"] == "saturation"]
    if len(agreement):
        print_table(
            f"{title}: saturation, the share of slots that agree, with 95 % intervals",
            [*where.values(), number("saturation"), number("by chance")],
            [
                [*_place(row[list(where)]), format_estimate(row), format_number(row["null_mean"])]
                for _, row in agreement.iterrows()
            ],
        )
        out.print()
    columns = [*where.values(), text("labels"), word("quantity"), number("difference"), number("p")]
    rows = [
        [*_place(row[list(where)]), *_difference(row)]
        for _, row in frame[frame["metric"].str.contains("difference of")].iterrows()
    ]
    if margin is not None:  # a row for each difference, in their order
        columns.append(number(f"p within\n±{margin:g}"))
        inside = frame.loc[frame["metric"].str.contains("equivalence of"), "p_value"]
        rows = [[*row, format_p(p_value)] for row, p_value in zip(rows, inside, strict=True)]
    print_table(f"{title}: differences, with 95 % intervals", columns, rows)


def _place(cells: "pd.Series") -> list[str]:
    """Layer, router and routing of a row; what belongs to no layer is the mean over all."""
    known = cells.notna()
    return [str(cell) if known[name] else "mean" if name == "layer" else "" for name, cell in cells.items()]


def _difference(row: "pd.Series") -> list[str]:
    metric = row["metric"].rsplit(" of ", maxsplit=1)[1]
    labels = "" if row["label_set"] != row["label_set"] else row["label_set"]
    return [labels, _COMPARED.get(metric, metric), format_estimate(row), format_p(row["p_value"])]
