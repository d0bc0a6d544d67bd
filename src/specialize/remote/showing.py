"""Messages that name addresses in place of the paths of copies."""

from contextlib import AbstractContextManager

from specialize.addresses import show_text
from specialize.events import Reporter, Update


def showing(reporter: Reporter) -> Reporter:
    """Return a reporter whose messages name addresses in place of the paths of copies."""
    return _Showing(reporter)


class _Showing:
    """Passes messages and progress on, with addresses in place of the paths of copies."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def say(self, message: str) -> None:
        self._reporter.say(show_text(message))

    def progress(self, title: str, unit: str) -> AbstractContextManager[Update]:
        return self._reporter.progress(show_text(title), unit)
