"""Fonts for the scripts that the bundled font lacks, found among those that are installed."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

BUNDLED = "DejaVu Sans"
_SERVES_ALL = "Last Resort"  # draws a box with the name of the script
_MOST_SHOWN = 12  # characters that a message lists
# What to install for a script, by the first word of its characters' Unicode names, where it is not Noto Sans SCRIPT.
_CJK = ("Noto Sans CJK", "fonts-noto-cjk")
_ADVICE = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH", "BOPOMOFO"), _CJK)
_SYMBOLS = ("Noto Emoji or Noto Sans Symbols 2", "fonts-noto-core")


def cover_characters(figure: Figure) -> set[str]:
    """Give each text of `figure` fallback fonts for its characters, and return those that no installed font has."""
    missing: set[str] = set()
    for text in list_texts(figure):
        lacking = _lacking(text.get_text())
        if lacking:
            found, left = find_fonts(lacking)
            # names that are there already keep their place
            text.set_fontfamily(list(dict.fromkeys([BUNDLED, *found, *text.get_fontfamily()])))
            missing |= left
    return missing


def list_texts(figure: Figure) -> list[Text]:
    """Return all texts of `figure`, tick labels included."""
    for ax in figure.axes:
        if isinstance(ax, Axes) and ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_ticklabels()  # fills in their texts
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def find_fonts(characters: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return installed fonts that have `characters` between them, and the characters that none of them has."""
    left = set(characters)
    found: list[str] = []
    for entry in _list_entries():
        has = {character for character in left if ord(character) in _read_characters(entry.fname, entry.index)}
        if has:
            found.append(entry.name)
            left -= has
        if not left:
            break
    return found, left


def tell_missing(characters: Iterable[str]) -> str:
    """Return a line that says which characters have no glyph and which fonts would draw them."""
    ordered = sorted(characters)
    fonts: dict[str, dict[str, None]] = {}
    for font, package in map(_advise, ordered):
        fonts.setdefault(package, {})[font] = None
    install = ", and ".join(f"{' and '.join(named)} (Debian: {package})" for package, named in fonts.items())
    shown = " ".join(ordered[:_MOST_SHOWN]) + (f" … ({len(ordered)} in all)" if len(ordered) > _MOST_SHOWN else "")
    return f"no installed font has the characters {shown}, which are boxes in PDF and PNG figures; install {install}"


def _lacking(text: str) -> set[str]:
    """Return the characters of `text` that the bundled font cannot draw; spaces and format characters need no glyph."""
    [bundled] = [entry for entry in font_manager.fontManager.ttflist if _is_plain(entry) and entry.name == BUNDLED][:1]
    known = _read_characters(bundled.fname, bundled.index)
    return {
        character
        for character in set(text)
        if ord(character) not in known
        and unicodedata.category(character) not in ("Cc", "Cf", "Zs", "Zl", "Zp")
        and not unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    }


def _list_entries() -> Sequence[FontEntry]:
    """Return the upright fonts of normal weight, Noto Sans first, which suits the bundled font."""
    entries = [
        entry
        for entry in font_manager.fontManager.ttflist
        if _is_plain(entry) and not entry.name.startswith((_SERVES_ALL, BUNDLED))
    ]
    return sorted(entries, key=lambda entry: (not entry.name.startswith("Noto Sans"), "Mono" in entry.name, entry.name))


def _is_plain(entry: FontEntry) -> bool:
    return entry.style == "normal" and entry.variant == "normal" and entry.weight in (400, "normal", "regular")


@lru_cache(maxsize=1024)
def _read_characters(path: str, index: int) -> frozenset[int]:
    """Return the code points for which a font file has a glyph; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path, face_index=index).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _script_of(character: str) -> str:
    return unicodedata.name(character, "UNNAMED").partition(" ")[0].partition("-")[0]


def _advise(character: str) -> tuple[str, str]:
    script = _script_of(character)
    if script in _ADVICE:
        return _ADVICE[script]
    if not unicodedata.category(character).startswith(("L", "M", "N")):
        return _SYMBOLS
    return f"Noto Sans {script.title()}", "fonts-noto-core"
