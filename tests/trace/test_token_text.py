"""Text from token ids: the characters of each token are those that the fast tokenizer gives, or that its bytes have."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from specialize.corpus.conllu import read_treebank
from specialize.trace.token_text import TokenDecoder
from tokenizer_kinds import KINDS, train

PUD = Path(__file__).parents[3] / "shared" / "data" / "pud"
LANGUAGES = ("en", "de", "fr", "it")
TEXT = "the naïve cat doesn't sit — „endlich“ 10:30 in Zürich, Gli amici dell'università"
HARD = "a 👩‍👩‍👧‍👦 family 🏳️‍🌈, 我是学生 and مرحبًا"


def wrap(tokenizer, **special):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return wrap(train(request.param))


@pytest.fixture(scope="module")
def byte_level():
    return wrap(train("byte-level BPE"))


def encode(tokenizer, text):
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return np.array(encoded["input_ids"]), np.array(encoded["offset_mapping"])


def byte_spans(pieces):
    """Return the text of byte strings, and the characters that each has a byte of."""
    text = b"".join(pieces).decode()
    owner = np.repeat(np.arange(len(text)), [len(character.encode()) for character in text])
    ends = np.cumsum([len(piece) for piece in pieces])
    spans = [(owner[end - len(piece)], owner[end - 1] + 1) for piece, end in zip(pieces, ends, strict=True)]
    return text, spans


class Pieces:
    """A slow tokenizer: its tokens are byte strings, and it only decodes."""

    def __init__(self, pieces):
        self.pieces = pieces

    def decode(self, ids, **_):
        return b"".join(self.pieces[number] for number in ids).decode(errors="replace")


def test_a_whole_text_has_the_spans_of_its_tokenizer(tokenizer):
    ids, spans = encode(tokenizer, tokenizer.decode(tokenizer(TEXT)["input_ids"]))
    found = TokenDecoder(tokenizer).decode(ids)
    assert found.text == tokenizer.decode(ids)
    np.testing.assert_array_equal(found.spans, spans)
    assert (found.opening, found.unplaced) == (0, 0)


def cut_spans(tokenizer, ids, spans, first, last):
    """Return what was found for a part of a text, and the spans of the whole text moved to the part.

    The first token is compared by its end, unless it is no more than a space: decoders drop that, and write ## before
    a piece that begins no word.
    """
    found = TokenDecoder(tokenizer).decode(ids[first:last])
    if found is None:
        return np.empty((0, 2)), np.empty((0, 2)), 0
    moved = spans[first:last].copy()
    shared = np.flatnonzero(moved[:-1, 1] <= moved[1:, 0])  # after which a character begins
    if not len(shared):
        return np.empty((0, 2)), np.empty((0, 2)), 0
    moved += found.spans[shared[-1] + 1, 1] - moved[shared[-1] + 1, 1]
    moved[0, 0] = found.spans[0, 0] = 0
    moved[0, 1] = max(moved[0, 1], 1)
    return found.spans, moved, found.unplaced


def test_a_text_cut_anywhere_has_the_spans_of_the_whole_moved(tokenizer):
    ids, spans = encode(tokenizer, tokenizer.decode(tokenizer(TEXT)["input_ids"]))
    tokens = wrong = 0
    for first in range(1, len(ids) - 4):
        found, expected, unplaced = cut_spans(tokenizer, ids, spans, first, len(ids))
        assert unplaced == 0
        tokens += len(found)
        wrong += (found != expected).any(axis=1).sum()
    assert tokens > 100
    assert wrong <= 0.001 * tokens + 12  # of a character that is cut itself, the rest can be written as two


@pytest.mark.slow
@pytest.mark.skipif(not PUD.is_dir(), reason="the PUD treebanks are not here")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_treebanks(kind, language):
    """Whole documents, and parts of them that begin and end anywhere: nearly all tokens have the spans of the whole."""
    documents = list(read_treebank(PUD / f"{language}_pud-ud-test.conllu", language))
    texts = [document.text for document in documents[::2]]
    tokenizer = wrap(train(kind, texts))
    decoder = TokenDecoder(tokenizer)
    rng = np.random.default_rng(0)
    tokens = agree = cut = cut_agree = missing = 0
    for text in texts:
        ids, spans = encode(tokenizer, tokenizer.decode(tokenizer(text)["input_ids"]))
        for found in (decoder.decode(ids), TokenDecoder(Slow(tokenizer)).decode(ids)):
            trimmed = [trim(found.text, *span) for span in found.spans] if kind == "WordPiece" else found.spans
            tokens += len(ids)
            agree += (trimmed == spans).all(axis=1).sum()
        for first, last in np.sort(rng.integers(0, len(ids) + 1, (2, 2))):
            found, expected, unplaced = cut_spans(tokenizer, ids, spans, first, last)
            cut += len(found)
            cut_agree += (found == expected).all(axis=1).sum()
            missing += unplaced
    print(f"{kind}, {language}: whole {100 * agree / tokens:.3f} %, cut {100 * cut_agree / cut:.3f} % of {cut:,}")
    assert agree >= 0.999 * tokens > 10_000
    assert cut_agree >= 0.999 * cut > 5_000
    assert missing <= 0.001 * cut


class Slow:
    """A tokenizer of which only decoding is used."""

    def __init__(self, tokenizer):
        self.decode = tokenizer.decode


def trim(text, start, end):
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end


@pytest.mark.parametrize("text", [TEXT, HARD, "x" * 500, "\n\n  two  spaces\t\n"])
def test_pieces_cut_at_random_bytes_have_the_characters_of_their_bytes(text):
    rng = np.random.default_rng(0)
    data = text.encode()
    for _ in range(20):
        cuts = [0, *np.flatnonzero(rng.random(len(data) - 1) < 0.5) + 1, len(data)]
        pieces = [data[start:end] for start, end in pairwise(cuts)]
        expected_text, expected = byte_spans(pieces)
        found = TokenDecoder(Pieces(pieces)).decode(np.arange(len(pieces)))
        assert found.text == expected_text
        assert [tuple(span) for span in found.spans] == expected


def test_generated_tokens_that_the_tokenizer_would_not_have_cut_so(byte_level):
    to_byte = {v: k for k, v in byte_alphabet().items()}
    ids, _ = encode(byte_level, TEXT + HARD)
    vocabulary = byte_level.get_vocab()
    loose = []
    for place, token in enumerate(byte_level.convert_ids_to_tokens(ids.tolist())):
        loose += [token] if place % 3 else list(token)  # every third in its bytes
    found = TokenDecoder(byte_level).decode(np.array([vocabulary[token] for token in loose]))
    text, spans = byte_spans([bytes(to_byte[character] for character in token) for token in loose])
    assert found.text == text == TEXT + HARD
    assert [tuple(span) for span in found.spans] == spans


def test_generated_bytes_that_the_tokenizer_would_not_have_cut_so():
    tokenizer = wrap(train("SentencePiece BPE with bytes"))
    text = "we don't know — „endlich“ 我是 the café 👩‍🚀 in Zürich  two" * 5
    vocabulary = tokenizer.get_vocab()
    ids, pieces = [], []
    for place, token in enumerate(tokenizer.convert_ids_to_tokens(encode(tokenizer, text)[0].tolist())):
        data = bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.replace("▁", " ").encode()
        cut = place % 3 == 0 and place > 0
        ids += [vocabulary[f"<0x{byte:02X}>"] for byte in data] if cut else [vocabulary[token]]
        pieces += [bytes([byte]) for byte in data] if cut else [data]
    pieces[0] = pieces[0].removeprefix(b" ")  # as the decoder does
    found = TokenDecoder(tokenizer).decode(np.array(ids))
    expected_text, expected = byte_spans(pieces)
    assert found.text == expected_text == text
    assert [tuple(span) for span in found.spans[1:]] == expected[1:]
    assert tuple(found.spans[0]) == (0, 1)  # the space that is not in the text


def byte_alphabet():
    """Return how byte-level tokenizers write each byte (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def test_a_space_before_a_word_is_the_word_s_only_if_the_tokenizer_says_so():
    tokenizer = train("byte-level BPE")
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    _, spans = encode(wrap(tokenizer), "cats sit on the mat")
    assert tuple(spans[-1]) == (16, 19)
    letters = [tokenizer.token_to_id(character) for character in "cats"]
    rest, _ = encode(wrap(tokenizer), " mat")
    found = TokenDecoder(wrap(tokenizer)).decode(np.array([*letters, *rest, *letters]))
    assert found.text == "cats matcats"
    expected = [(0, 1), (1, 2), (2, 3), (3, 4), (5, 8), (8, 9), (9, 10), (10, 11), (11, 12)]
    assert [tuple(span) for span in found.spans] == expected


def test_special_tokens_at_the_ends_are_no_text_and_others_are(byte_level):
    tokenizer = wrap(train("byte-level BPE"), bos_token="<s>", eos_token="</s>")
    tokenizer.add_tokens(["<|turn|>"], special_tokens=True)
    first, last, turn = tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<|turn|>"])
    word = tokenizer(" the")["input_ids"]
    found = TokenDecoder(tokenizer).decode(np.array([first, first, *word, turn, *word, last]))
    assert (found.text, found.opening, found.unplaced) == (" the<|turn|> the", 2, 0)
    assert found.token_ids.tolist() == [*word, turn, *word]
    assert [tuple(span) for span in found.spans] == [(0, 4), (4, 12), (12, 16)]
    assert TokenDecoder(tokenizer).decode(np.array([first, last])) is None
    assert TokenDecoder(tokenizer).decode(np.array(tokenizer(" \n")["input_ids"])) is None


def test_bytes_that_are_no_characters(byte_level):
    vocabulary = byte_level.get_vocab()
    shown = byte_alphabet()
    word = byte_level(" the")["input_ids"]
    broken = [vocabulary[shown[0xF0]], vocabulary[shown[0x9F]], *word, vocabulary[shown[0xBF]]]
    found = TokenDecoder(byte_level).decode(np.array(broken))
    assert found.text == "\ufffd the\ufffd"
    assert [tuple(span) for span in found.spans] == [(0, 1), (0, 1), (1, 5), (5, 6)]


def test_bytes_that_a_later_one_makes_unreadable():
    """SentencePiece writes a mark for each byte of a run of bytes that is not valid as a whole."""
    tokenizer = wrap(train("SentencePiece BPE with bytes"))
    run = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in "我学\nx生我学生我学生".encode() + b"\xe6"]
    word = tokenizer("the")["input_ids"]
    for decoder in (TokenDecoder(tokenizer), TokenDecoder(Slow(tokenizer))):
        found = decoder.decode(np.array([*word, *run, *word]))
        marks = "\ufffd" * len(run)
        assert found.text == f"the{marks} the"
        at = len(word) + np.arange(len(run))
        assert [tuple(span) for span in found.spans[at]] == [(3 + place, 4 + place) for place in range(len(run))]
        assert found.unplaced == 0
        assert tuple(found.spans[-1])[1] == len(found.text)


def test_a_decoder_that_contradicts_itself_leaves_tokens_without_a_place():
    words = SimpleNamespace(
        decode=lambda ids, **_: " ".join(f"w{number}" for number in ids).replace("w3 w4", "joined") + "!" * (7 in ids)
    )
    found = TokenDecoder(words).decode(np.arange(6))
    assert found.text == "w0 w1 w2 joined w5"
    assert found.unplaced == 2
    assert [tuple(span) for span in found.spans] == [(0, 2), (2, 5), (5, 8), (-1, -1), (-1, -1), (15, 18)]
    found = TokenDecoder(words).decode(np.array([0, 1, 7] + [2] * 400))
    assert found.unplaced == 401  # all after the one whose mark moves to the end
    assert [tuple(span) for span in found.spans[:2]] == [(0, 2), (2, 5)]


def test_the_time_is_linear():
    """Each token is decoded in a few windows of bounded length, however long the sequence is."""
    decoded = []
    pieces = Pieces([b"a", b" b", "ü".encode()[:1], "ü".encode()[1:]])
    counting = SimpleNamespace(decode=lambda ids, **_: decoded.append(len(ids)) or pieces.decode(ids))
    ids = np.tile([0, 1, 2, 3], 5000)
    assert TokenDecoder(counting).decode(ids).unplaced == 0
    assert sum(decoded) < 20 * len(ids)
