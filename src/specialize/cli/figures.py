"""The command that draws figures alone."""

from typing import Annotated

import typer

from specialize.addresses import show
from specialize.choices import FigureWidth
from specialize.cli.app import SHOW, add_command, command_line
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Runs, read_place
from specialize.cli.written import print_figures
from specialize.text import split_names


@add_command(SHOW)
def figures(
    runs: Runs,
    *,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="DIR", parser=read_place, help="Folder of the figures, or an address."),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this figure; * stands for anything. May be repeated."),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Of pdf, png and svg, separated by commas.")] = "pdf,png",
    width: Annotated[
        FigureWidth | None,
        typer.Option(help="Where they are printed: a column, a page, or a venue. By default each has its own width."),
    ] = None,
    titles: Annotated[bool, typer.Option(help="Titles; without them, a caption says what is drawn.")] = True,
    sheet: Annotated[bool, typer.Option("--sheet", help="All on one page, too: sheet.pdf and sheet.png.")] = False,
    as_json: Json = False,
) -> None:
    """Draw the figures of what was measured, each with its data (CSV) and its provenance (JSON)."""
    import specialize

    written = specialize.figures(
        runs,
        output,
        only=only,
        formats=split_names(formats),
        width=width,
        titles=titles,
        sheet=sheet,
        command=command_line(),
        reporter=TERMINAL,
    )
    if as_json:
        print_json([show(path) for path in written])
    else:
        print_figures(written, output)
