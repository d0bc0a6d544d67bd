"""The command that predicts labels from the experts of all layers together."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Rule, Run
from specialize.cli.tables import format_estimate, frame_records, number, print_table, text, word
from specialize.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("label_set", "routing", "metric", "label", "value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens")


@add_command(MEASURE)
def probe(
    run: Run,
    *,
    label_sets: Annotated[
        list[str] | None,
        typer.Option(
            "--label-set",
            help="Labels to predict, as `syntax` and `topics` stored them; repeatable. Default: all.",
        ),
    ] = None,
    rule: Rule = "selection",
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation by document.")] = 5,
    max_tokens: Annotated[
        int, typer.Option(min=2, help="The most tokens (or documents) to fit and score on.")
    ] = 20_000,
    mlp: Annotated[bool, typer.Option("--mlp/--no-mlp", help="Also fit a small network.")] = True,
    permutations: Annotated[
        int, typer.Option(min=1, help="Refits with permuted labels, for labels of documents.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the sample, the control task, the network and the null.")] = 0,
    as_json: Json = False,
) -> None:
    """Predict labels from the experts of all layers, on held-out documents, beside baselines and a control task."""
    import specialize

    frame = specialize.probe(
        run,
        label_sets=label_sets,
        rule=rule,
        folds=folds,
        max_tokens=max_tokens,
        mlp=mlp,
        permutations=permutations,
        seed=seed,
        reporter=TERMINAL,
    )
    if as_json:
        print_json(frame_records(frame[list(_SHOWN)]))
    else:
        _print(frame)


def _print(frame: "pd.DataFrame") -> None:
    where = {"label_set": text("labels")}
    if frame["routing"].nunique() > 1:
        where["routing"] = word("routing")
    print_table(
        "Held-out accuracy, with 95 % intervals",
        [*where.values(), word("what"), word("by"), number("accuracy"), number("permuted\nlabels")],
        [
            [*row[list(where)], row["metric"].replace("_", " "), row["label"],
             format_estimate(row), format_number(row["null_mean"])]
            for _, row in frame.iterrows()
        ],
    )  # fmt: skip
