import numpy as np
import pandas as pd
import pytest

from annotators.conftest import FakeTrace
from specialize.annotation import NO_LABEL
from specialize.annotators.token_classes import CLASSES, annotate_classes
from specialize.errors import AnnotationError

TEXT = "The cafés' NATO  3.5 €\n42 iPhone n\u0303a 日本"
PIECES = [
    "The",
    " caf",
    "és",
    "'",
    " NA",
    "TO",
    "  ",
    "3",
    ".",
    "5",
    " €",
    "\n",
    "42",
    " i",
    "Phone",
    " n\u0303a",
    " 日",
    "本",
]


@pytest.fixture
def trace(tmp_path):
    ends = np.cumsum([len(piece) for piece in PIECES])
    assert ends[-1] == len(TEXT)
    tokens = pd.DataFrame({"char_start": ends - [len(piece) for piece in PIECES], "char_end": ends})
    special = pd.DataFrame({"char_start": [0], "char_end": [0]})
    tokens = pd.concat([special, tokens], ignore_index=True).assign(document=0)
    tokens["token_id"] = [0, *([5] * 3), *range(1, 16)]
    tokens["position"] = np.arange(len(tokens))
    return FakeTrace(tmp_path, pd.DataFrame({"id": ["d"], "text": [TEXT]}), tokens)


def labels(annotation):
    return [annotation.labels[code] if code != NO_LABEL else "" for code in annotation.codes]


def test_classes_of_text(trace):
    kind, part, case = annotate_classes(trace, ["class", "word_part", "case"])
    assert (kind.name, kind.level, kind.codes.dtype) == ("class", "token", np.int32)
    assert dict(zip(["", *PIECES], labels(kind), strict=True)) == {
        "": "", "The": "letters", " caf": "letters", "és": "letters", "'": "punctuation", " NA": "letters",
        "TO": "letters", "  ": "white space", "3": "digits", ".": "punctuation", "5": "digits", " €": "symbols",
        "\n": "white space", "42": "digits", " i": "letters", "Phone": "letters", " n\u0303a": "letters",
        " 日": "letters", "本": "letters",
    }  # fmt: skip
    start, continued = "start", "continuation"
    assert labels(part) == [
        "", start, start, continued, "", start, continued, "", start, "", start, "", "", start, start, continued,
        start, start, continued,
    ]  # fmt: skip
    assert labels(case) == [
        "", "capitalised", "lower", "lower", "", "upper", "upper", "", "", "", "", "", "", "", "lower", "capitalised",
        "lower", "", "",
    ]  # fmt: skip


def test_ranks_and_places(trace):
    rank, place = annotate_classes(trace, ["frequency", "position"])
    assert rank.labels[:3] == ("1 to 10", "11 to 100", "101 to 1,000")
    # id 5, four times there, is the first; the others follow by id
    assert labels(rank)[1:4] == ["1 to 10"] * 3
    assert labels(rank).count("1 to 10") == 4 + 9
    assert labels(place)[:6] == ["0", "1 to 3", "1 to 3", "1 to 3", "4 to 15", "4 to 15"]
    assert place.labels[-1] == "from 1,024"


def test_what_a_class_needs_must_be_there(trace):
    with pytest.raises(AnnotationError, match=f"expected classes among {', '.join(CLASSES)}, got 'shape'"):
        annotate_classes(trace, ["shape"])
    trace.tokens()["token_id"] = -1
    with pytest.raises(AnnotationError, match="expected token ids, from which 'frequency' is derived"):
        annotate_classes(trace, ["frequency"])
    trace.tokens()["char_end"] = -1
    with pytest.raises(
        AnnotationError, match="expected tokens with their positions in the text, from which 'class' is derived"
    ):
        annotate_classes(trace, ["class"])
