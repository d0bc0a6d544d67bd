"""Notes and progress of the studies, as lines on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from specialize.events import Update
from specialize.text import strip_controls

_SECONDS_BETWEEN_LINES = 15.0


class LineReporter:
    """Prints notes, and the progress of a long step every 15 seconds; a `specialize.events.Reporter`."""

    def say(self, message: str) -> None:
        """Print a note."""
        print(strip_controls(message), file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Print the title of a step, and give a function that prints how much of it is done."""
        self.say(f"{title} …")
        printed = time.monotonic()

        def update(done: int, total: int, rate: str | None = None) -> None:
            nonlocal printed
            if time.monotonic() - printed >= _SECONDS_BETWEEN_LINES:
                printed = time.monotonic()
                self.say(f"{title}: {done:,} of {total:,} {unit}" + (f", {rate}" if rate else ""))

        yield update
