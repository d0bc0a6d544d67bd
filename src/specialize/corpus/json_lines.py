"""Parsing JSON that others wrote: whatever is wrong with it is a ValueError that says so."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return a JSON value.

    Raises:
        ValueError: it is broken or nested too deeply, an object has a key twice, of which only the last value would
            remain, or an integer has thousands of digits; the message can follow "got".
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON ({error.msg}, column {error.colno})") from None
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
