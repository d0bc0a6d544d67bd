"""The command that joins the parts of a trace."""

from typing import Annotated

import typer

from specialize.cli.app import RECORD, add_command, command_line
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Output, read_place
from specialize.cli.written import describe_trace, print_trace

Parts = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", parser=read_place, help="All parts of a trace, or their addresses, in any order."),
]


@add_command(RECORD)
def merge(runs: Parts, *, output: Output, as_json: Json = False) -> None:
    """Join the parts of a trace, made with --shard, into the run that a single process would have made."""
    import specialize

    opened = specialize.merge(runs, output, command=command_line(), reporter=TERMINAL)
    if as_json:
        print_json(describe_trace(opened))
    else:
        print_trace(opened)
