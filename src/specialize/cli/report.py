"""The command that writes a report."""

from typing import Annotated

import typer

from specialize.addresses import show
from specialize.choices import PageFormat
from specialize.cli.app import SHOW, add_command, command_line
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Runs, read_place
from specialize.cli.written import print_report, stamps
from specialize.remote.places import folder_of
from specialize.text import split_names


@add_command(SHOW)
def report(
    runs: Runs,
    *,
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="DIR", parser=read_place, help="Folder of the page and figures/, or an address."
        ),
    ],
    page_format: Annotated[PageFormat, typer.Option("--format", help="A page, or Markdown for a repository.")] = "html",
    formats: Annotated[
        str, typer.Option("--figure-format", help="Of the figures on disk: of pdf, png and svg, separated by commas.")
    ] = "pdf,png",
    as_json: Json = False,
) -> None:
    """Draw the figures and write report.html, or report.md."""
    import specialize

    folder = folder_of(output)
    before = stamps(folder / "figures")
    page = specialize.report(
        runs,
        output,
        page_format=page_format,
        formats=split_names(formats),
        command=command_line(),
        reporter=TERMINAL,
    )
    if as_json:
        print_json({"report": show(page)})
    else:
        print_report(page, [path for path, _ in stamps(folder / "figures") - before])
