"""The command that predicts labels from the experts of all layers together."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import print_json, progress, say
from specialize.cli.options import Json, Rule, Run, SlotRule
from specialize.cli.tables import format_estimate, frame_records, number, print_table, text, word
from specialize.errors import AnnotationError
from specialize.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("label_set", "routing", "metric", "label", "value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens")


@app.command()
def probe(
    run: Run,
    label_set: Annotated[
        list[str] | None,
        typer.Option(help="Labels to predict, as `syntax` and `topics` left them; several times. Default: all."),
    ] = None,
    rule: SlotRule = Rule.selection,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation by document.")] = 5,
    max_tokens: Annotated[
        int, typer.Option(min=2, help="The most tokens (or documents) to fit and score on.")
    ] = 20_000,
    mlp: Annotated[bool, typer.Option("--mlp/--no-mlp", help="Fit a small network, too.")] = True,
    draws: Annotated[int, typer.Option(min=1, help="Refits with permuted labels, for labels of documents.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the sample, the control task, the network and the null.")] = 0,
    as_json: Json = False,
) -> None:
    """Predict labels from the experts of all layers, on documents held out, beside baselines and a control task."""
    import pandas as pd

    from specialize.annotators.store import list_annotations, load_annotation
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.probes import probe as probe_trace
    from specialize.trace import open_trace

    trace = open_trace(run)
    names = label_set or list_annotations(trace)
    if not names:
        raise AnnotationError(
            f"{run}: expected labels to predict, found none; run `specialize syntax` or `specialize topics` first"
        )
    annotations = [load_annotation(trace, name) for name in names]
    frames = []
    for annotation in annotations:
        with progress(f"probing {annotation.name}", "fits") as update:
            frame = probe_trace(
                trace, annotation, rule=rule.value, folds=folds, max_tokens=max_tokens, mlp=mlp, permutations=permutations, seed=seed,
                progress=update,
            )  # fmt: skip
        write_results(frame, run / "probe", annotation.name)
        frames.append(frame)
    say(f"results: {run / 'probe'}")
    frame = pd.concat(frames, ignore_index=True)
    if as_json:
        print_json(frame_records(frame[list(_SHOWN)]))
    else:
        _show(frame)


def _show(frame: "pd.DataFrame") -> None:
    where = {"label_set": text("labels")}
    if frame["routing"].nunique() > 1:
        where["routing"] = word("routing")
    print_table(
        "Share of labels told right on documents held out, with 95 % intervals",
        [*where.values(), word("what"), word("by"), number("share"), number("permuted\nlabels")],
        [
            [*row[list(where)], row["metric"].replace("_", " "), row["label"],
             format_estimate(row), format_number(row["null_mean"])]
            for _, row in frame.iterrows()
        ],
    )  # fmt: skip
