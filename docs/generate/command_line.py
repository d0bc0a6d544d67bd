"""The command reference: every command of the application, with its arguments, options and defaults."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

_INTRODUCTION = """# Command line

This page is generated from the application. `specialize COMMAND --help` shows the same.

Results are printed to stdout as tables, or as JSON with `--json`. Progress and notes are printed to stderr. User errors
print one line to stderr and exit with status 2; `specialize validate` exits with status 1 when a file is damaged.
"""
_KINDS = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command.

    Attributes:
        names: the option as it is written, ``-o, --output``; empty for an argument.
        value: what stands for its value; empty for a flag.
        default: as a user would write it; empty where there is none.
        required: whether the command fails without it.
        panel: the heading that it is shown under.
        help: its description.
    """

    names: tuple[str, ...]
    value: str
    default: str
    required: bool
    panel: str
    help: str


def application() -> Any:
    """Return the application with all its commands, as click sees it."""
    from specialize.cli.app import app, load_commands

    load_commands()
    return typer.main.get_command(app)


def page() -> str:
    """Return the Markdown of the page."""
    commands = application().commands
    lines = [_INTRODUCTION, "`specialize --version` prints the version; `-h` and `--help` work everywhere.", ""]
    panels: dict[str, list[str]] = {}
    for name, command in commands.items():
        panels.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(name)
    lines += ["| | Command | What it does |", "|---|---|---|"]
    for panel, names in panels.items():
        for name in names:
            first = f"**{panel}**" if name == names[0] else ""
            lines.append(f"| {first} | [`{name}`](#{name}) | {_cell(_first_sentence(commands[name].help))} |")
    for name, command in commands.items():
        lines += ["", *_section(name, command)]
    return "\n".join(lines) + "\n"


def parameters(command: Any) -> list[Parameter]:
    """Return arguments and options of a command, in its order."""
    annotations = inspect.signature(command.callback, eval_str=True).parameters
    shown = (each for each in command.params if not getattr(each, "hidden", False))
    return [_parameter(each, annotations[each.name].annotation) for each in shown]


def _parameter(given: Any, annotation: Any) -> Parameter:
    is_option = given.param_type_name == "option"
    kinds = _kinds(annotation)
    is_flag = is_option and kinds == [bool]
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    value = "|".join(map(str, choices)) or given.metavar or next((_KINDS[kind] for kind in kinds if kind in _KINDS), "")
    return Parameter(
        names=(*sorted(given.opts, key=len), *given.secondary_opts) if is_option else (),
        value="" if is_flag else value,
        default=_default(given, is_flag=is_flag),
        required=bool(given.required),
        panel=getattr(given, "rich_help_panel", None) or ("Options" if is_option else "Arguments"),
        help=given.help or "",
    )


def _kinds(annotation: Any) -> list[Any]:
    """The types that a value can have, without None; those of the members of a list."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal or not get_args(annotation):
        return [] if annotation is NoneType else [annotation]
    return [kind for member in get_args(annotation) for kind in _kinds(member)]


def _default(given: Any, *, is_flag: bool) -> str:
    value = given.default
    if is_flag:
        return (given.opts if value else given.secondary_opts)[0] if given.secondary_opts else ""
    return "" if value is None or given.required or value in ((), []) else str(value)


def _section(name: str, command: Any) -> list[str]:
    of_command = parameters(command)
    required = [_usage(each) for each in of_command if not each.names]
    required += [f"{each.names[0]} {each.value}" for each in of_command if each.names and each.required]
    lines = [f"## `{name}` {{ #{name} }}", "", *_help(command.help), ""]
    lines += ["```text", " ".join(["specialize", name, *required, "[OPTIONS]"]), "```"]
    panels: dict[str, list[Parameter]] = {}
    for each in of_command:
        panels.setdefault(each.panel, []).append(each)
    ordered = sorted(panels, key=lambda panel: (panel != "Arguments", panel == "Options"))  # those of all come last
    for panel in ordered:
        lines += ["", f"**{panel}**", "", *_table(panels[panel])]
    return lines


def _usage(argument: Parameter) -> str:
    return argument.value if argument.required or argument.value.startswith("[") else f"[{argument.value}]"


def _help(text: str | None) -> list[str]:
    r"""Paragraphs of a docstring; one that begins with \b keeps its lines."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        if paragraph.startswith("\b"):
            lines += ["```text", paragraph.removeprefix("\b").strip("\n"), "```", ""]
        else:
            lines += [_escape(" ".join(paragraph.split())), ""]
    return lines[:-1]


def _table(members: Iterable[Parameter]) -> list[str]:
    lines = ["| Name | Default | Description |", "|---|---|---|"]
    for each in members:
        names = ", ".join(f"`{name}`" for name in each.names)
        value = f"`{each.value}`" if each.value else ""
        default = "required" if each.required else f"`{each.default}`" if each.default else ""
        lines.append(f"| {' '.join(filter(None, (names, value)))} | {default} | {_cell(each.help)} |")
    return lines


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.])(?<!al\.)\s", paragraph)[0]


def _cell(text: str) -> str:
    return _escape(" ".join(text.split())).replace("|", "\\|")


def _escape(text: str) -> str:
    return text.replace("*", "\\*").replace("<", "&lt;").replace("[", "\\[")
