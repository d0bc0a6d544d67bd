"""The command that switches experts off."""

from typing import TYPE_CHECKING, Annotated

import typer

from specialize.choices import InterventionMode
from specialize.cli.app import MEASURE, add_command
from specialize.cli.capture_options import Model, ModelOptions
from specialize.cli.console import TERMINAL, out, print_json
from specialize.cli.options import Json, Permutations, Run, arguments, grouped
from specialize.cli.tables import format_estimate, format_row_p, frame_records, number, print_table, text
from specialize.errors import MeasurementError
from specialize.names import name_label_set
from specialize.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_PARTS = ("effect", "per_use_effect", "indirect_effect")
_MOST_SETS = 40


@add_command(MEASURE)
@grouped
def ablate(
    model: Model,
    run: Run,
    *,
    documents: Annotated[
        int | None,
        typer.Option(min=1, help="Documents to run again, a seeded sample. Default: as before, else all."),
    ] = None,
    singles: Annotated[bool, typer.Option("--singles/--no-singles", help="Switch off each expert alone.")] = True,
    layers: Annotated[
        str | None, typer.Option(help="Layers whose experts are switched off, such as 0,3. Default: all.")
    ] = None,
    experts: Annotated[
        str | None, typer.Option(help="Experts that are switched off alone, such as 0,17. Default: all.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="SET[=LABEL]",
            help="Also switch off the experts that lead a label (upos=NOUN), or each label of a set; repeatable.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Experts of each layer that lead a label.")] = 2,
    random: Annotated[int, typer.Option(min=1, help="Random sets of the same load, for each label.")] = 20,
    rankings: Annotated[
        list[str] | None,
        typer.Option(
            "--ranking",
            help="Also switch off the first 1, 2, 4 … experts by saliency, load, lift or random; repeatable.",
        ),
    ] = None,
    mode: Annotated[InterventionMode, typer.Option(help="What becomes of the slots of these experts.")] = "drop",
    seed: Annotated[int, typer.Option(help="Seed of the sample, the random sets and the nulls.")] = 0,
    permutations: Permutations = 200,
    loading: ModelOptions,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Padded tokens of a forward pass.")] = 8192,
    as_json: Json = False,
) -> None:
    """Run the traced documents again with experts switched off: what happens to the loss of each label?

    The same command resumes an interrupted run, and one that asks for other experts adds them. Results:
    RUN/ablation/NAME.csv and .parquet for each label set, and experts for all labels together.
    """
    import specialize

    frame = specialize.ablate(
        model,
        run,
        documents=documents,
        singles=singles,
        layers=_read_numbers("layers", layers),
        experts=_read_numbers("experts", experts),
        labels=labels,
        top=top,
        random=random,
        rankings=rankings,
        mode=mode,
        seed=seed,
        permutations=permutations,
        **arguments(loading),
        batch_tokens=batch_tokens,
        reporter=TERMINAL,
    )
    if as_json:
        print_json(frame_records(frame[frame["expert"].isna()]))
    else:
        _print(frame)


def _read_numbers(name: str, given: str | None) -> list[int] | None:
    """Return the numbers of a list such as ``0,3``."""
    if given is None:
        return None
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise MeasurementError(f"--{name}: expected numbers such as 0,3, got {given!r}")
    return [int(part) for part in parts]


def _print(frame: "pd.DataFrame") -> None:
    alone = frame[frame["label"].isna() & frame["expert"].notna() & frame["metric"].isin(_PARTS)]
    if len(alone):
        means = alone.groupby(["layer", "metric"])["value"].agg(["mean", "max"]).unstack("metric")
        rows = [
            [
                f"{layer:g}",
                *(format_number(means.loc[layer, (how, metric)]) for metric in _PARTS for how in ("mean", "max")),
            ]
            for layer in means.index
        ]
        heads = [number(f"{name}\n{how}") for name in ("effect", "per use", "indirect") for how in ("mean", "largest")]
        print_table(
            "Rise of the loss with one expert switched off, in bits, over the experts", [number("layer"), *heads], rows
        )
    sets = frame[frame["expert"].isna() & (frame["metric"] == "effect_selectivity")]
    if len(sets):
        out.print()
        print_table(
            "Experts that lead a label switched off: effect on the label − on all others, in bits",
            [text("labels"), text("label"), number("selectivity"), number("random sets"), number("p")],
            [
                [name_label_set(row["label_set"]).long, row["label"], format_estimate(row),
                 f"{format_number(row['null_low'])} to {format_number(row['null_high'])}", format_row_p(row)]
                for _, row in sets.head(_MOST_SETS).iterrows()
            ],
        )  # fmt: skip
    means = frame[frame["metric"].isin(["per_use_agreement", "total_agreement"]) & frame["layer"].isna()]
    if len(means):
        out.print()
        print_table(
            "Rank correlation with the effects of switching experts off, mean over the layers",
            [text("of"), number("effect per use"), number("p"), number("total effect"), number("p")],
            [
                [_name(key), *_agreements(rows)]
                for key, rows in means.groupby(["label_set", "label"], sort=False, dropna=False)
            ],
        )


def _name(key: tuple[object, object]) -> str:
    label_set, score = key
    return str(score).replace("_", " ") if label_set == "score" else f"lift of {name_label_set(str(label_set)).noun}"


def _agreements(rows: "pd.DataFrame") -> list[str]:
    found = rows.drop_duplicates("metric").set_index("metric").reindex(["per_use_agreement", "total_agreement"])
    return [cell for _, row in found.iterrows() for cell in (format_estimate(row), format_row_p(row))]
