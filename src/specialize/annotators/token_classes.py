"""Classes of tokens that need no tagger: character class, part of a word, case, frequency and position."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.annotators.carrier import read_places
from specialize.annotators.columns import read_texts
from specialize.annotators.labels import LabelEncoder
from specialize.column import CHUNK_ROWS, Column, compute_column
from specialize.errors import AnnotationError
from specialize.trace.schema import PHASES, UNKNOWN

if TYPE_CHECKING:
    from specialize.annotators.carrier import TokensAndTexts

CLASSES = {
    "class": "letters, digits, punctuation, symbols, white space or mixed",
    "word_part": "start or continuation of a word",
    "case": "lower, capitalised, upper or mixed; no label where there is no case",
    "frequency": "rank of the token id in this trace",
    "position": "position in the sequence",
    "role": "who wrote it in a conversation: system, user, assistant …; template",
    "phase": "prefill or generation",
}
_RANKS = (10, 100, 1_000, 10_000)
_POSITIONS = (0, 3, 15, 63, 255, 1023)


def annotate_classes(trace: "TokensAndTexts", names: Sequence[str]) -> list[Annotation]:
    """Classify every token of a trace.

    Args:
        trace: the trace to annotate.
        names: any of `CLASSES`; one annotation is made for each.

    Returns:
        Annotations of tokens, in the order of `names`. Special tokens have no character class, word part or case.

    Raises:
        AnnotationError: a class is unknown, or the trace lacks what it is derived from: the texts and the positions
            of tokens in them, or token ids.
    """
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise AnnotationError(f"expected classes among {', '.join(CLASSES)}, got {unknown[0]!r}")
    on_disk = hasattr(trace, "column")
    tokens = _read_columns(trace, names) if on_disk else trace.tokens()
    of_text = [name for name in names if name in _OF_TEXT]
    made = dict(zip(of_text, _classify_texts(trace, of_text), strict=True)) if of_text else {}
    if "frequency" in names:
        made["frequency"] = _classify_ranks(tokens["token_id"] if on_disk else tokens["token_id"].to_numpy())
    for name in ("role", "phase"):
        if name in names:
            made[name] = _take_categories(name, *_find_categories(trace, tokens, name))
    if "position" in names:
        places = tokens["position"]
        made["position"] = _bin("position", places if on_disk else places.to_numpy(), _POSITIONS)
    return [made[name] for name in names]


def _classify_texts(trace: "TokensAndTexts", names: Sequence[str]) -> list[Annotation]:
    texts, places = read_texts(trace.documents()), read_places(trace)
    if len(places["document"]) and places["char_end"].max() == UNKNOWN:
        raise AnnotationError(
            f"expected tokens with their positions in the text, from which {names[0]!r} is derived, the trace has "
            "none; import it with the columns char_start and char_end"
        )
    encoders = {name: LabelEncoder() for name in names}
    codes: dict[str, list[NDArray[np.int32]]] = {name: [np.zeros(0, np.int32)] for name in names}
    for first in range(0, len(places["document"]), CHUNK_ROWS):
        pieces = list(_cut_pieces(texts, places, slice(first, first + CHUNK_ROWS)))
        for name, encoder in encoders.items():
            codes[name].append(encoder.encode(_OF_TEXT[name](*piece) for piece in pieces))
    made = []
    for name, encoder in encoders.items():
        labels, own = encoder.finish(np.concatenate(codes.pop(name)))
        made.append(Annotation(name, "token", labels, own, {"tool": "specialize"}))
    return made


def _cut_pieces(texts: Sequence[str], places: Mapping[str, Any], rows: slice) -> Iterator[tuple[str, bool]]:
    """Yield the text of each token, and whether it continues a word."""
    spans = zip(*(places[name][rows].tolist() for name in ("document", "char_start", "char_end")), strict=True)
    for document, start, end in spans:
        text = texts[document]
        piece = text[start:end] if 0 <= start < end else ""
        visible = start + len(piece) - len(piece.lstrip())
        yield piece, visible > 0 and visible < len(text) and _in_word(text[visible - 1])


@cache
def _class_of(piece: str, _: bool) -> str:
    if not piece:
        return ""
    kinds = {unicodedata.category(character)[0] for character in piece.strip()}
    if not kinds:
        return "white space"
    if kinds <= {"L", "M"}:
        return "letters"
    only = {"N": "digits", "P": "punctuation", "S": "symbols"}
    return only.get(kinds.pop(), "mixed") if len(kinds) == 1 else "mixed"


@cache
def _word_part_of(piece: str, inside: bool) -> str:
    visible = piece.strip()
    if not visible or not _in_word(visible[0]):
        return ""
    # a token with leading white space begins a word, whatever precedes it
    return "continuation" if inside and piece[:1] == visible[:1] else "start"


@cache
def _case_of(piece: str, _: bool) -> str:
    visible = piece.strip()
    if visible.islower():
        return "lower"
    if visible.isupper() and sum(character.isalpha() for character in visible) > 1:
        return "upper"
    if visible[:1].isupper() and (visible[1:].islower() or not any(map(str.isupper, visible[1:]))):
        return "capitalised"
    return "mixed" if visible.lower() != visible else ""


_OF_TEXT: dict[str, Callable[[str, bool], str]] = {"class": _class_of, "word_part": _word_part_of, "case": _case_of}


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _classify_ranks(ids: Any) -> Annotation:
    if not len(ids) or ids.max() == UNKNOWN:
        raise AnnotationError(
            "expected token ids, from which 'frequency' is derived, the trace has none; "
            "import it with the column token_id"
        )
    times: Counter[int] = Counter()
    for first in range(0, len(ids), CHUNK_ROWS):
        found, counts = np.unique(np.asarray(ids[first : first + CHUNK_ROWS]), return_counts=True)
        times.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    distinct = np.array(sorted(times))
    ranks = np.empty(len(distinct), dtype=np.int64)
    ranks[np.argsort([-times[number] for number in distinct.tolist()], kind="stable")] = np.arange(1, len(distinct) + 1)
    places = compute_column(len(ids), lambda rows: ranks[np.searchsorted(distinct, ids[rows])], dtype=np.int64)
    return _bin("frequency", places if isinstance(ids, Column) else places[:], _RANKS, first=1)


def _read_columns(trace: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return columns of tokens that stay on disk, as far as the trace has them."""
    known = {"position": "position", "phase": "phase", "frequency": "token_id"}
    known |= {"role": "role"} if "roles" in trace.contents else {}
    return {known[name]: trace.column(known[name]) for name in names if name in known}


def _find_categories(trace: Any, tokens: Any, name: str) -> tuple[Any, Sequence[str]]:
    """Return the code of each token in a column that names what it is of, and the names; none if there is no column."""
    if name not in tokens:
        return np.zeros(0, dtype=np.int8), ()
    column = tokens[name]
    if isinstance(column, Column):
        return column, PHASES if name == "phase" else trace.manifest["roles"]
    return column.cat.codes.to_numpy(), tuple(column.cat.categories)


def _take_categories(name: str, codes: Any, categories: Sequence[str]) -> Annotation:
    """Label tokens by a column of the trace that names what they are of."""
    counts = np.zeros(len(categories), dtype=np.int64)
    for first in range(0, len(codes), CHUNK_ROWS):
        part = np.asarray(codes[first : first + CHUNK_ROWS])
        if part.max(initial=0) >= len(categories):
            raise AnnotationError(f"expected numbers of {name}s below {len(categories)}, got {part.max()}; trace again")
        counts += np.bincount(part, minlength=len(categories))
    used = np.flatnonzero(counts)
    if len(used) < 2:
        raised = {"role": "conversations (a column messages)", "phase": "generated tokens (generate)"}[name]
        raise AnnotationError(f"expected a trace of {raised}, from which {name!r} is derived, got one without")
    place = np.zeros(len(categories), dtype=np.int32)
    place[used] = np.arange(len(used))
    own: Any = compute_column(len(codes), lambda rows: place[codes[rows]], dtype=np.int32)
    own = own if isinstance(codes, Column) else own[:]
    return Annotation(name, "token", tuple(categories[int(number)] for number in used), own, {"tool": "specialize"})


def _bin(name: str, values: Any, ends: Sequence[int], *, first: int = 0) -> Annotation:
    """Label integers by the ranges that end at `ends`, and all greater ones by one further range."""
    starts = [first, *(end + 1 for end in ends)]
    ranges = zip(starts[:-1], ends, strict=True)
    labels = [f"{start:,}" if start == end else f"{start:,} to {end:,}" for start, end in ranges]

    def find(rows: slice) -> NDArray[np.int32]:
        return np.searchsorted(np.asarray(ends), values[rows], side="left").astype(np.int32)

    codes: Any = compute_column(len(values), find, dtype=np.int32)
    codes = codes if isinstance(values, Column) else codes[:]
    return Annotation(name, "token", (*labels, f"from {starts[-1]:,}"), codes, {"tool": "specialize"})
