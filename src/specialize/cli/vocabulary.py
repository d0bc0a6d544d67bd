"""The command that measures how the experts divide the vocabulary."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import print_json, progress, say
from specialize.cli.options import Json, Run
from specialize.cli.tables import (
    format_estimate,
    format_number,
    format_p,
    frame_records,
    number,
    print_table,
    router_columns,
    word,
)

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("routing", "layer", "label", "metric", "value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens")


@app.command()
def vocabulary(
    run: Run,
    min_count: Annotated[int, typer.Option(min=2, help="Fewest tokens of a token id.")] = 10,
    top: Annotated[int, typer.Option(min=1, help="Token ids an expert in top_tokens.csv.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the null.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the null.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure how far experts divide the vocabulary: input, next and, where recorded, predicted tokens."""
    from specialize.measure.results import write_results, write_table
    from specialize.measure.vocabulary_rows import vocabulary_specialization
    from specialize.trace import open_trace

    trace = open_trace(run)
    with progress("vocabulary", "routers") as update:
        frame, table = vocabulary_specialization(
            trace, min_count=min_count, most=top, draws=draws, seed=seed, progress=update
        )
    write_results(frame, run / "vocabulary", "vocabulary")
    write_table(table, run / "vocabulary" / "top_tokens.csv", text_columns=("run", "router", "text"))
    say(f"results: {run / 'vocabulary'}")
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
