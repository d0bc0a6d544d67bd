"""A corpus through a model into a trace."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import specialize
from capture_models import build
from listening import Listener
from specialize.capture import Checkpoint, TraceOptions, batches, find_routers, trace_documents
from specialize.corpus import open_corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.models.data import train_bpe
from specialize.trace import validate_trace
from specialize.tracing.plan import TracePlan, plan_trace, survey_corpus

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


SMALL = TraceOptions(context=16, batch_tokens=64, shard_tokens=40)


def test_the_trace_is_what_single_forward_passes_see(checkpoint, corpus_path, tmp_path):
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
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
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    texts = trace.documents()["text"]
    for document, tokens in trace.tokens().groupby("document"):
        text = texts[document]
        covered = set()
        for start, end in zip(tokens["char_start"], tokens["char_end"], strict=True):
            covered |= set(range(start, end))
        assert covered == set(range(len(text)))
        assert checkpoint.tokenizer.decode(tokens["token_id"].tolist()) == text


def test_an_interrupted_run_ends_with_the_same_bytes(checkpoint, corpus_path, tmp_path, monkeypatch):
    whole = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "whole", options=SMALL)
    plan = batches.plan_batches
    calls = []

    def fail_in_the_third_shard(windows, **options):
        calls.append(len(windows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plan(windows, **options)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "plan_batches", fail_in_the_third_shard)
        with pytest.raises(KeyboardInterrupt):
            trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "parts", options=SMALL)
    with pytest.raises(TraceError, match="was interrupted; repeat the same trace"):
        specialize.open_trace(tmp_path / "parts")
    parts = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "parts", options=SMALL)
    assert len(calls) == 3
    assert parts.manifest["shards"] == whole.manifest["shards"]
    assert all(check.problem is None for check in validate_trace(tmp_path / "parts"))


def test_a_complete_run_is_opened_as_it_is(checkpoint, corpus_path, tmp_path, monkeypatch):
    trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    monkeypatch.setattr(batches.ShardTracer, "trace", None)  # would fail if called
    again = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    assert again.num_documents == len(TEXTS)


def test_other_settings_are_refused(checkpoint, corpus_path, tmp_path):
    trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    with pytest.raises(TraceError, match=r"context_length: 16 there, 32 now"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=replace(SMALL, context=32))


def test_a_changed_corpus_is_refused(checkpoint, corpus_path, tmp_path):
    trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    corpus_path.write_text(corpus_path.read_text(encoding="utf-8").replace("quick", "slow"), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"expected the documents that the trace in .* was begun with.*got others"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)


def test_a_dense_model_leaves_nothing_behind(checkpoint, corpus_path, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    dense = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64)).eval()
    broken = Checkpoint("dense", dense, checkpoint.tokenizer, checkpoint.facts)
    with pytest.raises(CaptureError, match="dense model"):
        trace_documents(broken, open_corpus(corpus_path), tmp_path / "run", options=SMALL)
    assert not (tmp_path / "run").exists()


def test_a_window_longer_than_the_model_is_refused(checkpoint, corpus_path, tmp_path):
    with pytest.raises(TraceError, match=r"context: expected at most 64 tokens.*got 65"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=TraceOptions(context=65))


def test_progress_ends_at_the_last_document(checkpoint, corpus_path, tmp_path):
    listener = Listener()
    trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL, reporter=listener)
    assert {step[:2] for step in listener.steps} == {("tracing", "documents")}
    done = [step.done for step in listener.steps]
    assert done == sorted(done)
    assert (listener.steps[-1].done, listener.steps[-1].total) == (5, 5)
    assert all(re.fullmatch(r"[\d,]+ tokens/s", step.rate) for step in listener.steps)
    assert listener.open == []


def run_bytes(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_overlapping_windows_record_each_token_once_with_more_before_it(checkpoint, corpus_path, tmp_path):
    apart = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "apart", options=SMALL)
    options = replace(SMALL, stride=4)
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "overlap", options=options)
    columns = ["document", "token_id", "char_start", "char_end"]
    assert trace.tokens()[columns].equals(apart.tokens()[columns])
    tokens = trace.tokens()
    for _, document in tokens.groupby("document"):
        first = document["sequence"].min()
        assert (document.loc[document["sequence"] > first, "position"] >= 12).all()
    # what is recorded is what the model does with the tokens before it in the window
    document = tokens[tokens["document"] == 2]
    ids = document["token_id"].to_numpy()
    with specialize.attach(checkpoint.model) as recorder, torch.no_grad():
        checkpoint.model(input_ids=torch.tensor(ids[None, 4:20], dtype=torch.int64))
    for layer in recorder.take():
        stored = trace.experts(layer.layer)[document.index]
        np.testing.assert_array_equal(stored[16:20], layer.experts[12:])


def test_the_first_tokens_of_each_document_are_traced_and_its_text_is_stored_whole(checkpoint, corpus_path, tmp_path):
    whole = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "whole", options=SMALL)
    options, listener = replace(SMALL, max_tokens=20), Listener()
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=options, reporter=listener)
    columns = ["document", "position", "token_id", "char_start", "char_end"]
    first = whole.tokens().groupby("document").head(20)
    assert trace.tokens()[columns].equals(first[columns].reset_index(drop=True))
    for layer in (0, 1):
        same = trace.experts(layer) == whole.experts(layer)[first.index]
        assert same.mean() > 0.99  # batches of other sizes round in another way
    assert trace.documents().equals(whole.documents())
    cut = int((whole.tokens().groupby("document").size() > 20).sum())
    assert 0 < cut < 5
    rest = "documents of more than 20 tokens, of which the rest is not traced"
    assert f"{tmp_path / 'run'}: {rest}: {cut} of 5" in listener.notes
    assert trace.manifest["settings"]["max_tokens"] == 20
    with pytest.raises(TraceError, match=r"other settings \(max_tokens: 20 there, None now\)"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)


def test_memory_that_runs_out_makes_batches_smaller(checkpoint, corpus_path, tmp_path, monkeypatch):
    plan, listener = batches.plan_batches, Listener()

    def out_of_memory_above_40_tokens(windows, *, tokens):
        if tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plan(windows, tokens=tokens)

    monkeypatch.setattr(batches, "plan_batches", out_of_memory_above_40_tokens)
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL, reporter=listener)
    used = [shard["batch_tokens"] for shard in trace.manifest["shards"]]
    assert max(used) <= 40
    assert listener.notes[-1] == f"out of memory: continuing with batches of {used[-1]} tokens"
    monkeypatch.undo()
    same = replace(SMALL, batch_tokens=used[0])
    again = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "again", options=same)
    for layer in trace.layers:
        np.testing.assert_array_equal(trace.experts(layer.layer), again.experts(layer.layer))


def test_memory_that_does_not_hold_one_window_is_one_clear_error(checkpoint, corpus_path, tmp_path, monkeypatch):
    def never(self, *arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batches.ShardTracer, "_run", never)
    with pytest.raises(CaptureError, match=r"out of memory with a single window of 16 tokens; use a shorter context"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)


def test_another_error_of_the_model_is_not_taken_for_memory(checkpoint, corpus_path, tmp_path, monkeypatch):
    def broken(self, *arguments, **keywords):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(batches.ShardTracer, "_run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=SMALL)


@pytest.mark.parametrize("harmed", ["routing-00001.arrow", "tokens-00000.arrow", "documents.arrow"])
def test_a_damaged_shard_is_made_anew_alone(checkpoint, corpus_path, tmp_path, monkeypatch, harmed):
    run = tmp_path / "run"
    trace_documents(checkpoint, open_corpus(corpus_path), run, options=SMALL)
    whole = run_bytes(run)
    path = run / "trace" / harmed
    path.write_bytes(path.read_bytes()[:-20])
    assert [check.file for check in validate_trace(run) if check.problem] == [f"trace/{harmed}"]
    traced, original = [], batches.ShardTracer.trace

    def counted(self, windows, **how):
        traced.append(how["first_sequence"])
        return original(self, windows, **how)

    monkeypatch.setattr(batches.ShardTracer, "trace", counted)
    trace_documents(checkpoint, open_corpus(corpus_path), run, options=SMALL, repair=True)
    assert len(traced) == (0 if harmed == "documents.arrow" else 1)
    assert run_bytes(run) == whole


def test_ids_alone(checkpoint, corpus_path, tmp_path):
    options = replace(SMALL, weights=False)
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=options)
    assert trace.contents == ()
    assert trace.experts(0).shape == (trace.num_tokens, 4)
    with pytest.raises(TraceError, match="expected gate weights of the chosen experts; the trace holds experts alone"):
        trace.weights(0)


def test_all_extras_and_a_control_are_what_the_model_says(checkpoint, corpus_path, tmp_path):
    control = {"control": "random-router", "control_draws": 3, "seed": 3}
    options = replace(SMALL, logits=True, norms=True, predictions=True, **control)
    trace = trace_documents(checkpoint, open_corpus(corpus_path), tmp_path / "run", options=options)
    assert [spec.layer for spec in trace.random_routers] == [spec.layer for spec in trace.layers]
    assert [[spec.draw for spec in trace.random_draws(own.name)] for own in trace.layers] == [[0, 1, 2]] * 3
    columns = [name for name in next(trace.shards("routing")).column_names if name.endswith((".3", ".6"))]
    assert columns == ["experts.3", "weights.3", "experts.6"]
    with pytest.raises(TraceError, match="draw: expected one of 0, 1, 2 of the random routers, got 3"):
        trace.experts(0, routing="random", draw=3)
    tokens = trace.tokens()
    with specialize.attach(checkpoint.model, **control, extras=("logits", "norms")) as recorder, torch.no_grad():
        for _, window in tokens.groupby("sequence"):
            ids = torch.tensor(window["token_id"].to_numpy()[None], dtype=torch.int64)
            scores = checkpoint.model(input_ids=ids).logits[0].log_softmax(dim=-1)
            assert window["predicted_token_id"].tolist() == scores.argmax(dim=-1).tolist()
            losses = -scores[:-1].gather(1, ids[0, 1:, None])[:, 0]
            np.testing.assert_allclose(window["next_token_loss"][:-1], losses, rtol=1e-4)
            assert np.isnan(window["next_token_loss"].iloc[-1])
            for layer in recorder.take():
                routing, draw = layer.spec.routing, layer.spec.draw
                stored = trace.experts(layer.name, routing=routing, draw=draw)[window.index]
                np.testing.assert_array_equal(stored, layer.experts)
                if draw:  # stored as ids alone
                    continue
                weights = trace.weights(layer.name, routing=routing)[window.index]
                np.testing.assert_allclose(weights, layer.weights, rtol=2e-3)
                if routing == "learned":
                    logits, norms = trace.router_logits(layer.layer), trace.output_norms(layer.layer)
                    np.testing.assert_allclose(logits[window.index], layer.logits, rtol=2e-3, atol=2e-3)
                    np.testing.assert_allclose(norms[window.index], layer.norms, rtol=2e-3, atol=1e-5)


def test_a_plan_is_reported_before_anything_is_written(checkpoint, corpus_path, tmp_path):
    run, was_there = tmp_path / "run", []

    class Watcher(Listener):
        def say(self, message):
            super().say(message)
            was_there.append(run.exists())

    watcher = Watcher()
    trace = trace_documents(checkpoint, open_corpus(corpus_path), run, options=SMALL, reporter=watcher)
    assert was_there == [False]
    pattern = rf"{re.escape(str(run))}: about {trace.num_tokens} tokens in 5 documents, 3 routers: about .* to write"
    assert re.match(pattern, watcher.notes[0])
    trace_documents(checkpoint, open_corpus(corpus_path), run, options=SMALL, reporter=watcher)
    assert watcher.notes[-1] == f"{run}: the trace is complete already"


def make_plan(checkpoint: Checkpoint, corpus, run: Path, **how) -> TracePlan:
    specs = [point.spec for point in find_routers(checkpoint.model)]
    return plan_trace(survey_corpus(corpus), corpus, checkpoint.tokenizer, specs, ("weights",), run, **how)


def test_the_plan_counts_the_first_tokens_alone(checkpoint, corpus_path, tmp_path):
    lengths = [len(ids) for ids in checkpoint.tokenizer(TEXTS)["input_ids"]]
    for most in (1, 20, max(lengths), 10_000):
        plan = make_plan(checkpoint, open_corpus(corpus_path), tmp_path / "run", max_tokens=most)
        assert plan.tokens == sum(min(length, most) for length in lengths)


def test_a_disk_that_is_too_small_is_reported(checkpoint, corpus_path, tmp_path):
    listener = Listener()
    plan = make_plan(checkpoint, open_corpus(corpus_path), tmp_path / "run")
    assert plan.free > plan.size > plan.tokens * 3 * 4 * 2
    plan.report(tmp_path, listener)
    replace(plan, free=plan.size - 1).report(tmp_path, listener)
    assert [note.startswith("note: the trace may not fit") for note in listener.notes] == [False, False, True]


def test_the_plan_is_near_what_a_longer_trace_takes(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
    path = tmp_path / "long.jsonl"
    lines = (json.dumps({"text": "".join(rng.choice(letters, rng.integers(20, 1500)))}) for _ in range(400))
    path.write_text("\n".join(lines), encoding="utf-8")
    corpus = open_corpus(path)
    planned = make_plan(checkpoint, corpus, tmp_path / "run").size
    trace_documents(checkpoint, corpus, tmp_path / "run")
    files = [path for path in (tmp_path / "run/trace").glob("*.arrow") if not path.name.startswith("documents")]
    written = sum(path.stat().st_size for path in files)
    assert 0.7 * planned < written < 1.05 * planned  # how far numbers compress depends on the model
