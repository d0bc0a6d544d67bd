"""The windows that wait for an answer: of one shard, and of the next one once few are left."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from specialize.tracing.windows import Window

Answered = tuple[Window, NDArray[np.int16]]  # a window, with what was generated after it, and its experts
Ask = Callable[[Window], Awaitable[Answered]]


class ShardRequests:
    """The requests for the windows of one shard.

    Args:
        windows: in reading order.

    Attributes:
        windows: in reading order; each is replaced by the one that was answered.
        experts: int16 [layers, tokens, k] of each window that was answered.
        finished: numbers of the windows that were answered, in that order; whoever counts them takes them out.
        result: set when all are answered, or one could not be.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = list(windows)
        self.experts: list[NDArray[np.int16]] = [np.zeros((0, 0, 0), np.int16)] * len(windows)
        self.finished: deque[int] = deque()
        self.result: Future[None] = Future()
        self.result.set_running_or_notify_cancel()  # it is not cancelled, but left
        self._missing = len(windows)

    def take(self, index: int, answered: Answered) -> None:
        """Take the answer for a window."""
        self.windows[index], self.experts[index] = answered
        self.finished.append(index)
        self._missing -= 1
        if not self._missing and not self.result.done():
            self.result.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Say that a window could not be answered."""
        if not self.result.done():
            self.result.set_exception(error)


class RequestQueue:
    """Asks for one window after the other, some of them at a time, shard by shard.

    Args:
        ask: returns a window that was answered, with its experts.
        concurrency: largest number of requests at a time.
    """

    def __init__(self, ask: Ask, *, concurrency: int) -> None:
        self._ask = ask
        self._concurrency = concurrency
        self._waiting: deque[tuple[ShardRequests, int]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def add(self, shard: ShardRequests) -> None:
        """Add the windows of a shard in reading order, in which long and short ones keep the load even."""
        self._waiting.extend((shard, index) for index in range(len(shard.windows)))
        while len(self._workers) < min(self._concurrency, len(self._waiting)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._waiting:
            shard, index = self._waiting.popleft()
            try:
                shard.take(index, await self._ask(shard.windows[index]))
            except BaseException as error:  # whatever it is, whoever waits for the shard has to know
                shard.fail(error)
                self._waiting = deque(each for each in self._waiting if each[0] is not shard)
                if not isinstance(error, Exception):
                    raise
