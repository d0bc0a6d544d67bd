"""The command that checks a trace."""

from typing import TYPE_CHECKING

import typer

from specialize.cli.app import RECORD, add_command
from specialize.cli.console import print_json, print_line
from specialize.cli.options import Json, Run
from specialize.cli.tables import number, print_table, text

if TYPE_CHECKING:
    from specialize.trace.validate import Check


@add_command(RECORD)
def validate(run: Run, *, as_json: Json = False) -> None:
    """Check a trace against its manifest: presence, checksums, counts. Exits with status 1 if something is wrong.

    The `specialize trace` command of the run, given again with --repair, writes damaged or missing files again.
    """
    import specialize

    checks = specialize.validate(run)
    wrong = [check for check in checks if check.problem]
    if as_json:
        names = ("file", "problem", "rows", "note")
        print_json([{name: getattr(check, name) for name in names} for check in checks])
    else:
        print_table(
            None,
            [text("file"), number("rows"), text("state")],
            [[check.file, f"{check.rows:,}", check.problem or check.note or "ok"] for check in checks],
        )
        print_line(f"{run}: {_summarise(checks)}")
    if wrong:
        raise typer.Exit(1)


def _summarise(checks: "list[Check]") -> str:
    wrong = [check.file for check in checks if check.problem]
    if not wrong:
        return f"{len(checks)} files, all as the manifest says"
    summary = f"{len(wrong)} of {len(checks)} files not as the manifest says"
    if wrong == ["manifest.json"]:
        return summary
    return f"{summary}; its `specialize trace` command, given again with --repair, writes them again"
