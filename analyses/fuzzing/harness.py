"""What a fuzz target is, and what happens to one input: read, refused with one clear line, or a finding."""

import resource
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest.mock import patch

from specialize.errors import SpecializeError
from specialize.text import strip_controls

SEPARATOR = b"\0\xff<next>\xff\0"  # between the files of one input
LONGEST_MESSAGE = 1500  # characters
MOST_SECONDS = 3.0  # of processor time for one input
MOST_MEMORY = 512 * 2**20  # bytes by which one input of a few kB may enlarge the process

_NOT_SHOWN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # by Python, by default


class BrokenPromise(Exception):
    """A reader returned something that its documentation excludes."""


def require(holds: object, promise: str, got: object = "") -> None:
    """Raise BrokenPromise unless a promise holds; `promise` is the same for all inputs, `got` is not."""
    if not holds:
        raise BrokenPromise(promise, f"{got!r:.200}")


@dataclass(frozen=True)
class Target:
    """Readers of foreign bytes that are fuzzed together.

    Attributes:
        name: name of the target.
        what: what is read, in one line.
        seeds: returns valid inputs, made by code, by name.
        read: gives an input to the public readers, with files in an empty folder; checks what they return. It may raise
            SpecializeError; everything else is a finding.
        mutate: returns a changed input; None for changes of bytes alone.
        tokens: byte strings that are worth inserting.
    """

    name: str
    what: str
    seeds: Callable[[], Mapping[str, bytes]]
    read: Callable[[bytes, Path], None]
    mutate: Callable[[bytes, Random], bytes] | None = None
    tokens: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What went wrong with an input.

    Attributes:
        key: type of the exception and place in the code; findings of the same key are counted as one.
        details: the traceback.
    """

    key: str
    details: str = field(compare=False)


@dataclass(frozen=True)
class Outcome:
    """What became of an input: read, refused (with its message), or a finding."""

    message: str | None = None
    finding: Finding | None = None

    @property
    def accepted(self) -> bool:
        """Whether the input was read."""
        return self.message is None and self.finding is None


def attempt(target: Target, data: bytes, folder: Path) -> Outcome:
    """Give an input to a target in an empty folder, which is emptied afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    memory, began = _peak_memory(), time.process_time()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            message, finding = None, None
            try:
                target.read(data, folder)
            except SpecializeError as error:
                message, finding = str(error), _check_message(error, folder)
        outcome = Outcome(message, finding or _check_warnings(warned))
    except Exception as error:
        outcome = Outcome(finding=Finding(_key_of(error), traceback.format_exc()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds, grown = time.process_time() - began, _peak_memory() - memory
    if outcome.finding is None and seconds > MOST_SECONDS:
        return Outcome(finding=Finding("slow", f"{seconds:.1f} s of processor time; {outcome.message}"))
    if outcome.finding is None and grown > MOST_MEMORY:
        return Outcome(finding=Finding("memory", f"{grown / 2**20:.0f} MiB more; {outcome.message}"))
    return outcome


def _check_warnings(warned: list[warnings.WarningMessage]) -> Finding | None:
    """Return the first warning as a finding: it would be shown on the terminal, in the words of a library."""
    shown = [each for each in warned if not issubclass(each.category, _NOT_SHOWN)]
    if not shown:
        return None
    first = shown[0]
    place = f"{Path(first.filename).name}:{first.lineno}"
    return Finding(f"{first.category.__name__} at {place}", str(first.message))


def _check_message(error: SpecializeError, folder: Path) -> Finding | None:
    message = strip_controls(str(error))
    place = _place_of(error)
    if not message.strip():
        return Finding(f"empty message at {place}", traceback.format_exc())
    if len(message.replace(str(folder), "")) > LONGEST_MESSAGE:
        return Finding(f"long message at {place}", f"{len(message):,} characters: {message[:300]!r}")
    return None


def _key_of(error: Exception) -> str:
    if isinstance(error, BrokenPromise):
        return f"promise: {error.args[0]}"
    return f"{type(error).__name__} at {_place_of(error)}"


def _place_of(error: Exception) -> str:
    """Return the last line of specialize that an exception passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/specialize/" in frame.filename and "/analyses/" not in frame.filename]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def without_slow_parts() -> Iterator[None]:
    """Leave out what every import does and no input changes: asking git for the commit, and syncing to disk."""
    with (
        patch("specialize.trace.imports.run.versions", dict),
        patch("os.fsync", lambda number: None),
    ):
        yield


def join(kind: int, option: int, *members: bytes) -> bytes:
    """Return the input of these files: a byte for their kind, one for the options, and their contents."""
    return bytes([kind, option]) + SEPARATOR.join(members)


def split(data: bytes) -> tuple[int, int, list[bytes]]:
    """Return kind, option and contents of the files of an input."""
    head = data[:2].ljust(2, b"\0")
    return head[0], head[1], data[2:].split(SEPARATOR)
