"""What runs in the process of a worker, and how its messages reach the process that drives it."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import gethostname
from typing import Any

from specialize.errors import EngineError, SpecializeError
from specialize.events import Update

_SECONDS_BETWEEN_UPDATES = 0.25
REPLACED = "note: a worker ended before its work was done, and was started again"
# Libraries that are not loaded yet read these; the tokenizers have a pool of their own, and numba, too.
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")


@dataclass(frozen=True)
class Setting:
    """What a worker takes over from the process that drives it.

    Attributes:
        folder: the working directory, so that a relative path means the same file.
        threads: of the libraries that have several.
        version: of this package.
        environment: further variables; never written anywhere.
    """

    folder: str
    threads: int
    version: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Said:
    """A line that a worker says."""

    text: str


@dataclass(frozen=True)
class Progress:
    """How far a step of a worker is."""

    title: str
    done: int
    total: int


class Mailbox:
    """An actor that keeps the messages of all workers until they are taken."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, Said | Progress]] = []

    def post(self, sender: int, message: Said | Progress) -> None:
        """Add a message of a sender."""
        self._messages.append((sender, message))

    def take(self) -> list[tuple[int, Said | Progress]]:
        """Return the messages since the last time, each with its sender."""
        messages, self._messages = self._messages, []
        return messages


class PostingReporter:
    """A `specialize.events.Reporter` whose messages go to a mailbox.

    Args:
        mailbox: handle of the actor.
        sender: number by which the messages are known.
    """

    def __init__(self, mailbox: Any, sender: int) -> None:
        self._mailbox, self._sender = mailbox, sender
        self._last: Any = None

    def say(self, message: str) -> None:
        """Post one line."""
        self._post(Said(message))

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Yield a function that posts how far a step is, a few times a second at most."""
        posted = 0.0

        def update(done: int, total: int, rate: str | None = None) -> None:
            nonlocal posted
            now = time.monotonic()
            if done == total or now - posted >= _SECONDS_BETWEEN_UPDATES:
                posted = now
                self._post(Progress(title, done, total))

        yield update

    def wait(self) -> None:
        """Return when everything that was posted has arrived; nothing is lost if the mailbox is."""
        import ray

        if self._last is not None:
            ray.wait([self._last], timeout=10)

    def _post(self, message: Said | Progress) -> None:
        self._last = self._mailbox.post.remote(self._sender, message)


class Worker:
    """An actor that runs a function on one item after another, and keeps the function with what it has loaded.

    Answers are bytes, so that arrays in them can be written to as those of one process.

    Args:
        setting: what it takes over from the process that drives it.
    """

    def __init__(self, setting: Setting) -> None:
        self._key, self._function = "", _no_function
        self._failure: EngineError | None = None
        try:
            _take_over(setting)
        except EngineError as error:
            self._failure = error

    @property
    def _is_replacement(self) -> bool:
        import ray

        return bool(ray.get_runtime_context().was_current_actor_reconstructed)

    def ready(self) -> int:
        """Return the number of the process, once it runs."""
        return os.getpid()

    def run(self, key: str, shipped: list[Any], item: Any, reporter: PostingReporter | None) -> bytes:
        """Return what the function makes of an item, or the user's error, as `read_answer` reads it.

        Args:
            key: of the function.
            shipped: a reference to the function, which is fetched unless it was the last one.
            item: its first argument.
            reporter: its second one, if it reports.
        """
        import ray
        from ray import cloudpickle

        try:
            if self._failure is not None:
                raise self._failure
            if key != self._key:
                self._key, self._function = "", _no_function  # the one before may hold a model
                self._function, self._key = _load(ray.get(shipped[0])), key
            if reporter is not None and self._is_replacement:
                reporter.say(REPLACED)
            result = self._function(item) if reporter is None else self._function(item, reporter)
        except SpecializeError as error:
            return bytes(cloudpickle.dumps(error.with_traceback(None)))
        finally:
            if reporter is not None:
                reporter.wait()
        return bytes(cloudpickle.dumps(_Result(result)))


def read_answer(answer: bytes) -> Any:
    """Return what a worker's function returned.

    Args:
        answer: what `Worker.run` returned.

    Raises:
        SpecializeError: that of the worker.
    """
    from ray import cloudpickle

    read = cloudpickle.loads(answer)
    if isinstance(read, SpecializeError):
        raise read
    return read.value


@dataclass(frozen=True)
class _Result:
    value: Any


def _no_function(*_: Any) -> None:
    raise RuntimeError("expected a function")


def _load(function: bytes) -> Callable[..., Any]:
    from ray import cloudpickle

    try:
        loaded: Callable[..., Any] = cloudpickle.loads(function)
    except ImportError as error:
        raise EngineError(
            f"a worker on {gethostname()} cannot load what it is to do ({error}); install the same packages on all "
            "machines"
        ) from None
    return loaded


def _take_over(setting: Setting) -> None:
    import specialize

    if specialize.__version__ != setting.version:
        raise EngineError(
            f"expected workers with specialize {setting.version}, got {specialize.__version__} on {gethostname()}; "
            "install the same packages on all machines"
        )
    try:
        os.chdir(setting.folder)
    except OSError as error:
        raise EngineError(
            f"{setting.folder}: a worker on {gethostname()} cannot enter it ({error.strerror or error}); start the "
            "command in a folder that all machines share"
        ) from None
    os.environ |= setting.environment
    os.environ |= {f"{name}_NUM_THREADS": str(setting.threads) for name in _THREADS}
    from threadpoolctl import threadpool_limits

    threadpool_limits(setting.threads)  # of libraries that are loaded already
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(setting.threads)
