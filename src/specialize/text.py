"""Text from corpora, models and paths made safe to show, and signs and numbers written one way everywhere."""

import math
import unicodedata
from collections.abc import Iterable

NO_VALUE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"

# Embedding, override and isolate marks reorder the text around them (U+202A-E, U+2066-9, and the plain marks).
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BYTE_ORDER_MARK = "\ufeff"  # no text; matplotlib cannot write it to a PDF


def clean_text(text: object) -> str:
    """Return `text` on one line, without anything that XML forbids, a terminal obeys or that reorders its surroundings.

    Control characters become a space, lone surrogates and noncharacters U+FFFD; direction controls and byte
    order marks are dropped. Markup characters stay: whoever writes HTML escapes them.
    """
    return " ".join(strip_controls(str(text)).split())


def strip_controls(text: str) -> str:
    """Return `text` without what `clean_text` drops and replaces, spaces as they are."""
    return "".join(_clean_character(character) for character in text)


def _clean_character(character: str) -> str:
    if character in _BIDI_CONTROLS or character == _BYTE_ORDER_MARK:
        return ""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    if category == "Cs" or ord(character) & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return character


def count_columns(text: str) -> int:
    """Return the width of `text` in columns: 2 for wide characters such as kanji, 0 for marks on others."""
    return sum(map(_count_columns, text))


def cut_columns(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits into `width` columns."""
    for place, character in enumerate(text):
        width -= _count_columns(character)
        if width < 0:
            return text[:place]
    return text


def _count_columns(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def split_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names, each once; a single text may hold several, separated by commas."""
    each = names.split(",") if isinstance(names, str) else names
    return tuple(dict.fromkeys(name.strip() for name in each if name.strip()))


def cut_name(name: str, longest: int = 60) -> str:
    """Return a foreign name for a message, cut where it is longer than any name should be."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def list_names(names: Iterable[object], *, most: int = 12, longest: int = 60) -> str:
    """Return foreign names for a message, separated by commas; "none" where there is none.

    Args:
        names: the names.
        most: how many are shown; the others are counted.
        longest: number of characters to which each is cut.
    """
    known = [str(name) for name in names]
    shown = [cut_name(name, longest) for name in known[:most]]
    return ", ".join(shown + [f"… ({len(known):,} in all)"] * (len(known) > most)) or "none"


def format_number(value: float, *, digits: int = 3) -> str:
    """Return a number with so many decimals, a true minus sign and no negative zero; a dash where it is missing."""
    return f"{value:z.{digits}f}".replace("-", MINUS) if math.isfinite(value) else NO_VALUE


def is_smallest_p(p_value: float, permutations: float) -> bool:
    """Return whether a p-value is the smallest that its number of permutations allows; False where that is unknown."""
    return math.isfinite(permutations) and p_value * (1 + permutations) < 1.5


def format_p(p_value: float, *, at_most: bool = False) -> str:
    """Return a p-value or q-value with three decimals, a dash where it is missing.

    Args:
        p_value: the value.
        at_most: whether it is an upper bound, such as the smallest p-value that the permutations allow; it is
            rounded up then: ``≤ 0.005``.
    """
    if p_value < 0.0005:
        return "< 0.001"
    if at_most and math.isfinite(p_value):
        return f"≤ {math.ceil(round(1000 * p_value, 6)) / 1000:.3f}"
    return format_number(p_value)


def equate_p(p_value: float, *, at_most: bool = False, name: str = "p") -> str:
    """Return a p-value for running text: p = 0.005, p ≤ 0.005, p < 0.001; arguments as for `format_p`."""
    number = format_p(p_value, at_most=at_most).replace(" ", NBSP)
    return f"{name}{NBSP}{number}" if number.startswith(("<", "≤")) else f"{name}{NBSP}={NBSP}{number}"


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def format_bytes(size: float) -> str:
    """Return a number of bytes with its unit, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
