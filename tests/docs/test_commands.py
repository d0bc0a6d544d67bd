"""Every command of the documentation is one that the application, make or pip would take."""

import re
import shlex
import tomllib

import pytest
import typer

from docs.snippets import ROOT, commands, name_of, pages
from specialize.cli.app import UsageError, app, load_commands

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
PLACEHOLDER = re.compile(r"(?<![\w-])(N|M)(?![\w-])")  # stands for a number
# Parts of a command that a sentence names, such as `specialize trace`.
NAMED_ALONE = re.compile(r"specialize(?: [a-z]+)?(?: --\w[\w-]*)?$")


@pytest.fixture(scope="module")
def group():
    load_commands()
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands(page, group):
    for command in commands(page):
        words = shlex.split(command)
        match words:
            case ["specialize", *rest]:
                check_specialize(group, rest, command)
            case ["make", target, *settings]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), command
                assert all(re.fullmatch(r"[A-Z]+=\S+", setting) for setting in settings), command
            case ["pip", "install", wanted]:
                extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", wanted)
                assert extras, command
                assert not extras[1] or set(extras[1].split(",")) <= EXTRAS.keys(), command
            case [".venv/bin/python", "-m", "http.server", *_]:
                pass
            case ["python" | ".venv/bin/python", script, *_] if (ROOT / script).is_file():
                pass
            case [".venv/bin/pytest" | ".venv/bin/ruff" | ".venv/bin/mypy", *rest]:
                files = [each for each in rest if "/" in each and not each.startswith("-")]
                assert all((ROOT / each).exists() for each in files), command
            case _:
                raise AssertionError(f"{name_of(page)}: expected a command that can be checked, got {command!r}")


def check_specialize(group, words, command):
    if not words or words[0].startswith("-"):
        assert set(words) <= {"--version", "-h", "--help"}, command
        return
    name, *rest = words
    if name == "COMMAND":
        return
    assert name in group.commands, f"{command}: expected one of {', '.join(group.commands)}"
    found = group.commands[name]
    if NAMED_ALONE.fullmatch(command):
        options = {option for each in found.params for option in (*each.opts, *each.secondary_opts)}
        assert {each for each in rest if each.startswith("-")} <= options | {"--help"}, command
        return
    given = [PLACEHOLDER.sub("3", each) if each not in ("MODEL", "FORMAT") else each for each in rest]
    try:
        found.make_context(name, given)
    except UsageError as error:
        raise AssertionError(f"{command}: {error}") from error


def test_commands_are_found_in_the_documentation():
    found = [command for page in pages() for command in commands(page)]
    assert len(found) > 50
    names = {shlex.split(command)[1] for command in found if command.startswith("specialize ")}
    load_commands()
    assert set(typer.main.get_command(app).commands) <= names, "every command is shown somewhere"
