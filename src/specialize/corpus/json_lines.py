"""Parsing JSON that others wrote: whatever is wrong with it is a ValueError that says so."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return a JSON value.

    Raises:
        ValueError: it is broken or nested too deeply, an object has a key twice, of which only the last value would
            remain, or an integer has thousands of digits; the message can follow "got".
    """
    with _explaining():
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8-sig"))


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a character, and the character after it.

    Raises:
        BrokenJsonError: it is broken, or goes on after the end of the text.
        ValueError: as `parse_json`.
    """
    with _explaining():
        value, end = _DECODER.raw_decode(text, start)
        return value, end


class BrokenJsonError(ValueError):
    """JSON that is broken, or not whole.

    Attributes:
        place: the character where it is broken.
        reason: what is wrong there.
    """

    def __init__(self, error: json.JSONDecodeError) -> None:
        super().__init__(f"broken JSON ({error.msg}, column {error.colno})")
        self.place = error.pos
        self.reason = error.msg


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        raise BrokenJsonError(error) from None
    except RecursionError:
        raise ValueError("one nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("text that is not UTF-8") from None
    except _RepeatedKeyError:
        raise
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise ValueError("an integer of thousands of digits; write it as a string") from None


class _RepeatedKeyError(ValueError):
    pass


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in row if keys.count(key) > 1)
        raise _RepeatedKeyError(f"one with the key {twice!r:.60} twice")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_make_object)
