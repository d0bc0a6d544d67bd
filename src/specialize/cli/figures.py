"""The command that draws figures alone."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import app, command_line
from specialize.cli.console import print_json, say
from specialize.cli.options import Json
from specialize.cli.written import print_figures


@app.command()
def figures(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are drawn side by side.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the figures.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this figure; * stands for anything. May be given several times."),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Of pdf, png and svg, separated by commas.")] = "pdf,png",
    as_json: Json = False,
) -> None:
    """Draw the figures of what was measured, each with its data (CSV) and how it came about (JSON)."""
    say("drawing …")
    from specialize.reporting.figures import draw_figures

    kinds = [kind.strip() for kind in formats.split(",") if kind.strip()]
    written = draw_figures(runs, output, only=only or (), formats=kinds, command=command_line())
    if as_json:
        print_json([str(path) for path in written])
    else:
        print_figures(written, output)
