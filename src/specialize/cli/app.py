"""The application that every module of commands adds to."""

import shlex
import sys

import typer

app = typer.Typer(
    name="specialize",
    help="Measure expert specialization in Mixture-of-Experts language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def command_line() -> str:
    """The command as it was given, for the provenance of what it makes."""
    return shlex.join(["specialize", *sys.argv[1:]])
