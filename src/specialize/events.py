"""What long work tells about itself: notes and progress, to whoever listens.

The library is silent by default. The command line listens with bars and lines on stderr; a notebook or another program
may listen with an object of its own that has the two methods of `Reporter`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Progress = Callable[[int, int], None]  # called with (units done, units in all)


class Update(Protocol):
    """Shows how far a step is."""

    def __call__(self, done: int, total: int, rate: str | None = None) -> None:
        """Show that `done` of `total` units are done, at a rate such as ``1,200 tokens/s`` where the step knows it."""


class Reporter(Protocol):
    """Receives what long work has to tell."""

    def say(self, message: str) -> None:
        """Receive one line about what happens: what is loaded, found, left out."""

    def progress(self, title: str, unit: str) -> AbstractContextManager[Update]:
        """Open a step, for instance ``("tracing", "documents")``; the context gives the function to call."""


class SilentReporter:
    """Tells nobody."""

    def say(self, message: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Give a function that does nothing."""
        yield _ignore


def _ignore(done: int, total: int, rate: str | None = None) -> None:
    """Do nothing."""


SILENT: Reporter = SilentReporter()
