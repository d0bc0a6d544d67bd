"""Messages and progress of long work.

The library is silent by default. The command line shows bars and lines on stderr; a notebook or another program can
pass an object of its own with the two methods of `Reporter`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Progress = Callable[[int, int], None]  # called with (units done, units in all)


class Update(Protocol):
    """Shows the progress of a step."""

    def __call__(self, done: int, total: int, rate: str | None = None) -> None:
        """Show that `done` of `total` units are done, with a rate such as ``1,200 tokens/s`` if the step has one."""


class Reporter(Protocol):
    """Receives the messages and the progress of long work."""

    def say(self, message: str) -> None:
        """Receive one line: what is loaded, what was found, what is left out and why."""

    def progress(self, title: str, unit: str) -> AbstractContextManager[Update]:
        """Open a step, for instance ``("tracing", "documents")``; the context yields the function to call."""


class SilentReporter:
    """Ignores everything."""

    def say(self, message: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Yield a function that does nothing."""
        yield _ignore


def _ignore(done: int, total: int, rate: str | None = None) -> None:
    """Do nothing."""


SILENT: Reporter = SilentReporter()
