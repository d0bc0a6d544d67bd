"""Commands that need no labels of their own: the routing of a run, and the differences of two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import out, print_json, progress, say
from specialize.cli.options import Json, Rule, Run, Seed, SlotRule
from specialize.errors import MeasurementError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from specialize.annotate.annotation import Annotation
    from specialize.trace import RoutingTrace

_PAIRS = ("coactivation", "transition")
_COLUMNS = {
    "load_entropy": "load entropy, bits",
    "load_peak": "max/mean",
    "dead_experts": "dead",
    "first_expert_repeats": "same first expert",
    "any_expert_repeats": "any expert shared",
    "flow_uncertainty_coefficient": "U(next | this)",
}


@app.command()
def routing(
    run: Run,
    rule: SlotRule = Rule.selection,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the nulls.")] = 200,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure load, co-activation, consecutive repeats and flow between layers. Needs no labels.

    Repeats are also given for each value of the labels that the corpus knows. Results: RUN/routing/routing.csv and
    .parquet, a row a quantity.
    """
    from specialize.measure.results import write_results
    from specialize.measure.routing import routing as measure_routing
    from specialize.trace import open_trace

    trace = open_trace(run)
    with progress("routing", "routers") as update:
        frame = measure_routing(
            trace,
            [each for each in known_annotations(trace).values() if each.level == "document"],
            rule=rule.value,
            draws=draws,
            seed=seed,
            progress=update,
        )
    csv, _ = write_results(frame, run / "routing", "routing")
    say(f"results: {csv}")
    if as_json:
        print_json(_records(frame[~frame["metric"].isin(_PAIRS)]))
    else:
        out.print(_routing_table(frame))


@app.command()
def compare(
    run: Run,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN_B]", help="A run of the same corpus. Default: --against-shadow.")
    ] = None,
    against_shadow: Annotated[
        bool, typer.Option("--against-shadow", help="Compare RUN's routers with the shadow routers beside them.")
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
    share of slots that agree. Without RUN_B, a model's routers are compared with the shadow routers beside them.
    """
    if against_shadow and other is not None:
        raise MeasurementError("expected RUN_B or --against-shadow, got both: leave one out")
    if margin is not None and not 0 < margin < float("inf"):
        raise MeasurementError(f"--margin: expected a number above 0, got {margin:g}")
    from specialize.measure.compare import compare as measure_difference
    from specialize.measure.matching import check_same_corpus
    from specialize.measure.results import write_results
    from specialize.trace import open_trace

    first = open_trace(run)
    second = None if other is None else open_trace(other)
    if second is not None:
        check_same_corpus(first, second)
    annotations = list(known_annotations(first).values()) if second is None else _common_annotations(first, second)
    with progress("comparing", "pairs of routers") as update:
        frame = measure_difference(first, second, annotations, rule=rule.value, margin=margin, progress=update)
    name = "against-shadow" if other is None else f"against-{other.resolve().name}"
    csv, _ = write_results(frame, output or run / "compare", name)
    say(f"results: {csv}")
    if as_json:
        print_json(_records(frame))
    else:
        out.print(_difference_table(frame))


def known_annotations(trace: "RoutingTrace") -> "dict[str, Annotation]":
    """The annotations stored in a run, and the usable label columns of its corpus, by name."""
    from specialize.annotate.columns import annotate_column, label_columns
    from specialize.annotate.store import list_annotations, load_annotation

    documents = trace.documents()
    known = {name: annotate_column(documents, name) for name in label_columns(documents)}
    return known | {name: load_annotation(trace, name) for name in list_annotations(trace)}


def _common_annotations(first: "RoutingTrace", second: "RoutingTrace") -> "list[Annotation]":
    """Annotations that are the same in both runs; says which differ."""
    import numpy as np

    from specialize.measure.matching import same_tokens

    one, two = known_annotations(first), known_annotations(second)
    alike = same_tokens(first, second)
    common = []
    for name in sorted(one.keys() & two.keys()):
        if not alike and "token" in (one[name].level, two[name].level):
            say(f"{name} is left out: the runs have different tokens")
        elif one[name].labels != two[name].labels or not np.array_equal(one[name].codes, two[name].codes):
            say(f"{name} is left out: the runs label it differently; copy the annotations of one to the other")
        else:
            common.append(one[name])
    return common


def _records(frame: "pd.DataFrame") -> list[dict[str, object]]:
    """Rows as JSON-serialisable mappings, missing values None."""
    records: list[dict[str, object]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return records


def _routing_table(frame: "pd.DataFrame") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="Routing, with 95 % intervals; below repeats: in random order, and p",
        title_justify="left", box=None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    table.add_column("layer", justify="right", no_wrap=True)
    for column in _COLUMNS.values():
        table.add_column(column, justify="right", overflow="fold")
    whole = frame[frame["expert"].isna() & (frame["label_set"].isna() | (frame["label_set"] == "next_router"))]
    several = whole.groupby(["routing", "layer"])["router"].nunique().max() > 1
    for (routing, layer, router), rows in whole.groupby(["routing", "layer", "router"], sort=False):
        named = f"{layer} {router}" if several else str(layer)
        cells = rows.set_index("metric")
        table.add_row(
            escape(named) + (" shadow" if routing == "shadow" else ""), *(_cell(cells, metric) for metric in _COLUMNS)
        )
    return table


def _cell(rows: "pd.DataFrame", metric: str) -> str:
    if metric not in rows.index or rows.loc[metric, "value"] != rows.loc[metric, "value"]:
        return "–"
    row = rows.loc[metric]
    if row["unit"] == "count":
        return f"{row['value']:.0f}"
    text = _interval(row)
    if metric.endswith("repeats") and row["p_value"] == row["p_value"]:
        text += f"\n{row['null_mean']:.3f}, p = {row['p_value']:.3g}"
    return text


def _interval(row: "pd.Series") -> str:
    if row["ci_low"] != row["ci_low"]:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]".replace("-", "−")


def _difference_table(frame: "pd.DataFrame") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(f"{frame['run'].iloc[0]}: differences with 95 % intervals (equivalence: 90 %)"),
        title_justify="left", box=None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    for column in ("routing", "layer", "labels", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("value", "unit", "p"):
        table.add_column(column, justify="right", overflow="fold")
    several = frame.groupby(["routing", "layer"])["router"].nunique().max() > 1
    for _, row in frame.iterrows():
        p_value = "–" if row["p_value"] != row["p_value"] else f"{row['p_value']:.3g}"
        if row["metric"].startswith("saturation"):
            p_value = f"chance {row['null_mean']:.3f}"
        labels = "" if row["label_set"] != row["label_set"] else str(row["label_set"])
        layer = "all" if row["layer"] is None or str(row["layer"]) == "<NA>" else str(row["layer"])
        named = f"{layer} {row['router']}" if several and layer != "all" else layer
        table.add_row(
            row["routing"], escape(named), escape(labels), row["metric"], escape(_interval(row)), row["unit"], p_value
        )
    return table
