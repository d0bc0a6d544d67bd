"""A reporter that remembers what it was told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from specialize.events import Update


class Step(NamedTuple):
    """One call of a progress callback."""

    title: str
    unit: str
    done: int
    total: int
    rate: str | None


class Listener:
    """Remembers notes and progress.

    Attributes:
        notes: the messages, in order.
        steps: the progress, in order.
        open: titles of the steps that are under way.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[Step] = []
        self.open: list[str] = []

    def say(self, message: str) -> None:
        self.notes.append(message)

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        self.open.append(title)

        def update(done: int, total: int, rate: str | None = None) -> None:
            self.steps.append(Step(title, unit, done, total, rate))

        try:
            yield update
        finally:
            self.open.remove(title)
