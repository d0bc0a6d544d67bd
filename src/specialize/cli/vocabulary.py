"""The command that measures how the experts divide the vocabulary."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Permutations, Run
from specialize.cli.tables import (
    format_estimate,
    format_row_p,
    frame_records,
    number,
    print_table,
    router_columns,
    word,
)
from specialize.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("routing", "layer", "label", "metric", "value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens")


@add_command(MEASURE)
def vocabulary(
    run: Run,
    *,
    min_count: Annotated[int, typer.Option(min=2, help="Fewest tokens of a token id that is counted.")] = 10,
    top: Annotated[int, typer.Option(min=1, help="Token ids of an expert in top_tokens.csv.")] = 10,
    permutations: Permutations = 200,
    seed: Annotated[int, typer.Option(help="Seed of the null.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure how far experts divide the vocabulary: input, next and, where recorded, predicted tokens."""
    import specialize

    frame = specialize.vocabulary(
        run, min_count=min_count, top=top, permutations=permutations, seed=seed, reporter=TERMINAL
    )
    layers = frame[frame["expert"].isna()]
    if as_json:
        print_json(frame_records(layers[list(_SHOWN)]))
    else:
        _print(layers)


def _print(frame: "pd.DataFrame") -> None:
    where = router_columns(frame)
    whole = frame[frame["metric"] == "vocabulary_specialization"]
    above = frame[frame["metric"] == "vocabulary_specialization_above_load"]
    print_table(
        "Share of a token id's tokens that are routed to the same expert, with 95 % intervals",
        [*where.values(), word("token"), *map(number, ("share", "above the\nload alone", "null", "p"))],
        # a layer may have several routers: rows go together by their order, not by the layer's number
        [
            [*first[list(where)], first["label"], format_estimate(first), format_estimate(second),
             format_number(first["null_mean"]), format_row_p(first)]
            for (_, first), (_, second) in zip(whole.iterrows(), above.iterrows(), strict=True)
        ],
    )  # fmt: skip
