"""The command that exports a trace."""

from typing import Annotated

import typer

from specialize.addresses import show
from specialize.choices import ExportFormat
from specialize.cli.app import RECORD, add_command
from specialize.cli.console import TERMINAL, print_json, print_line
from specialize.cli.options import Json, Run, read_place
from specialize.cli.tables import number, print_table, text
from specialize.text import format_bytes


@add_command(RECORD)
def export(
    run: Run,
    *,
    to: Annotated[ExportFormat, typer.Option(help="What to write.")] = "parquet",
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", parser=read_place, help="Folder to write. Default: RUN/parquet."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trace as Parquet: documents, tokens with their text, and a row for each slot of each token."""
    import specialize

    folder = specialize.export(run, output, to=to, reporter=TERMINAL)
    files = sorted(folder.iterdir())
    if as_json:
        print_json({"folder": show(folder), "files": {path.name: path.stat().st_size for path in files}})
        return
    from pyarrow.parquet import read_metadata

    print_table(
        None,
        [text("file"), number("rows"), number("size")],
        [[path.name, f"{read_metadata(path).num_rows:,}", format_bytes(path.stat().st_size)] for path in files],
    )
    print_line(show(folder))
