"""The mark of an estimate for which there is too little data, in the description of its interval."""

import re

_MARK = re.compile(r"unreliable, too little data \(([^)]*)\)")


def mark_shortage(ci_kind: str | None, shortage: str) -> str:
    """Return the kind of an interval (None if there is none), marked with why there is too little data for it."""
    return f"unreliable, too little data ({shortage})" + ("" if ci_kind is None else f": {ci_kind}")


def read_shortage(ci_kind: object) -> str:
    """Return why there is too little data, as the kind of the interval says; an empty string where there is enough."""
    marked = _MARK.match(ci_kind) if isinstance(ci_kind, str) else None
    return marked[1] if marked else ""
