"""Where independent pieces of work run: one after the other in this process, or on workers (`specialize.scale`)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a function on independent items."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what the function returns for each item, in the order of the items.

        Args:
            function: may be called in other processes, where what it refers to is a copy; each of them may keep the
                function for several items.
            items: independent of one another.
        """


class LocalEngine:
    """Runs one item after the other in this process, each when its result is asked for."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what the function returns for each item."""
        return map(function, items)


LOCAL: Engine = LocalEngine()
