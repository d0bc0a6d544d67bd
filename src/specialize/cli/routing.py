"""The command that measures routing without labels."""

from typing import TYPE_CHECKING

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, out, print_json
from specialize.cli.options import Json, Permutations, Rule, Run, Seed
from specialize.cli.tables import format_estimate, format_row_p, frame_records, number, print_table, router_columns
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
_REPEATS = {"first_expert_repeats": "same first\nexpert", "any_expert_repeats": "any same\nexpert"}


@add_command(MEASURE)
def routing(
    run: Run,
    *,
    rule: Rule = "selection",
    permutations: Permutations = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure load, co-activation, consecutive repeats and flow between layers. Needs no labels.

    Repeats are also given for each value of the known labels. Results: RUN/routing/routing.csv and .parquet, one row
    per quantity.
    """
    import specialize

    frame = specialize.routing(run, rule=rule, permutations=permutations, seed=seed, reporter=TERMINAL)
    if as_json:
        print_json(frame_records(frame[~frame["metric"].isin(_PAIRS)]))
    else:
        _print_routing(frame)


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


def _beside_null(row: "pd.Series") -> list[str]:
    return [format_estimate(row), format_number(row["null_mean"]), format_row_p(row)]
