"""The command that runs the embedded default."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import ALL, add_command, command_line
from specialize.cli.console import TERMINAL, say
from specialize.cli.options import Json
from specialize.cli.summary import print_summary


@add_command(ALL)
def demo(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")] = Path(
        "demo-report"
    ),
    limit: Annotated[int | None, typer.Option(min=50, help="Read at most so many documents.")] = None,
    as_json: Json = False,
) -> None:
    """Run everything on two small checkpoints that come with the package, over Wikipedia articles."""
    from specialize.pipeline.demo import demo as run_demo

    runs, page = run_demo(output, limit=limit, command=command_line(), reporter=TERMINAL)
    print_summary(runs, as_json=as_json)
    say(f"report: {page}")
