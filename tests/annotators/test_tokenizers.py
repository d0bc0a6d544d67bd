"""Alignment with tokenizers of four kinds: on treebanks, on hard cases, and on any Unicode text."""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.annotators.alignment import NO_WORD, align_to_words
from specialize.corpus.conllu import read_treebank
from tokenizer_kinds import KINDS, train

PUD = Path(__file__).parents[3] / "shared" / "data" / "pud"
LANGUAGES = ("en", "de", "fr", "it")
HARD = {
    "emoji with joiners": "a 👩‍👩‍👧‍👦 family 🏳️‍🌈 and 🤦🏽‍♀️!",
    "combining marks": "cafe\u0301 na\u0308i\u0308ve Z\u0308u\u0308 \u0301 x\u0323\u0307",
    "Arabic": "وقالَ لهُ: «مرحبًا بالعالم» ١٢٣",
    "Chinese": "我是学生，住在北京。 他说：「好」",  # noqa: RUF001
    "NUL": "be\0fore \0 after",
    "CRLF and tabs": "one\r\n\ttwo\r\n\r\nthree\t\tfour ",
    "wide and thin spaces": "a\u3000b\u2009c\u00a0d\u200be",
    "a very long word": "x" * 10_000 + " end",
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return train(request.param)


def check(text, tokens, words):
    """Compare with a search through all words, token by token; return how many tokens lie in none."""
    aligned = align_to_words(text, tokens, words, pieces="all")
    assert len(aligned) == len(tokens)
    homeless = 0
    for (start, end), word in zip(tokens, aligned.tolist(), strict=True):
        visible = [place for place in range(start, end) if not text[place].isspace()]
        owners = [row for row, (first, last) in enumerate(words) if visible and first <= visible[0] < last]
        assert word == (owners[0] if owners else NO_WORD)
        homeless += not owners and bool(visible)
    return homeless


def visible_words(text):
    return [match.span() for match in re.finditer(r"\S+", text)]


@pytest.mark.parametrize("name", HARD)
def test_hard_cases(tokenizer, name):
    text = HARD[name]
    encoded = tokenizer.encode(text)
    assert check(text, encoded.offsets, visible_words(text)) == 0
    aligned = align_to_words(text, encoded.offsets, visible_words(text))
    labelled = aligned[aligned != NO_WORD].tolist()
    assert labelled == sorted(set(labelled))  # every word at most once, in order
    if "WordPiece" not in str(type(tokenizer.model)):  # it drops marks and control characters altogether
        assert len(labelled) >= 0.5 * len(visible_words(text))


@pytest.mark.slow
@settings(max_examples=2500, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60), data=st.data())
def test_any_text_is_aligned_without_a_wrong_span(tokenizer, text, data):
    """With four kinds ten thousand documents; words are cut anywhere, and not all text is in a word."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    words = [(start, end) for start, end in pairwise(cuts) if data.draw(st.integers(0, 4))]
    check(text, tokenizer.encode(text).offsets, words)


@pytest.mark.slow
@pytest.mark.skipif(not PUD.is_dir(), reason="the PUD treebanks are not here")
@pytest.mark.parametrize("language", LANGUAGES)
def test_treebanks(tokenizer, language):
    """Every token's characters are those of the word it is given; hardly any token has none."""
    tokens, homeless, pieces = 0, 0, 0
    for document in read_treebank(PUD / f"{language}_pud-ud-test.conllu", language):
        encoded = tokenizer.encode(document.text)
        spans, words = encoded.offsets, np.array(document.spans)
        aligned = align_to_words(document.text, spans, words, pieces="all")
        for (start, end), piece, word in zip(spans, encoded.tokens, aligned.tolist(), strict=True):
            token = document.text[start:end].strip()
            if not token:
                continue
            tokens += 1
            if word == NO_WORD:
                homeless += 1
                continue
            first, last = words[word]
            assert token[0] in document.text[first:last]
            # what the tokenizer says the piece is stands there, where it can be read
            read = piece.lstrip("▁Ġ").removeprefix("##")
            if read.isascii() and read.isalpha():
                pieces += 1
                assert _plain(token).startswith(read[0].lower())
    assert homeless / tokens < 0.005
    assert pieces > 10_000


def _plain(text):
    """Lower case without marks, as WordPiece reads it."""
    return "".join(
        character for character in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(character)
    )
