"""The stage that fits topics: what is checked first, and what a stored fit is known by."""

import shutil

import numpy as np
import pandas as pd
import pytest

from planted import plant_document_labels
from planted.stored import store_trace
from specialize.annotation import Annotation
from specialize.annotators import topic_clusters
from specialize.annotators import topics as topics_module
from specialize.annotators.store import load_annotation, save_annotation
from specialize.annotators.topics import TopicModel
from specialize.errors import AnnotationError, MeasurementError
from specialize.measure.results.files import read_with_origin
from specialize.pipeline.topic_fits import TopicOptions, copy_tables, find_topics
from specialize.pipeline.topics import topics
from specialize.trace import open_trace

NUM_DOCUMENTS = 40
CHANNEL = np.array([[0.7, 0.3], [0.3, 0.7]])


@pytest.fixture
def run(tmp_path):
    planted = plant_document_labels(np.array([0.5, 0.5]), CHANNEL, num_documents=NUM_DOCUMENTS, tokens_per_document=6)
    store_trace(
        tmp_path / "run",
        planted.documents,
        {0: planted.experts},
        num_experts=2,
        labels={"genre": [f"g{row % 2}" for row in range(NUM_DOCUMENTS)]},
        texts=[f"words of document {row}" for row in range(NUM_DOCUMENTS)],
    )
    return tmp_path / "run"


@pytest.fixture
def fits(monkeypatch):
    """A fit that needs no model; the arguments of every call."""
    calls = []

    def fit(documents, **options):
        calls.append(options)
        codes = (np.arange(len(documents)) // 3 % 2).astype(np.int32)
        annotation = Annotation("bertopic", "document", ("0: a", "1: b"), codes, {"embedding": "stub"})
        info = pd.DataFrame({"topic": [0, 1], "top_words": ["a", "b"], "example": ["x", "y"]})
        quality = pd.DataFrame({"quantity": ["num_topics"], "value": [2.0]})
        return TopicModel(annotation, codes < 0, info, quality, np.eye(2, dtype=np.float32))

    monkeypatch.setattr(topics_module, "annotate_topics", fit)
    return calls


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_embedding_that_cannot_be_loaded_leaves_the_run_as_it_was(run, monkeypatch):
    def fail(*_, **__):
        raise AnnotationError("expected the name or path of a sentence-transformers model, got 'nope/nope'")

    topics(run, fit=False, permutations=9)
    before = {path: path.stat().st_mtime_ns for path in files(run)}
    monkeypatch.setattr(topics_module, "embed_texts", fail)
    with pytest.raises(AnnotationError, match="nope/nope"):
        topics(run, embedding="nope/nope", permutations=9)
    assert {path: path.stat().st_mtime_ns for path in files(run)} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["gerne"]}, "Did you mean 'genre'"),
        ({"labels": ["genre", "gerne"]}, "Did you mean 'genre'"),
        ({"num_topics": 1}, "at least 2 topics"),
        ({"min_topic_size": 1}, "minimum topic size of at least 2"),
        ({"clustering": "k-means"}, "expected one of kmeans, hdbscan"),
        ({"language": "german!"}, "expected a language code"),
        ({"topics_from": "nowhere"}, "expected fitted topics, found none"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_fitted_or_written(run, fits, options, message):
    before = files(run)
    with pytest.raises(AnnotationError, match=message):
        topics(run, permutations=9, **options)
    assert files(run) == before
    assert fits == []


def test_known_labels_come_first_and_topics_last_as_ever(run, fits):
    frame = topics(run, permutations=9)
    assert list(frame["label_set"].unique()) == ["genre", "bertopic"]
    tables = [path.stem for path in files(run / "topics") if path.suffix == ".parquet"]
    assert tables == ["bertopic", "genre", "topic_info", "topic_quality"]


def test_a_fit_is_known_by_what_it_used_and_not_by_what_was_left_out(run, fits, monkeypatch):
    trace = open_trace(run)
    made_by = find_topics(trace, TopicOptions()).provenance["made_by"]
    assert made_by["embedding"] is not None
    assert made_by["min_topic_size"] == 5
    assert made_by["language"] == "en"
    find_topics(trace, TopicOptions(embedding=made_by["embedding"], min_topic_size=5, language="en"))
    assert len(fits) == 1
    # another default, for instance once a package is installed
    monkeypatch.setattr("specialize.annotators.embedding._find_default", lambda: "another")
    find_topics(trace, TopicOptions())
    assert len(fits) == 2
    monkeypatch.setitem(topic_clusters.ESTIMATE, "neighbours", 16)
    find_topics(trace, TopicOptions())
    assert len(fits) == 3
    find_topics(trace, TopicOptions(clustering="hdbscan"))
    assert len(fits) == 4


@pytest.mark.parametrize(
    "path",
    [
        "annotations/bertopic.arrow",
        "topics/topic_info.parquet",
        "topics/topic_quality.parquet",
        "topics/model/topics.json",
        "topics/model/centroids.npy",
        "topics/model/documents.arrow",
    ],
)
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:99])])
def test_a_damaged_fit_is_made_anew(run, fits, path, damage):
    trace = open_trace(run)
    find_topics(trace, TopicOptions())
    find_topics(trace, TopicOptions())
    assert len(fits) == 1
    damage(run / path)
    find_topics(trace, TopicOptions())
    assert len(fits) == 2
    assert load_annotation(trace, "bertopic").labels == ("0: a", "1: b")
    find_topics(trace, TopicOptions())
    assert len(fits) == 2


def test_a_table_in_place_of_another_is_made_anew(run, fits):
    topics(run, permutations=9)
    shutil.copy(run / "topics" / "bertopic.parquet", run / "topics" / "topic_info.parquet")
    topics(run, permutations=9)
    assert len(fits) == 2


def test_topics_without_a_document_are_an_error_before_anything_is_written(run, monkeypatch):
    codes = np.full(NUM_DOCUMENTS, -1, dtype=np.int32)
    model = TopicModel(
        Annotation("bertopic", "document", (), codes), codes < 0, None, None, np.ones((0, 2), np.float32)
    )
    monkeypatch.setattr(topics_module, "annotate_topics", lambda *_, **__: model)
    before = files(run)
    with pytest.raises(MeasurementError, match="'bertopic': expected labelled documents, got none"):
        topics(run, permutations=9)
    assert files(run) == before


def test_tables_of_topics_go_with_the_topics_that_they_describe(run, fits, tmp_path):
    topics(run, permutations=9)
    shutil.copytree(run, tmp_path / "other")
    topics(run, topics_from=tmp_path / "other", permutations=9)
    assert {path.stem for path in files(run / "topics")} & {"topic_info", "topic_quality"} == set()
    assert (run / "topics" / "bertopic.parquet").is_file()
    copy_tables(open_trace(tmp_path / "other"), open_trace(run))
    for name in ("topic_info", "topic_quality"):
        frames = [read_with_origin(folder / "topics" / f"{name}.parquet") for folder in (run, tmp_path / "other")]
        pd.testing.assert_frame_equal(frames[0][0], frames[1][0])
        assert frames[0][1].trace == open_trace(run).digest


@pytest.mark.parametrize("command", ["probe", "routing", "compare"])
def test_a_damaged_annotation_is_one_line(call, run, command):
    trace = open_trace(run)
    path = save_annotation(
        trace, Annotation("mine", "document", ("a", "b"), np.arange(NUM_DOCUMENTS, dtype=np.int32) % 2)
    )
    path.write_bytes(path.read_bytes()[:200])
    before = files(run)
    code, out, err = call(command, run, *([run] if command == "compare" else []))
    assert (code, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("specialize:")]
    assert "mine.arrow: expected an annotation, got a damaged file" in line
    assert files(run) == before


def test_probe_leaves_out_what_cannot_be_predicted(call, run):
    for name, codes in (("mine", np.arange(NUM_DOCUMENTS) % 2), ("same", np.zeros(NUM_DOCUMENTS))):
        save_annotation(open_trace(run), Annotation(name, "document", ("a", "b"), codes.astype(np.int32)))
    code, _, err = call("probe", run, "--permutations", 2, "--no-mlp")
    assert code == 0, err
    assert "same is left out: a probe needs at least two documents and two labels" in err
    assert [path.name for path in files(run / "probe")] == ["mine.csv", "mine.parquet"]
    code, _, err = call("probe", run, "--permutations", 2, "--no-mlp", "--label-set", "same")
    assert code == 2
    assert err.splitlines()[-1].startswith("specialize: a probe needs at least two documents and two labels")


def test_probe_looks_for_all_label_sets_before_it_fits_any(call, run):
    save_annotation(
        open_trace(run), Annotation("mine", "document", ("a", "b"), np.arange(NUM_DOCUMENTS, dtype=np.int32) % 2)
    )
    code, _, err = call("probe", run, "--label-set", "mine", "--label-set", "mime")
    assert code == 2
    assert "Did you mean 'mine'" in err
    assert not (run / "probe").exists()
