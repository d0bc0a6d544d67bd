import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.annotators.alignment import NO_WORD, align_to_words, keep_pieces
from specialize.errors import AnnotationError


def word_spans(text):
    """Spans of runs of characters that are not white space."""
    return [match.span() for match in re.finditer(r"\S+", text)]


@pytest.mark.parametrize(
    ("text", "tokens", "words", "first", "last", "every"),
    [
        pytest.param("a cat", [(0, 1), (1, 5)], [(0, 1), (2, 5)], [0, 1], [0, 1], [0, 1], id="leading space"),
        pytest.param(
            "unalignable it", [(0, 2), (2, 7), (7, 11), (11, 14)], [(0, 11), (12, 14)],
            [0, -1, -1, 1], [-1, -1, 0, 1], [0, 0, 0, 1], id="pieces of a word",
        ),
        pytest.param(
            "a  \tb", [(0, 1), (1, 3), (3, 4), (4, 5)], [(0, 1), (4, 5)],
            [0, -1, -1, 1], [0, -1, -1, 1], [0, -1, -1, 1], id="white space alone",
        ),
        pytest.param(
            "a\r\nb", [(0, 1), (1, 2), (2, 3), (3, 4)], [(0, 1), (3, 4)],
            [0, -1, -1, 1], [0, -1, -1, 1], [0, -1, -1, 1], id="CRLF",
        ),
        pytest.param("a\r\nb", [(0, 1), (1, 4)], [(0, 1), (3, 4)], [0, 1], [0, 1], [0, 1], id="CRLF before a word"),
        pytest.param(
            "I don't", [(0, 1), (1, 7)], [(0, 1), (2, 4), (4, 7)],
            [0, 1], [0, 1], [0, 1], id="one token over two words",
        ),
        pytest.param(
            "don't", [(0, 3), (3, 5)], [(0, 2), (2, 5)],
            [0, 1], [0, 1], [0, 1], id="a cut inside the second word",
        ),
        pytest.param(
            "don't", [(0, 1), (1, 5)], [(0, 2), (2, 5)],
            [0, -1], [-1, 0], [0, 0], id="a second word without a token",
        ),
        pytest.param(
            "x 🙂", [(0, 1), (1, 3), (2, 3), (2, 3)], [(0, 1), (2, 3)],
            [0, 1, -1, -1], [0, -1, -1, 1], [0, 1, 1, 1], id="one character in three tokens",
        ),
        pytest.param(
            "x 🙂", [(0, 1), (1, 2), (2, 2), (2, 3)], [(0, 1), (2, 3)],
            [0, -1, -1, 1], [0, -1, -1, 1], [0, -1, -1, 1], id="empty spans for all but the last byte",
        ),
        pytest.param(
            "👩‍👩‍👧 ok", [(0, 1), (1, 3), (3, 5), (5, 8)], [(0, 5), (6, 8)],
            [0, -1, -1, 1], [-1, -1, 0, 1], [0, 0, 0, 1], id="emoji with joiners",
        ),
        pytest.param(
            "cafe\u0301s", [(0, 4), (4, 5), (5, 6)], [(0, 6)],
            [0, -1, -1], [-1, -1, 0], [0, 0, 0], id="combining mark in a token of its own",
        ),
        pytest.param(
            "私は学生", [(0, 1), (1, 3), (3, 4)], [(0, 1), (1, 2), (2, 4)],
            [0, 1, 2], [0, 1, 2], [0, 1, 2], id="CJK, tokens across words",
        ),
        pytest.param("你\u3000好", [(0, 1), (1, 3)], [(0, 1), (2, 3)], [0, 1], [0, 1], [0, 1], id="wide space"),
        pytest.param(
            "وقال له", [(0, 1), (1, 4), (4, 7)], [(0, 1), (1, 4), (5, 7)],
            [0, 1, 2], [0, 1, 2], [0, 1, 2], id="Arabic clitic",
        ),
        pytest.param(
            "a b", [(0, 0), (0, 1), (1, 3), (-1, -1), (3, 3)], [(0, 1), (2, 3)],
            [-1, 0, 1, -1, -1], [-1, 0, 1, -1, -1], [-1, 0, 1, -1, -1], id="special tokens",
        ),
        pytest.param(
            "1 000 km", [(0, 1), (1, 2), (2, 5), (5, 8)], [(0, 5), (6, 8)],
            [0, -1, -1, 1], [-1, -1, 0, 1], [0, -1, 0, 1], id="a word with a space in it",
        ),
        pytest.param(
            "a.b", [(0, 1), (1, 2), (2, 3), (-1, 1)], [(0, 1), (2, 3)],
            [0, -1, 1, -1], [0, -1, 1, -1], [0, -1, 1, -1], id="a character that no word covers, a span from nowhere",
        ),
        pytest.param("a b c", [(0, 1), (1, 3), (3, 5)], [(2, 3)], [-1, 0, -1], [-1, 0, -1], [-1, 0, -1], id="gaps"),
    ],
)  # fmt: skip
def test_hard_cases(text, tokens, words, first, last, every):
    assert align_to_words(text, tokens, words).tolist() == first
    assert align_to_words(text, tokens, words, pieces="last").tolist() == last
    assert align_to_words(text, tokens, words, pieces="all").tolist() == every


def test_a_very_long_word_has_one_first_and_one_last_piece():
    text = "x" * 50_000
    tokens = [(i, i + 1) for i in range(len(text))]
    first = align_to_words(text, tokens, [(0, len(text))])
    last = align_to_words(text, tokens, [(0, len(text))], pieces="last")
    assert np.flatnonzero(first == 0).tolist() == [0]
    assert np.flatnonzero(last == 0).tolist() == [49_999]


def test_overlapping_windows_count_a_word_again():
    text = "a b c"
    tokens = [(0, 1), (2, 3), (0, 1), (2, 3), (4, 5)]
    assert align_to_words(text, tokens, word_spans(text)).tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("pieces", ["first", "last", "all"])
def test_without_tokens_or_words_there_is_nothing_to_align(pieces):
    assert align_to_words("a", [], [(0, 1)], pieces=pieces).tolist() == []
    assert align_to_words("a", [(0, 1)], [], pieces=pieces).tolist() == [NO_WORD]
    assert align_to_words("", [(0, 0)], [], pieces=pieces).tolist() == [NO_WORD]
    result = align_to_words(" ", np.array([[0, 1]], dtype=np.int16), np.zeros((0, 2), dtype=np.int64), pieces=pieces)
    assert result.dtype == np.int32
    assert result.tolist() == [NO_WORD]


def test_keep_pieces_leaves_its_input_alone():
    aligned = np.array([0, 0, -1, 0, 1], dtype=np.int32)
    assert keep_pieces(aligned, pieces="first").tolist() == [0, -1, -1, -1, 1]
    assert aligned.tolist() == [0, 0, -1, 0, 1]


@pytest.mark.parametrize(
    ("tokens", "words", "pieces", "message"),
    [
        ([(0, 9)], [(0, 1)], "first", "expected token spans inside the text of 3 characters, got token 0 ending at 9"),
        ([(0, 1)], [(0, 1), (2, 4)], "first", "got word 1 ending at 4; give offsets in characters"),
        ([(0, 1)], [(2, 3), (0, 1)], "first", "expected word spans that are ascending, not empty and do not overlap"),
        ([(0, 1)], [(0, 2), (1, 3)], "first", "expected word spans that are ascending, not empty and do not overlap"),
        ([(0, 1)], [(1, 1)], "first", "expected word spans that are ascending, not empty and do not overlap"),
        ([(0.0, 1.0)], [(0, 1)], "first", r"expected token spans as integers \[tokens, 2\], got float64 \[1, 2\]"),
        ([0, 1], [(0, 1)], "first", r"expected token spans as integers \[tokens, 2\], got int64 \[2\]"),
        ([(0, 1)], [(0, 1)], "middle", "pieces: expected one of first, last, all, got 'middle'"),
    ],
)
def test_spans_that_make_no_sense(tokens, words, pieces, message):
    with pytest.raises(AnnotationError, match=message):
        align_to_words("a b", tokens, words, pieces=pieces)


# Letters, marks, emoji, scripts without spaces, and every kind of white space, often.
UNICODE = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(" \t\n\r\u00a0\u2003\u3000\u0085\x1c'\u200d\ufe0f\u0301🙂é私"),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(text=UNICODE, cuts=st.sets(st.integers(0, 60)))
def test_an_aligned_token_begins_in_its_word(tokenizer, text, cuts):
    words = [
        (piece_start, piece_end)
        for start, end in word_spans(text)
        for piece_start, piece_end in zip(
            [start, *sorted(c for c in cuts if start < c < end)],
            [*sorted(c for c in cuts if start < c < end), end],
            strict=True,
        )
    ]
    spans = tokenizer.encode(text).offsets
    aligned = align_to_words(text, spans, words, pieces="all")
    for (start, end), word in zip(spans, aligned, strict=True):
        visible = [i for i in range(start, end) if not text[i].isspace()]
        if word == NO_WORD:
            assert not visible
        else:
            assert words[word][0] <= visible[0] < words[word][1]
    first = align_to_words(text, spans, words)
    last = align_to_words(text, spans, words, pieces="last")
    assert set(first) == set(last) == set(aligned) | (set() if set(first) == set(aligned) else {NO_WORD})
    for kept in (first, last):
        labelled = kept[kept != NO_WORD]
        assert len(labelled) == len(set(labelled))
        assert ((kept == aligned) | (kept == NO_WORD)).all()
