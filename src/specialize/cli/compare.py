"""The command that compares two runs, or a run with its random routers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, out, print_json
from specialize.cli.options import Json, Rule, Run, read_place
from specialize.cli.tables import (
    Column,
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

_COMPARED = {
    "mutual_information": "I(expert; label), bits",
    "uncertainty_coefficient": "U, share of H(label)",
    "load_entropy": "load entropy, bits",
    "first_expert_repeats": "same first expert, share",
    "any_expert_repeats": "any same expert, share",
}
_BESIDE = {"first_expert_agreement": "same first\nexpert", "mismatched_tokens": "tokens with\nother experts"}
_LEAST = 10  # layers and labels that agree least
_DIGITS = 4  # of agreement, which may be near 1


@add_command(MEASURE)
def compare(
    run: Run,
    other: Annotated[
        str | None,
        typer.Argument(metavar="RUN_B", parser=read_place, help="A run of the same corpus. Default: --against-random."),
    ] = None,
    *,
    against_random: Annotated[
        bool, typer.Option("--against-random", help="Compare RUN's routers with the random routers beside them.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", parser=read_place, help="Folder to write. Default: RUN/compare."),
    ] = None,
    rule: Rule = "selection",
    margin: Annotated[
        float | None,
        typer.Option(help="Also test that differences lie within plus and minus this, in the unit of each metric."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how the routing of two runs of one corpus differs, RUN minus RUN_B, paired by blocks of documents.

    Compared are information and U of every annotation that both runs hold, how similar documents of one label are,
    load entropy, repeats, caches, what the layer before and the token id predict, and saturation: the share of slots
    that agree, by layer and by label. Without RUN_B, a model's routers are compared with the random routers beside
    them.
    """
    if against_random and other is not None:
        raise MeasurementError("expected RUN_B or --against-random, got both: leave one out")
    import specialize

    frame = specialize.compare(run, other, output=output, rule=rule, margin=margin, reporter=TERMINAL)
    if as_json:
        print_json(frame_records(frame))
    else:
        _print_differences(frame, margin)


def _print_differences(frame: "pd.DataFrame", margin: float | None) -> None:
    where = router_columns(frame)
    title, routing = frame["run"].iloc[0], frame["routing"].iloc[0]
    if frame["routing"].nunique() == 1 and routing != "learned":
        title = f"{title}, {routing}"
    if (frame["metric"] == "saturation").any():
        _print_agreement(frame, title, where)
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


def _print_agreement(frame: "pd.DataFrame", title: str, where: "Mapping[str, Column]") -> None:
    """Print how far the runs agree by layer, and the layers and labels in which they agree least."""
    overall, names = frame[frame["label_set"].isna()], list(where)
    beside = {
        (row["metric"], *_place(row[names])): format_estimate(row, digits=_DIGITS)
        for _, row in overall[overall["metric"].isin(_BESIDE)].iterrows()
    }
    rows = []
    for _, row in overall[overall["metric"] == "saturation"].iterrows():
        place = _place(row[names])
        others = [beside.get((metric, *place), "") for metric in _BESIDE]
        rows.append([*place, format_estimate(row, digits=_DIGITS), format_number(row["null_mean"]), *others])
    for _, row in overall[overall["metric"] == "mismatched_tokens_in_any_layer"].iterrows():
        rows.append([*_place(row[names], whole="any"), "", "", "", format_estimate(row, digits=_DIGITS)])
    columns = [*where.values(), number("saturation"), number("by chance"), *map(number, _BESIDE.values())]
    print_table(f"{title}: saturation, the share of slots that agree, with 95 % intervals", columns, rows)
    out.print()
    labelled = frame[(frame["metric"] == "saturation") & frame["label_set"].notna() & (frame["routing"] == "learned")]
    least = labelled[labelled["value"] < 1].sort_values(["ci_high", "value"], kind="stable").head(_LEAST)
    if len(least):
        print_table(
            f"{title}: layers and labels that agree least, by the upper end of the interval",
            [*where.values(), text("labels"), text("label"), number("saturation")],
            [
                [*_place(row[names]), row["label_set"], row["label"], format_estimate(row, digits=_DIGITS)]
                for _, row in least.iterrows()
            ],
        )
        out.print()


def _place(cells: "pd.Series", *, whole: str = "mean") -> list[str]:
    """Layer, router and routing of a row; what belongs to no layer is the mean over all, or `whole`."""
    known = cells.notna()
    return [str(cell) if known[name] else whole if name == "layer" else "" for name, cell in cells.items()]


def _difference(row: "pd.Series") -> list[str]:
    metric = row["metric"].rsplit(" of ", maxsplit=1)[1]
    labels = "" if row["label_set"] != row["label_set"] else row["label_set"]
    return [labels, _COMPARED.get(metric, metric), format_estimate(row), format_p(row["p_value"])]
