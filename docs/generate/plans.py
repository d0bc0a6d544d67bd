"""The plans of docs/how-to/plan-a-run.md, made by the commands above them.

    python docs/generate/plans.py

writes what each command prints between the markers that follow it. tests/docs checks that the page is what this gives.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "plan-a-run.md"
_PLAN = re.compile(
    r"(?P<command>```bash\nspecialize (?P<words>plan [^`]*?)\n```\n\n<!-- plan: [\w-]+ -->\n).*?(?=<!-- end -->)",
    re.DOTALL,
)


def insert(page: str, run: Callable[[Sequence[str]], str]) -> str:
    """Return a page with the outputs of its commands.

    Args:
        page: the Markdown.
        run: returns what a command prints, given its words without the first.
    """

    def fill(match: re.Match[str]) -> str:
        printed = run(shlex.split(match["words"].replace("\\\n", " ")))
        lines = [line.rstrip() for line in printed.rstrip().splitlines()]
        return match["command"] + "```text\n" + "\n".join(lines) + "\n```\n"

    return _PLAN.sub(fill, page)


def run_command(words: Sequence[str]) -> str:
    """Return what a command prints."""
    command = [sys.executable, "-m", "specialize", *words]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), run_command), encoding="utf-8")
