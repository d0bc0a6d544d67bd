"""The windows that wait for an answer: of one shard, and of the next one once few are left."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from specialize.trace import NO_EXPERT
from specialize.tracing.windows import Window

Ask = Callable[[Window], Awaitable[NDArray[np.int16]]]


class ShardRequests:
    """The requests for the windows of one shard.

    Args:
        windows: in reading order.
        num_layers: number of MoE layers.
        top_k: k.

    Attributes:
        windows: in reading order.
        counts: number of recorded tokens of each window.
        routing: int16 [tokens, k] of each layer, filled by and by.
        finished: numbers of the windows that were answered, in that order; whoever counts them takes them out.
        result: set when all are answered, or one could not be.
    """

    def __init__(self, windows: Sequence[Window], *, num_layers: int, top_k: int) -> None:
        self.windows = windows
        self.counts = np.array([window.num_recorded for window in windows])
        self.routing = [np.full((int(self.counts.sum()), top_k), NO_EXPERT, np.int16) for _ in range(num_layers)]
        self.finished: deque[int] = deque()
        self.result: Future[None] = Future()
        self.result.set_running_or_notify_cancel()  # it is not cancelled, but left
        self._starts = self.counts.cumsum() - self.counts
        self._missing = len(windows)

    def take(self, index: int, experts: NDArray[np.int16]) -> None:
        """Take the experts [tokens, layers, k] of a window."""
        place = slice(self._starts[index], self._starts[index] + self.counts[index])
        for layer, column in enumerate(self.routing):
            column[place] = experts[:, layer]
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
        ask: returns the experts of a window.
        concurrency: largest number of requests at a time.
    """

    def __init__(self, ask: Ask, *, concurrency: int) -> None:
        self._ask = ask
        self._concurrency = concurrency
        self._waiting: deque[tuple[ShardRequests, int]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def add(self, shard: ShardRequests) -> None:
        """Add the windows of a shard, the longest first, so that no long one is alone at the end."""
        lengths = np.array([len(window.token_ids) for window in shard.windows])
        self._waiting.extend((shard, int(index)) for index in np.argsort(-lengths, kind="stable"))
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
