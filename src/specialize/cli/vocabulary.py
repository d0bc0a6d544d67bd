"""The command that measures how the experts divide the vocabulary."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from specialize.cli.app import app
from specialize.cli.console import out, print_json, progress, say
from specialize.cli.options import Json, Run

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
        print_json(_records(layers))
    else:
        _show(layers)


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    shown = frame[list(_SHOWN)].astype(object)
    return [
        {str(name): value for name, value in row.items()} for row in shown.where(shown.notna(), None).to_dict("records")
    ]


def _show(frame: "pd.DataFrame") -> None:
    from rich.table import Table

    table = Table(title="Share of a token id's tokens that go where one of them went", title_justify="left", box=None)
    for name in ("layer", "routing", "token"):
        table.add_column(name)
    for name in ("share [95 %]", "above the load alone [95 %]", "null", "p"):
        table.add_column(name, justify="right", overflow="fold")
    keys = ["routing", "layer", "label"]
    above = frame[frame["metric"] == "vocabulary_specialization_above_load"]
    whole = frame[frame["metric"] == "vocabulary_specialization"]
    # a layer may have several routers: rows go together by their order, not by the layer's number
    for (_, first), (_, second) in zip(whole.iterrows(), above.iterrows(), strict=True):
        routing, layer, kind = (str(first[key]) for key in keys)
        cells = [f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]" for row in (first, second)]
        table.add_row(layer, routing, kind, *cells, f"{first['null_mean']:.3f}", f"{first['p_value']:.3f}")
    out.print(table)
