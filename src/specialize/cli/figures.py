"""The command that draws figures alone."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import SHOW, add_command, command_line
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Runs
from specialize.cli.written import print_figures
from specialize.text import split_names


@add_command(SHOW)
def figures(
    runs: Runs,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the figures.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this figure; * stands for anything. May be repeated."),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Of pdf, png and svg, separated by commas.")] = "pdf,png",
    as_json: Json = False,
) -> None:
    """Draw the figures of what was measured, each with its data (CSV) and its provenance (JSON)."""
    import specialize

    written = specialize.figures(
        runs, output, only=only, formats=split_names(formats), command=command_line(), reporter=TERMINAL
    )
    if as_json:
        print_json([str(path) for path in written])
    else:
        print_figures(written, output)
