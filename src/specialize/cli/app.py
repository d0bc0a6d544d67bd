"""The application that every command is added to."""

import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from specialize.errors import did_you_mean

RECORD, MEASURE, SHOW, ALL, TRAIN = "Record routing", "Measure", "Show", "All at once", "Train"
_MODULES = (  # in the order of the work, which is that of `specialize --help`
    *("inspect", "plan", "trace", "merge", "import_", "export", "validate"),
    *("syntax", "topics", "annotate", "routing", "vocabulary", "probe", "compare", "affinity", "ablate"),
    *("report", "figures", "run", "demo", "train"),
)

# click's, or typer's own copy of it
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="specialize",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(given: bool) -> None:
    if given:
        from specialize import __version__

        sys.stdout.write(f"specialize {__version__}\n")
        raise typer.Exit


@app.callback()
def specialize(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure expert specialization in Mixture-of-Experts language models.

    Results go to stdout (--json for programs), progress to stderr. User errors print one line and exit with status 2.
    """


def load_commands() -> None:
    """Add all commands to the application."""
    for name in _MODULES:
        import_module(f"specialize.cli.{name}")


def command_line() -> str:
    """The command as it was given, for the provenance of what it makes."""
    return shlex.join(["specialize", *sys.argv[1:]])


def add_command(panel: str, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a command to a panel of the help."""
    return app.command(name, rich_help_panel=panel)


def describe_usage_error(error: Any) -> str:
    """Return the message of an error in the options as one line; empty where the help was shown instead."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    context = getattr(error, "ctx", None)
    message = " ".join(str(error.format_message()).replace("Value error, ", "").split())
    if message.startswith("No such command") and context is not None:
        given = message.split("'")[1]
        message = message.split(". ")[0].rstrip(".") + "." + did_you_mean(given, context.command.commands)
    where = f"{context.command_path} --help" if context is not None else "specialize --help"
    return f"{message.rstrip()} See `{where}`."
