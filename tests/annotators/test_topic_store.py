import json

import numpy as np
import pandas as pd
import pytest

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.embedding import TFIDF
from specialize.annotators.topic_store import apply_topics, save_topics
from specialize.annotators.topics import TopicModel, annotate_topics
from specialize.errors import AnnotationError

LABELS = ("0: sea, wave", "1: bread, oven", "2: star, moon")


@pytest.fixture
def saved(tmp_path, themed_documents):
    """Topics of the first seventy documents; the third of them is an outlier."""
    fitted = themed_documents[:70]
    codes = pd.Categorical(fitted["theme"], categories=["sea", "kitchen", "sky"]).codes.astype(np.int32)
    codes[2] = NO_LABEL
    annotation = Annotation("bertopic", "document", LABELS, codes, {"embedding": "stub", "seed": 3})
    model = TopicModel(annotation, codes == NO_LABEL, pd.DataFrame(), pd.DataFrame(), np.eye(3, dtype=np.float32))
    return save_topics(model, fitted, tmp_path / "model"), codes


@pytest.fixture
def stub(monkeypatch):
    """An embedding that knows each theme by one of its words."""

    def embed(texts, *, embedding, cache, engine, progress):
        assert embedding == "stub"
        progress(len(texts), len(texts))
        words = (
            ("ship", "sailor", "wave", "storm"),
            ("bread", "oven", "soup", "salt"),
            ("star", "moon", "comet", "sun"),
        )
        counts = [[sum(text.count(word) for word in theme) for theme in words] for text in texts]
        return np.array(counts, dtype=np.float32), "stub"

    monkeypatch.setattr("specialize.annotators.topic_store.embed_texts", embed)


def write_as_earlier_versions(folder, **changes):
    """Rewrite topics.json without checksums."""
    about = json.loads((folder / "topics.json").read_text()) | changes
    kept = {key: value for key, value in about.items() if key not in ("files", "sha256")}
    (folder / "topics.json").write_text(json.dumps(kept))


def test_fitted_documents_keep_their_topic_and_new_ones_get_the_nearest(saved, stub, themed_documents):
    folder, codes = saved
    seen = []
    annotation = apply_topics(themed_documents, folder, progress=lambda done, total: seen.append((done, total)))
    assert (annotation.name, annotation.level, annotation.labels) == ("bertopic", "document", LABELS)
    np.testing.assert_array_equal(annotation.codes[:70], codes)
    themes = pd.Categorical(themed_documents["theme"], categories=["sea", "kitchen", "sky"]).codes
    np.testing.assert_array_equal(annotation.codes[70:], themes[70:])
    assert (annotation.provenance["fitted"], annotation.provenance["predicted"]) == (70, 20)
    assert annotation.provenance["seed"] == 3
    assert seen == [(20, 20)]


def test_known_documents_need_no_embedding(saved, themed_documents, monkeypatch):
    monkeypatch.setattr("specialize.annotators.topic_store.embed_texts", lambda *_, **__: pytest.fail("embedded"))
    annotation = apply_topics(themed_documents[:70].iloc[::-1], saved[0])
    np.testing.assert_array_equal(annotation.codes[::-1], saved[1])


def test_topics_of_word_counts_label_no_new_documents(saved, themed_documents):
    folder, _ = saved
    write_as_earlier_versions(folder, provenance={"embedding": TFIDF})
    with pytest.raises(
        AnnotationError, match=r"expected topics fitted with an embedding model, got .* the 20 new ones of 90 documents"
    ):
        apply_topics(themed_documents, folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("topics.json", b"{"),
        ("topics.json", b'{"format": "specialize.topics", "version": 9}'),
        ("centroids.npy", b"junk"),
        ("documents.arrow", b""),
    ],
)
def test_damage_is_named(saved, themed_documents, name, content):
    folder, _ = saved
    (folder / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=r"expected fitted topics, got damaged ones \(.*\); fit them again"):
        apply_topics(themed_documents, folder)
    with pytest.raises(AnnotationError, match="expected fitted topics, found none"):
        apply_topics(themed_documents, folder / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {}},
        {"provenance": {"embedding": 3}},
        {"provenance": None},
        {"labels": ["one"]},
        {"labels": 3},
    ],
)
def test_other_contents_are_named(saved, themed_documents, change):
    write_as_earlier_versions(saved[0], **change)
    with pytest.raises(AnnotationError, match=r"expected fitted topics, got damaged ones \(.*\); fit them again"):
        apply_topics(themed_documents, saved[0])


@pytest.mark.parametrize("centroids", [np.full((3, 3), np.nan), np.ones((2, 3)), np.ones(3), np.array(["a"] * 3)])
def test_centroids_of_other_contents_are_named(saved, themed_documents, centroids):
    write_as_earlier_versions(saved[0])
    np.save(saved[0] / "centroids.npy", centroids)
    with pytest.raises(AnnotationError, match=r"expected fitted topics, got damaged ones \(.*\); fit them again"):
        apply_topics(themed_documents, saved[0])


def test_centroids_of_another_embedding_are_named(saved, stub, themed_documents):
    write_as_earlier_versions(saved[0])
    np.save(saved[0] / "centroids.npy", np.ones((3, 5), dtype=np.float32))
    with pytest.raises(AnnotationError, match="expected topics of the embedding 'stub' with 3 dimensions, got 5"):
        apply_topics(themed_documents, saved[0], progress=lambda *_: None)


@pytest.mark.parametrize("name", ["topics.json", "centroids.npy", "documents.arrow"])
def test_a_flipped_bit_is_noticed(saved, themed_documents, name):
    path = saved[0] / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 60, replace=False):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            annotation = apply_topics(themed_documents[:70], saved[0])
        except AnnotationError:
            continue
        assert (name, annotation.labels, annotation.codes.tolist()) == ("topics.json", LABELS, saved[1].tolist())
        # white space, or the name of the entry that holds a checksum
        assert {key: annotation.provenance[key] for key in ("embedding", "seed")} == {"embedding": "stub", "seed": 3}


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["pca", "none"])
def test_other_parts_find_the_themes_too_and_can_be_saved(tmp_path, themed_documents, reduction):
    pytest.importorskip("bertopic")
    model = annotate_topics(
        themed_documents, embedding=TFIDF, reduction=reduction, clustering="kmeans", num_topics=3, stability_seeds=()
    )
    assert (model.annotation.codes != NO_LABEL).all()
    for _, group in themed_documents.groupby(model.annotation.codes):
        assert group["theme"].nunique() == 1
    assert model.annotation.provenance["reduction"] == reduction
    again = apply_topics(themed_documents, save_topics(model, themed_documents, tmp_path / "model"))
    np.testing.assert_array_equal(again.codes, model.annotation.codes)
    assert again.labels == model.annotation.labels
    np.testing.assert_allclose(np.linalg.norm(model.centroids, axis=1), 1, rtol=1e-5)


def test_parts_that_do_not_exist_raise(themed_documents):
    with pytest.raises(AnnotationError, match="reduction: expected one of umap, pca, none, got 'tsne'"):
        annotate_topics(themed_documents, embedding=TFIDF, reduction="tsne")
