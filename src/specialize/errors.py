"""What can go wrong in a user's hands. Each message says what was expected, what came and what to do."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from specialize.addresses import show_text

_LONGEST_REASON = 300  # characters of what a foreign exception says
_FOREIGN = re.compile(r"\b\w+Exception: ")  # as in "Couldn't deserialize thrift: TProtocolException: Invalid data"
_LONGEST_COMPARED = 100  # characters; comparing takes the product of the lengths


class SpecializeError(Exception):
    """Base of every error that the command line prints as one line and ends with exit code 2."""

    def __str__(self) -> str:
        """Return the message, with addresses in place of the paths of their local copies."""
        return show_text(super().__str__())


class CorpusError(SpecializeError):
    """A corpus that cannot be read: missing, empty, of an unknown kind, or with an unreadable line."""


class CaptureError(SpecializeError):
    """A model whose routing cannot be captured."""


class TraceError(SpecializeError):
    """A routing trace that is missing, damaged, incomplete or of other settings."""


class AnnotationError(SpecializeError):
    """Labels that cannot be made or do not fit the trace."""


class MeasurementError(SpecializeError):
    """Arrays from which the asked-for quantity cannot be computed."""


class PlanError(SpecializeError):
    """A plan that cannot be made: a number out of range, or too little to plan from."""


class OutputError(SpecializeError):
    """A file that cannot be written: full disk, or no permission."""


class StoreError(SpecializeError):
    """An object store that cannot be reached, read or written, or whose contents another process changed."""


class ConfigError(SpecializeError):
    """A configuration file that is missing, malformed or contradicts itself."""


class TrainingError(SpecializeError):
    """A training run that diverged, ran out of memory, or whose files are damaged."""


class EngineError(SpecializeError):
    """Workers that cannot be started or reached, or that end again and again."""


class MissingExtraError(SpecializeError):
    """A package that is not installed, with the extra of `specialize` that brings it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name nearest to `name`, or an empty string."""
    if len(name) > _LONGEST_COMPARED:
        return ""
    close = get_close_matches(name, [each for each in known if len(each) <= _LONGEST_COMPARED], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def first_line(error: object) -> str:
    """Return the first line of what a foreign exception says, cut if it is long; its class where it says nothing.

    Names of exceptions that it passes on from other libraries are left out: they say nothing to a user.
    """
    line = _FOREIGN.sub("", (str(error).strip().splitlines() or [type(error).__name__])[0])
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def show_value(value: object, *, longest: int = 80) -> str:
    """Return the representation of a value that a user gave, cut off after `longest` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python does not write integers of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}…"
