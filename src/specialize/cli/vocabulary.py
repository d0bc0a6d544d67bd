"""The command that measures how the experts divide the vocabulary."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import print_json
from specialize.cli.measuring import PERMUTATIONS, do_vocabulary
from specialize.cli.options import Json, Run
from specialize.cli.tables import (
    format_estimate,
    frame_records,
    number,
    print_table,
    router_columns,
    word,
)
from specialize.text import format_number, format_p

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("routing", "layer", "label", "metric", "value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens")


@app.command()
def vocabulary(
    run: Run,
    min_count: Annotated[int, typer.Option(min=2, help="Fewest tokens of a token id.")] = 10,
    top: Annotated[int, typer.Option(min=1, help="Token ids an expert in top_tokens.csv.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the null.")] = PERMUTATIONS,
    seed: Annotated[int, typer.Option(help="Seed of the null.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure how far experts divide the vocabulary: input, next and, where recorded, predicted tokens."""
    from specialize.trace import open_trace

    frame = do_vocabulary(open_trace(run), min_count=min_count, top=top, permutations=permutations, seed=seed)
    layers = frame[frame["expert"].isna()]
    if as_json:
        print_json(frame_records(layers[list(_SHOWN)]))
    else:
        _show(layers)


def _show(frame: "pd.DataFrame") -> None:
    where = router_columns(frame)
    whole = frame[frame["metric"] == "vocabulary_specialization"]
    above = frame[frame["metric"] == "vocabulary_specialization_above_load"]
    print_table(
        "Share of a token id's tokens that go where one of them went, with 95 % intervals",
        [*where.values(), word("token"), *map(number, ("share", "above the\nload alone", "null", "p"))],
        # a layer may have several routers: rows go together by their order, not by the layer's number
        [
            [*first[list(where)], first["label"], format_estimate(first), format_estimate(second),
             format_number(first["null_mean"]), format_p(first["p_value"])]
            for (_, first), (_, second) in zip(whole.iterrows(), above.iterrows(), strict=True)
        ],
    )  # fmt: skip
