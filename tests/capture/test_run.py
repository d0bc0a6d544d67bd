"""A corpus through a model into a trace."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import specialize
from capture_models import build
from specialize.capture import Checkpoint, TraceOptions, run, trace_corpus
from specialize.corpus import open_corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.models.data import train_bpe
from specialize.trace import validate_trace

TEXTS = [
    "The quick brown fox jumps over the lazy dog, twice.",
    "Ein kürzerer Satz – mit Umlauten.",
    "Numbers 1 2 3 and emoji 👩‍🚀 in one line. " * 6,
    "x",
    "Short words come first; longer ones follow after them in this sentence about nothing much.",
]


def make_checkpoint(family: str = "olmoe") -> Checkpoint:
    tokenizer = train_bpe(TEXTS * 3, vocab_size=300, max_length=64)
    model = build(family)
    model.resize_token_embeddings(300)
    facts = {"name": "tiny", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
    return Checkpoint("tiny", model.eval(), tokenizer, facts)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make_checkpoint()


@pytest.fixture
def corpus_path(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    lines = [{"id": f"d{i}", "text": text, "kind": "even" if i % 2 == 0 else "odd"} for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


SMALL = TraceOptions(context_length=16, batch_tokens=64, shard_tokens=40)


def test_the_trace_is_what_single_forward_passes_see(checkpoint, corpus_path, tmp_path):
    trace = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    tokens, documents = trace.tokens(), trace.documents()
    assert documents["id"].tolist() == [f"d{i}" for i in range(5)]
    assert documents["kind"].tolist() == ["even", "odd", "even", "odd", "even"]
    assert len(trace.manifest["shards"]) > 1
    assert len(tokens) == trace.num_tokens
    order = tokens[["document", "sequence", "position"]].to_numpy().tolist()
    assert order == sorted(order)
    assert (tokens["phase"] == "prefill").all()
    with specialize.attach(checkpoint.model) as recorder, torch.no_grad():
        for _, window in tokens.groupby("sequence"):
            checkpoint.model(input_ids=torch.tensor(window["token_id"].to_numpy()[None], dtype=torch.int64))
            for layer in recorder.take():
                stored = trace.experts(layer.layer)[window.index]
                np.testing.assert_array_equal(stored, layer.experts)
                np.testing.assert_allclose(trace.weights(layer.layer)[window.index], layer.weights, rtol=2e-3)


def test_spans_point_into_the_text(checkpoint, corpus_path, tmp_path):
    trace = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    texts = trace.documents()["text"]
    for document, tokens in trace.tokens().groupby("document"):
        text = texts[document]
        covered = set()
        for start, end in zip(tokens["char_start"], tokens["char_end"], strict=True):
            covered |= set(range(start, end))
        assert covered == set(range(len(text)))
        assert checkpoint.tokenizer.decode(tokens["token_id"].tolist()) == text


def test_an_interrupted_run_ends_with_the_same_bytes(checkpoint, corpus_path, tmp_path, monkeypatch):
    whole = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "whole", options=SMALL)
    plan = run.plan_batches
    calls = []

    def fail_in_the_third_shard(windows, **options):
        calls.append(len(windows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plan(windows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run, "plan_batches", fail_in_the_third_shard)
        with pytest.raises(KeyboardInterrupt):
            trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "parts", options=SMALL)
    with pytest.raises(TraceError, match="was interrupted"):
        specialize.open_trace(tmp_path / "parts")
    parts = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "parts", options=SMALL)
    assert len(calls) == 3
    assert parts.manifest["shards"] == whole.manifest["shards"]
    assert all(check.problem is None for check in validate_trace(tmp_path / "parts"))


def test_a_complete_run_is_opened_as_it_is(checkpoint, corpus_path, tmp_path, monkeypatch):
    trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    monkeypatch.setattr(run, "_trace_group", None)  # would fail if called
    again = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    assert again.num_documents == len(TEXTS)


def test_other_settings_are_refused(checkpoint, corpus_path, tmp_path):
    trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    with pytest.raises(TraceError, match=r"context_length: 16 there, 32 now"):
        trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=TraceOptions(32, 64, 40))


def test_a_changed_corpus_is_refused(checkpoint, corpus_path, tmp_path):
    trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    corpus_path.write_text(corpus_path.read_text(encoding="utf-8").replace("quick", "slow"), encoding="utf-8")
    with pytest.raises(CorpusError, match="not those that"):
        trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)


def test_a_dense_model_leaves_nothing_behind(checkpoint, corpus_path, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    dense = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64)).eval()
    broken = Checkpoint("dense", dense, checkpoint.tokenizer, checkpoint.facts)
    with pytest.raises(CaptureError, match="dense model"):
        trace_corpus(broken, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    assert not (tmp_path / "run").exists()


def test_a_window_longer_than_the_model_is_refused(checkpoint, corpus_path, tmp_path):
    with pytest.raises(TraceError, match="at most 64 tokens, got 65"):
        trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=TraceOptions(context_length=65))


def test_progress_ends_at_the_last_document(checkpoint, corpus_path, tmp_path):
    told = []
    trace = trace_corpus(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL, on_progress=told.append)
    done = [progress.documents_done for progress in told]
    assert done == sorted(done)
    assert (told[-1].documents_done, told[-1].documents) == (5, 5)
    assert told[-1].tokens == trace.num_tokens
