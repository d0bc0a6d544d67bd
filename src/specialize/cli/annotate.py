"""The command that measures labels of the user's own."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL
from specialize.cli.options import EngineOptions, Json, MeasureOptions, Run, SkipPositions, arguments, grouped
from specialize.cli.summary import print_summary


@add_command(MEASURE)
@grouped
def annotate(
    run: Run,
    *,
    measuring: MeasureOptions,
    scaling: EngineOptions,
    labels: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="FILE",
            help=".parquet .csv .tsv .jsonl: id (documents) or token (row numbers), and a column for each label set.",
        ),
    ],
    skip_positions: SkipPositions = 0,
    as_json: Json = False,
) -> None:
    """Take labels of your own, for documents or tokens, and measure how far routing is associated with them."""
    import specialize

    specialize.annotate(run, labels, **arguments(measuring, scaling), skip_positions=skip_positions, reporter=TERMINAL)
    print_summary([run], as_json=as_json)
