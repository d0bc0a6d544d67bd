import numpy as np
import pandas as pd
import pytest

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.language import stop_words
from specialize.annotators.windows import cut_windows, spread_windows
from specialize.errors import AnnotationError


def test_windows_hold_the_text_and_the_labels_of_their_tokens(make_trace):
    texts = ["the cat does not sit on the mat, they don't know why; " * 4, "naïve cafés", "Zürich 🌊 " * 9]
    trace = make_trace(texts, source=["a", "b", "c"])
    windows, window_of = cut_windows(trace, 8)
    tokens = trace.tokens()
    assert windows.columns.tolist() == ["id", "text", "source"]
    assert sorted(set(window_of)) == list(range(len(windows)))
    assert (np.diff(window_of) >= 0).all()
    for number, window in enumerate(windows.itertuples()):
        own = tokens[window_of == number]
        (document,) = set(own["document"])
        assert window.source == "abc"[document]
        assert window.text == texts[document][own["char_start"].min() : own["char_end"].max()]
        assert len(own) == 3 if document == 1 else 4 <= len(own) <= 11


@pytest.mark.parametrize(("length", "expected"), [(3, [3]), (8, [8]), (11, [11]), (12, [8, 4]), (27, [8, 8, 11])])
def test_a_short_rest_joins_the_window_before(make_trace, length, expected):
    trace = make_trace(["x" * 40])
    places = np.arange(length, dtype=np.int32)
    trace._tokens = pd.DataFrame({"document": 0 * places, "char_start": places, "char_end": places + 1})
    assert np.bincount(cut_windows(trace, 8)[1]).tolist() == expected


def test_tokens_that_stand_for_no_text_have_no_window(make_trace):
    trace = make_trace(["the cat does not sit on the mat"] * 2)
    trace._tokens.loc[0, "char_end"] = 0
    _, window_of = cut_windows(trace, 4)
    assert window_of[0] == NO_LABEL
    codes = (np.arange(window_of.max() + 1) % 2).astype(np.int32)
    topics = Annotation("bertopic", "document", ("0: a", "1: b"), codes, {"seed": 1})
    spread = spread_windows(topics, window_of)
    assert (spread.name, spread.level, spread.labels) == ("bertopic_window", "token", topics.labels)
    assert spread.codes[0] == NO_LABEL
    np.testing.assert_array_equal(spread.codes[1:], window_of[1:] % 2)


def test_what_cannot_be_cut_raises(make_trace):
    trace = make_trace(["the cat"])
    with pytest.raises(AnnotationError, match="expected windows of at least 1 token, got 0"):
        cut_windows(trace, 0)
    trace._tokens[["char_start", "char_end"]] = -1
    with pytest.raises(AnnotationError, match="expected tokens with their positions in the text"):
        cut_windows(trace, 4)


def test_stop_words_of_several_languages():
    pytest.importorskip("spacy")
    words = stop_words(["en", "de", "xx1"])
    assert {"the", "nicht"} <= set(words)
    assert "nicht" not in stop_words(["en"])
    assert stop_words(["xx1"]) == []
