"""Texts of documents, decoded from token ids: what a tokenizer says of the text, in every format with token ids."""

import json

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from listening import Listener
from planted.served import vllm_base64, write_lines
from specialize.errors import MissingExtraError, TraceError
from specialize.trace import open_trace
from specialize.trace.imports import import_trace
from specialize.trace.imports import texts as texts_module
from tokenizer_kinds import train

TEXTS = [
    "the naïve cat doesn't sit on the mat",
    "Der Bürgermeister überreichte am 3. Mai die Schlüssel — „endlich“, sagte er.",
    "x",
    "we don't know why; 我是学生",
]


@pytest.fixture(scope="module")
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=train("byte-level BPE"), bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(path)
    config = {"num_hidden_layers": 2, "num_experts": 8, "num_experts_per_tok": 2}
    (path / "config.json").write_text(json.dumps(config))
    return path


def encode(tokenizer, texts=TEXTS):
    encoded = [tokenizer(text, return_offsets_mapping=True) for text in texts]
    return [each["input_ids"] for each in encoded], [np.array(each["offset_mapping"]) for each in encoded]


def draw(tokens):
    return np.random.default_rng(0).random((tokens, 2, 8)).argsort(axis=2)[:, :, :2]


def write_arrays(path, ids, **more):
    document = np.repeat(np.arange(len(ids)), [len(each) for each in ids])
    flat = np.concatenate([np.array(each, dtype=np.int64) for each in ids])
    np.savez(path, experts=draw(len(flat)), document=document, token_id=flat, **more)
    return path


def spans_of(trace):
    return trace.tokens()[["char_start", "char_end"]].to_numpy()


@pytest.mark.parametrize("block", [1, 7, 2**17])
def test_arrays(tmp_path, tokenizer, monkeypatch, block):
    """Blocks and shards may cut documents anywhere."""
    monkeypatch.setattr("specialize.trace.imports.arrays.BLOCK_TOKENS", block)
    monkeypatch.setattr("specialize.trace.imports.shards.BLOCK_TOKENS", 10)
    ids, spans = encode(tokenizer)
    path = write_arrays(tmp_path / "a.npz", ids, num_experts=np.array(8))
    listener = Listener()
    trace = import_trace("arrays", path, tmp_path / "run", tokenizer=tokenizer, reporter=listener)
    assert trace.documents()["text"].tolist() == TEXTS
    np.testing.assert_array_equal(spans_of(trace), np.concatenate(spans))
    assert trace.tokens()["token_id"].tolist() == [number for each in ids for number in each]
    np.testing.assert_array_equal(trace.experts(1), draw(sum(map(len, ids)))[:, 1])
    assert listener.notes == ["texts are decoded with the tokenizer TokenizersBackend"]
    assert trace.manifest["tokenizer"] == {
        "name": "TokenizersBackend",
        "unplaced_tokens": 0,
        "documents_without_text": 0,
    }


def olmoe(tmp_path, ids):
    rows = [{"input_ids": each, "exp_ids": draw(len(each)).transpose(0, 2, 1).tolist()} for each in ids]
    return write_lines(tmp_path / "a.jsonl", rows)


def vllm(tmp_path, ids):
    rows = [vllm_base64(str(n), each, [7], draw(len(each))) for n, each in enumerate(ids)]
    return write_lines(tmp_path / "a.jsonl", rows)


def served_arrays(tmp_path, ids):
    (tmp_path / "dump").mkdir()
    for number, each in enumerate(ids):
        np.save(tmp_path / "dump" / f"{number}.npy", draw(len(each)))
        np.save(tmp_path / "dump" / f"{number}.token_ids.npy", [*each, 7])
    return tmp_path / "dump"


@pytest.mark.parametrize(
    ("name", "write"),
    [("olmoe", olmoe), ("vllm", vllm), ("vllm", served_arrays), ("tensorrt-llm", served_arrays)],
)
def test_formats(tmp_path, tokenizer, folder, name, write):
    ids, spans = encode(tokenizer)
    path = write(tmp_path, ids)
    trace = import_trace(name, path, tmp_path / "run", num_experts=8, tokenizer=folder)
    assert trace.documents()["text"].tolist() == TEXTS
    np.testing.assert_array_equal(spans_of(trace), np.concatenate(spans))
    assert trace.manifest["tokenizer"]["name"] == str(folder)


def test_several_inputs(tmp_path, tokenizer):
    ids, spans = encode(tokenizer)
    paths = {name: write_arrays(tmp_path / f"{name}.npz", part) for name, part in (("a", ids[:2]), ("b", ids[2:]))}
    trace = import_trace("arrays", paths, tmp_path / "run", num_experts=8, tokenizer=tokenizer)
    assert trace.documents()["text"].tolist() == TEXTS
    assert trace.documents()["input"].tolist() == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(spans_of(trace), np.concatenate(spans))


def test_special_tokens_and_unknown_ids(tmp_path, tokenizer):
    (first, *_), (span, *_) = encode(tokenizer)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = [[bos, *first, eos], [bos, eos], [*first[:3], -1]]
    listener = Listener()
    path = write_arrays(tmp_path / "a.npz", ids)
    trace = import_trace("arrays", path, tmp_path / "run", num_experts=8, tokenizer=tokenizer, reporter=listener)
    assert trace.documents()["text"].fillna("").tolist() == [TEXTS[0], "", ""]
    spans = spans_of(trace)
    np.testing.assert_array_equal(spans[1 : len(first) + 1], span)
    assert (np.delete(spans, slice(1, len(first) + 1), axis=0) == -1).all()
    assert listener.notes[1:] == [
        "special tokens at the ends of documents, which are no text: 2",
        "documents without a text, because token ids are unknown or no text: 2",
    ]


def test_tokens_without_a_place_are_counted(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(texts_module.TokenDecoder, "_encode", lambda *_: ([], np.empty((0, 2), np.int32)))
    monkeypatch.setattr(
        texts_module.TokenDecoder, "_decode", lambda self, ids: "a different text" if len(ids) > 9 else "b" * len(ids)
    )
    ids, _ = encode(tokenizer, TEXTS[3:])
    listener = Listener()
    path = write_arrays(tmp_path / "a.npz", ids)
    trace = import_trace("arrays", path, tmp_path / "run", num_experts=8, tokenizer=tokenizer, reporter=listener)
    count = int((spans_of(trace)[:, 0] == -1).sum())
    assert count == trace.manifest["tokenizer"]["unplaced_tokens"] > 5
    assert listener.notes[1] == f"tokens that have no place in the text: {count} of {len(ids[0])}"


def test_given_texts_are_kept(tmp_path, tokenizer):
    ids, spans = encode(tokenizer)
    table = write_lines(tmp_path / "t.jsonl", [{"text": text, "kind": "a"} for text in TEXTS])
    path = write_arrays(tmp_path / "a.npz", [[tokenizer.bos_token_id, *each] for each in ids])
    options = {"num_experts": 8, "tokenizer": tokenizer}
    trace = import_trace("arrays", path, tmp_path / "run", documents=table, **options)
    assert trace.documents()["text"].tolist() == TEXTS
    expected = np.concatenate([np.concatenate([[[-1, -1]], each]) for each in spans])
    np.testing.assert_array_equal(spans_of(trace), expected)
    write_lines(table, [{"text": text.replace("cat", "dog"), "kind": "a"} for text in TEXTS])
    with pytest.raises(
        TraceError, match=r"token 0: document 0: expected token ids of its text, which Tok.* to others;"
    ):
        import_trace("arrays", path, tmp_path / "none", documents=table, **options)
    write_lines(table, [{"id": str(n), "kind": "ab"[n % 2]} for n in range(4)])
    trace = import_trace("arrays", path, tmp_path / "labels", documents=table, **options)
    assert trace.documents()["text"].tolist() == TEXTS
    assert trace.documents()["kind"].tolist() == ["a", "b", "a", "b"]


def test_texts_that_the_tokenizer_does_not_give_back(tmp_path):
    """WordPiece loses case: a given text is kept if it encodes to the ids."""
    lossy = PreTrainedTokenizerFast(tokenizer_object=train("WordPiece"))
    ids, spans = encode(lossy, TEXTS[:2])
    path = write_arrays(tmp_path / "a.npz", ids)
    table = write_lines(tmp_path / "t.jsonl", [{"text": text} for text in TEXTS[:2]])
    trace = import_trace("arrays", path, tmp_path / "run", documents=table, num_experts=8, tokenizer=lossy)
    assert trace.documents()["text"].tolist() == TEXTS[:2]
    np.testing.assert_array_equal(spans_of(trace), np.concatenate(spans))


def test_a_tokenizer_beside_the_configuration_is_named_and_not_used(tmp_path, tokenizer, folder):
    ids, _ = encode(tokenizer)
    path = write_arrays(tmp_path / "a.npz", ids)
    listener = Listener()
    trace = import_trace("arrays", path, tmp_path / "run", model=folder, reporter=listener)
    assert trace.documents()["text"].isna().all()
    assert "tokenizer" not in trace.manifest
    assert listener.notes == [
        f"{folder} holds a tokenizer: set tokenizer, and token ids become texts, which topics and syntax need"
    ]
    listener = Listener()
    import_trace("arrays", path, tmp_path / "texts", model=folder, tokenizer=folder, reporter=listener)
    np.savez(tmp_path / "b.npz", experts=draw(5))
    import_trace("arrays", tmp_path / "b.npz", tmp_path / "no-ids", model=folder, reporter=listener)
    assert listener.notes == [f"texts are decoded with the tokenizer {folder}"]


def test_what_is_refused(tmp_path, tokenizer, folder, call):
    def refuse(message, path, *, kind="arrays", error=TraceError, tokenizer=tokenizer):
        with pytest.raises(error, match=message) as caught:
            import_trace(kind, path, tmp_path / "run", num_experts=8, tokenizer=tokenizer)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    ids, _ = encode(tokenizer)
    good = write_arrays(tmp_path / "a.npz", ids)
    beyond = write_arrays(tmp_path / "b.npz", [[1, 2, 99_999]])
    refuse(r"token 2: expected ids of the \d+ tokens of .*, got 99999; is it the tokenizer of another model", beyond)
    places = np.zeros(sum(map(len, ids)), np.int64)
    twice = write_arrays(tmp_path / "c.npz", ids, char_start=places, char_end=places)
    refuse("expected an input without characters of its tokens, got char_start or char_end", twice)
    np.savez(tmp_path / "d.npz", experts=draw(5))
    refuse("tokenizer: expected an input with token ids, found none", tmp_path / "d.npz")
    np.save(tmp_path / "u.npy", np.ones((2, 2, 8)))
    refuse("tokenizer: expected an input with token ids, found none", tmp_path / "u.npy", kind="usage")
    refuse("tokenizer: expected a folder with a tokenizer, or a hub id such as", good, tokenizer=str(tmp_path / "no"))
    (tmp_path / "empty").mkdir()
    refuse("tokenizer: .*empty could not be loaded as a tokenizer", good, tokenizer=tmp_path / "empty")
    code, _, err = call("import", "arrays", good, "-o", tmp_path / "run", "--tokenizer", tmp_path / "empty")
    assert (code, "could not be loaded as a tokenizer" in err.splitlines()[-1]) == (2, True)
    assert call("import", "arrays", good, "-o", tmp_path / "run", "--tokenizer", folder)[0] == 0
    assert open_trace(tmp_path / "run").documents()["text"].tolist() == TEXTS


def test_a_missing_package_is_named(tmp_path, tokenizer, folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    path = write_arrays(tmp_path / "a.npz", encode(tokenizer)[0])
    with pytest.raises(MissingExtraError, match=r"needs the package transformers, .* 'specialize\[capture\]'"):
        import_trace("arrays", path, tmp_path / "run", num_experts=8, tokenizer=folder)
    assert not (tmp_path / "run").exists()
