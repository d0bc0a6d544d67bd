"""What the command line shows: results on stdout, everything else on stderr.

Much of it comes from a corpus, a model or a path. A terminal obeys escape sequences and Rich obeys markup, so neither
is let through.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from specialize.events import Update
from specialize.rate import Rate
from specialize.text import strip_controls

# a pipe has no width: give tables room instead of cutting them at 80 columns
out = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_OF_RATE = 30.0


def print_line(text: object) -> None:
    """Print a result that is one line, such as a path, which is not broken and can be copied."""
    out.print(Text(strip_controls(str(text))), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a result for a program to read; what a terminal would obey is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    escaped = re.sub(r"[^\n -~]", lambda match: match[0] if match[0].isprintable() else _escape(match[0]), text)
    sys.stdout.write(escaped + "\n")


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def say(message: str) -> None:
    """Print one line about what happens to stderr."""
    err.print(Text(strip_controls(message)), soft_wrap=True)


@contextmanager
def progress(title: str, unit: str) -> Iterator[Update]:
    """Show how far a long step is: a bar with a rate and the time left, or plain lines where there is no terminal.

    Yields:
        A function to call with (done, total) and, when it is known better, ``rate`` as text.
    """
    if err.is_terminal:
        columns = (
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=err) as bars:
            task = bars.add_task(strip_controls(title), total=None, rate="")
            clock = _Clock(unit)

            def update(done: int, total: int, rate: str | None = None) -> None:
                bars.update(task, completed=done, total=total, rate=rate or clock.rate(done))

            yield update
        return
    clock = _Clock(unit)
    last = time.monotonic()
    say(f"{title} …")

    def print_progress(done: int, total: int, rate: str | None = None) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{title}: {done:,} of {total:,} {unit}, {rate or clock.rate(done)}, {clock.left(done, total)} left")

    yield print_progress


class TerminalReporter:
    """Shows notes and progress of the library on stderr, a `specialize.events.Reporter`."""

    say = staticmethod(say)
    progress = staticmethod(progress)


TERMINAL = TerminalReporter()


class _Clock:
    """Speed over the last half minute, in which what a resumed run finds done is soon forgotten."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.done = 0
        self.speed = Rate(_SECONDS_OF_RATE)

    def rate(self, done: int) -> str:
        return f"{self._per_second(done):,.1f} {self.unit}/s"

    def left(self, done: int, total: int) -> str:
        per_second = self._per_second(done)
        return f"{(total - done) / per_second:,.0f} s" if per_second > 0 else "?"

    def _per_second(self, done: int) -> float:
        self.speed.count(done - self.done)
        self.done = done
        return self.speed.value
