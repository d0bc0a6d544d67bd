"""The Ray engine: workers that each run one item at a time, are started again if they are killed, and end with it."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from specialize.engine import LOCAL, Engine
from specialize.errors import EngineError, first_line
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.scale.division import Division, divide_cluster
from specialize.scale.options import EngineOptions
from specialize.scale.worker import Mailbox, PostingReporter, Progress, Said, Setting, Worker, read_answer

if TYPE_CHECKING:
    from ray import ObjectRef

Item = TypeVar("Item")
Result = TypeVar("Result")
Receive = Callable[[int, Said | Progress], None]

_RESTARTS = 3  # of a worker that is killed, and so many times its item is tried again
_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_BEFORE_NOTE = 30.0
_PASSED_ON = ("SPECIALIZE_API_KEY",)  # variables that a cluster which runs already does not have


@contextmanager
def open_engine(options: EngineOptions, *, reporter: Reporter = SILENT) -> Iterator[Engine]:
    """Open the engine that is asked for; what it starts ends with the block.

    Args:
        options: which engine, and how many workers it has.
        reporter: receives how many workers there are, and what each has.

    Yields:
        `specialize.engine.LOCAL`, or a `RayEngine`.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: there is no cluster, or it has no room for the workers.
    """
    if not options.is_remote:
        yield LOCAL
        return
    with open_workers(options, reporter=reporter) as engine:
        yield engine


@contextmanager
def open_workers(options: EngineOptions, *, reporter: Reporter = SILENT) -> "Iterator[RayEngine]":
    """Open the Ray engine, with the arguments of `open_engine`.

    Within the block, stages of this process that ask for the engine get this one, whose workers have loaded their
    packages: an engine that is opened inside is the same.

    Raises:
        EngineError: as `open_engine`; or another one is open, with other workers than those that are asked for.
    """
    if _open:
        outer = _open[-1]
        outer.division.check(workers=options.workers, gpus_per_worker=options.gpus_per_worker)
        yield outer
        return
    require_extra("ray")
    from specialize.scale.cluster import connected

    with connected(options.address) as machines:
        division = divide_cluster(machines, workers=options.workers, gpus_per_worker=options.gpus_per_worker)
        reporter.say(f"ray: {division}")
        engine = RayEngine(division, reporter=reporter)
        _open.append(engine)
        try:
            yield engine
        finally:
            _open.remove(engine)
            engine.close()


class RayEngine:
    """Runs functions on the workers of a Ray cluster; use with `open_engine`.

    A worker is started when there is an item for it. One that is killed is started again with its item, several times;
    an exception that the function raises ends the work at once.

    Args:
        division: how many workers there are, and what each has.
        reporter: receives a note where workers are waited for.

    Attributes:
        division: how many workers there are, and what each has.
    """

    def __init__(self, division: Division, *, reporter: Reporter = SILENT) -> None:
        self.division = division
        self._reporter = reporter
        self._workers: list[Any] = []
        self._idle: deque[Any] = deque()
        self._starting: list[Any] = []
        self._since = time.monotonic()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield what the function returns for each item, in the order of the items.

        Raises:
            SpecializeError: that which the function raised in a worker.
            EngineError: a worker ends again and again, or cannot do this work.
        """
        return self._run(function, items, None)

    def map_reporting(
        self, function: Callable[[Item, Reporter], Result], items: Iterable[Item], receive: Receive
    ) -> Iterator[Result]:
        """Yield as `map` what the function returns, which is also given a reporter.

        Args:
            function: called with an item and a reporter.
            items: independent of one another.
            receive: called with the place of an item and what the function reported.
        """
        return self._run(function, items, receive)

    def close(self) -> None:
        """End all workers, whatever they do."""
        import ray

        for worker in self._workers:
            with suppress(Exception):  # it has ended already
                ray.kill(worker)
        self._workers, self._starting = [], []
        self._idle.clear()

    def _run(self, function: Callable[..., Any], items: Iterable[Any], receive: Receive | None) -> Iterator[Any]:
        import ray

        key, shipped = uuid4().hex, ray.put(_ship(function))
        mailbox: Any = None if receive is None else ray.remote(Mailbox).options(num_cpus=0).remote()
        waiting = enumerate(items)
        running: dict[ObjectRef, tuple[int, Any]] = {}
        found: dict[int, Any] = {}
        following = 0
        try:
            while True:
                # results that have to wait for an earlier one are few, however long that takes
                while len(running) < self.division.workers and len(found) < 4 * self.division.workers:
                    number, item = next(waiting, (-1, None))
                    if number < 0:
                        break
                    worker = self._idle.popleft() if self._idle else self._start_worker()
                    reporter = None if mailbox is None else PostingReporter(mailbox, number)
                    running[worker.run.remote(key, [shipped], item, reporter)] = number, worker
                if not running:
                    break
                done, _ = ray.wait(list(running), timeout=_SECONDS_BETWEEN_LOOKS)
                if receive is not None:
                    _deliver(mailbox, receive)
                self._note_waiting()
                for answer in done:
                    number, worker = running.pop(answer)
                    self._idle.append(worker)
                    found[number] = _take(answer)
                while following in found:
                    yield found.pop(following)
                    following += 1
        except EngineError:
            self.close()  # a worker may be lost, and keep its place
            raise
        finally:
            if running:
                self.close()  # they would go on
            if mailbox is not None:
                ray.kill(mailbox)

    def _start_worker(self) -> Any:
        import ray

        import specialize

        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        setting = Setting(os.getcwd(), self.division.cores, specialize.__version__, environment)
        has = {"num_cpus": self.division.cores, "num_gpus": self.division.gpus}
        kept = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
        worker: Any = ray.remote(Worker).options(**has, **kept).remote(setting)
        self._workers.append(worker)
        self._starting.append(worker.ready.remote())
        self._since = time.monotonic()
        return worker

    def _note_waiting(self) -> None:
        """Say once that workers do not start, because others use the cluster."""
        if not self._starting or time.monotonic() - self._since < _SECONDS_BEFORE_NOTE:
            return
        import ray

        _, late = ray.wait(self._starting, num_returns=len(self._starting), timeout=0)
        self._starting = []
        if late:
            free = ray.available_resources()
            self._reporter.say(
                f"ray: waiting for {len(late)} of {len(self._workers)} workers; the cluster has {free.get('CPU', 0):g} "
                f"cores and {free.get('GPU', 0):g} GPUs that nobody uses"
            )


_open: list[RayEngine] = []  # in this process; one at most


def _ship(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes, with what it refers to.

    Raises:
        EngineError: it refers to something that belongs to this process, such as an open file.
    """
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:  # every class has its own for what it cannot be
        raise EngineError(
            f"this cannot be sent to workers ({first_line(error)}); leave out the engine, or give files instead of "
            "objects"
        ) from None


def _deliver(mailbox: Any, receive: Receive) -> None:
    import ray

    try:
        messages = ray.get(mailbox.take.remote(), timeout=10)
    except ray.exceptions.RayError:  # progress is lost, but no work
        return
    for sender, message in messages:
        receive(sender, message)


def _take(answer: "ObjectRef") -> Any:
    """Return what a worker answered; raise what it raised."""
    import ray

    try:
        return read_answer(ray.get(answer))
    except ray.exceptions.RayTaskError:  # a fault of the code, with the traceback of the worker
        raise
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines and lines[-1].startswith("ModuleNotFoundError") else first_line(error)
        raise EngineError(
            f"a worker ended, and again each of {_RESTARTS} times that it was started anew ({reason}); often memory "
            "does not suffice: give fewer workers (workers)"
        ) from None
