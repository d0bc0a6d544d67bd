"""Alignment of a model's tokens with words, by character spans.

A tokenizer and a tagger segment the same text differently. Byte-level BPE adds difficulties of its own: the span of a
token may include the space before a word or consist of white space alone, and several tokens have the same span
where the bytes of one character are split between them.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Pieces, check_choice
from specialize.errors import AnnotationError

NO_WORD = -1


def align_to_words(
    text: str, token_spans: ArrayLike, word_spans: ArrayLike, *, pieces: Pieces = "first"
) -> NDArray[np.int32]:
    """Find the word that contains each token's first character other than white space.

    A token with a leading space therefore belongs to the word after the space, and a token that spans two words
    ("don't", which a tagger splits into do + n't) belongs to the first of them. A token has no word if it is white
    space alone, if its span is empty or negative (special tokens), or if no word covers its first character.

    Args:
        text: the document.
        token_spans: integers [n, 2], start and end (exclusive) of each token in code points of `text`, in
            reading order.
        word_spans: integers [m, 2], the same for words: not empty, ascending, not overlapping.
        pieces: which tokens of a word are assigned to it: the `first`, the `last` or `all`. Tokens that share a
            character are ordered as they are given.

    Returns:
        int32 [n], the row of `word_spans` of each token, or `NO_WORD` (-1).

    Raises:
        AnnotationError: `pieces` is unknown, spans have another shape or lie outside the text, or words are not in
            order.
    """
    check_pieces(pieces)
    tokens = _check_spans(token_spans, text, what="token")
    words = _check_spans(word_spans, text, what="word")
    starts, ends = words[:, 0], words[:, 1]
    if (starts >= ends).any() or (ends[:-1] > starts[1:]).any() or (starts < 0).any():
        raise AnnotationError(
            "expected word spans that are ascending, not empty and do not overlap; sort or merge them"
        )
    aligned = np.full(len(tokens), NO_WORD, dtype=np.int32)
    if len(tokens) == 0 or len(words) == 0:
        return aligned
    first_characters = _find_first_characters(text, tokens)
    candidates = np.searchsorted(starts, first_characters, side="right") - 1
    inside = (candidates >= 0) & (first_characters < ends[candidates])
    inside &= (tokens[:, 0] >= 0) & (first_characters < tokens[:, 1])
    aligned[inside] = candidates[inside]
    return keep_pieces(aligned, pieces=pieces)


def keep_pieces(aligned: NDArray[np.int32], *, pieces: Pieces) -> NDArray[np.int32]:
    """Restrict an alignment of all tokens to the first or last token of each word.

    A word that occurs again after another word, as in overlapping windows of a document, counts as a new word.

    Args:
        aligned: int32 [n], word of each token or `NO_WORD`, in reading order.
        pieces: which tokens of a word to keep.

    Returns:
        int32 [n], `NO_WORD` for the tokens that are not kept.

    Raises:
        AnnotationError: `pieces` is unknown.
    """
    check_pieces(pieces)
    if pieces == "all":
        return aligned
    rows = np.flatnonzero(aligned != NO_WORD)
    words = aligned[rows]
    changes = words[1:] != words[:-1]
    edges = np.append(True, changes) if pieces == "first" else np.append(changes, True)
    kept_rows = rows[edges[: len(rows)]]  # without any row, `edges` has one entry too many
    kept = np.full_like(aligned, NO_WORD)
    kept[kept_rows] = aligned[kept_rows]
    return kept


def check_pieces(pieces: str) -> None:
    """Raise AnnotationError unless `pieces` is first, last or all."""
    check_choice("pieces", pieces, Pieces, error=AnnotationError)


def _check_spans(spans: ArrayLike, text: str, *, what: str) -> NDArray[np.int64]:
    array = np.asarray(spans)
    if array.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
        raise AnnotationError(f"expected {what} spans as integers [{what}s, 2], got {array.dtype} {list(array.shape)}")
    beyond = np.flatnonzero(array[:, 1] > len(text))
    if beyond.size:
        raise AnnotationError(
            f"expected {what} spans inside the text of {len(text)} characters, got {what} {beyond[0]} "
            f"ending at {array[beyond[0], 1]}; give offsets in characters (code points), not in bytes"
        )
    return array.astype(np.int64)


def _find_first_characters(text: str, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first position at or after the start of each span that is not white space, int64 [n]."""
    # "surrogatepass": a lone surrogate cannot be encoded otherwise; it is not white space.
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    white = _white_space()
    is_white = white[np.minimum(characters, len(white) - 1)]
    visible = np.append(np.flatnonzero(~is_white), len(text))
    return visible[np.searchsorted(visible, np.maximum(spans[:, 0], 0))]


@cache
def _white_space() -> NDArray[np.bool_]:
    """Return `str.isspace` by code point; the last entry, False, stands for all higher code points."""
    highest = 0x3000  # the ideographic space, the highest white space in Unicode
    return np.array([chr(point).isspace() for point in range(highest + 2)])
