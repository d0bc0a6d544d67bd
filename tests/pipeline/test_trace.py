"""The stage that traces: every form of a model and a corpus, and what is checked before a model is loaded."""

import io
import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from capture.test_resuming import interrupt
from capture.test_run import TEXTS, make_checkpoint
from listening import Listener
from specialize.capture import loading
from specialize.corpus import open_corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.pipeline.trace import trace_corpus
from specialize.trace import open_trace

ROWS = [{"id": f"d{number}", "text": text, "kind": "ab"[number % 2]} for number, text in enumerate(TEXTS)]
HOW = {"context": 16, "batch_tokens": 64}


@pytest.fixture(scope="module")
def loaded():
    return make_checkpoint()


@pytest.fixture(scope="module")
def folder(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reference(folder, corpus, tmp_path_factory):
    return trace_corpus(folder, corpus, tmp_path_factory.mktemp("run") / "run", **HOW)


def assert_same(trace, reference) -> None:
    """The same documents, tokens and routing, byte for byte."""
    for key in ("documents", "shards", "routers", "contents"):
        assert trace.manifest[key] == reference.manifest[key]
    assert trace.manifest["corpus"]["digest"] == reference.manifest["corpus"]["digest"]


class Dataset:
    """The part of a ``datasets.Dataset`` that is used."""

    column_names = ("id", "text", "kind")
    features = None

    def __iter__(self):
        return iter(ROWS)


@pytest.mark.parametrize("form", ["path as text", "array of JSON", "standard input", "frame", "dataset", "corpus"])
def test_every_form_of_a_corpus_gives_the_same_trace(
    form, folder, corpus, reference, tmp_path, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(corpus.read_bytes())))
    (tmp_path / "c.json.xz").write_bytes(lzma.compress(json.dumps(ROWS).encode()))
    forms = {
        "array of JSON": tmp_path / "c.json.xz", "standard input": "-",
        "path as text": str(corpus), "frame": pd.DataFrame(ROWS), "dataset": Dataset(), "corpus": open_corpus(corpus),
    }  # fmt: skip
    assert_same(trace_corpus(str(folder), forms[form], tmp_path / "run", **HOW), reference)


def test_a_list_of_texts_gives_the_same_routing(folder, reference, tmp_path):
    trace = trace_corpus(folder, TEXTS, tmp_path / "run", **HOW)
    assert trace.documents()["id"].tolist() == ["0", "1", "2", "3", "4"]
    assert trace.manifest["shards"] == reference.manifest["shards"]


def test_a_loaded_model_and_a_checkpoint_give_the_same_trace(folder, loaded, corpus, reference, tmp_path):
    model = loaded.model.train()
    trace = trace_corpus(model, corpus, tmp_path / "loaded", tokenizer=loaded.tokenizer, **HOW)
    assert model.training  # as it was before
    model.eval()
    assert_same(trace, reference)
    assert_same(trace_corpus(model, corpus, tmp_path / "named", tokenizer=str(folder), **HOW), reference)
    assert_same(trace_corpus(loaded, corpus, tmp_path / "checkpoint", **HOW), reference)
    facts, stored = trace.manifest["model"], reference.manifest["model"]
    assert facts["class"] == stored["class"] == "OlmoeForCausalLM"
    assert (facts["parameters"], facts["dtype"]) == (stored["parameters"], stored["dtype"])


def test_a_loaded_model_with_other_weights_is_another_model(loaded, corpus, tmp_path):
    how = {"tokenizer": loaded.tokenizer, **HOW}
    first = trace_corpus(loaded.model, corpus, tmp_path / "run", **how)
    assert_same(trace_corpus(loaded.model, corpus, tmp_path / "run", **how), first)
    weight = loaded.model.model.layers[1].mlp.experts.down_proj
    before = weight.detach().clone()
    with torch.no_grad():
        weight[[0, 1]] = weight[[1, 0]]  # the same values in another order
    try:
        with pytest.raises(TraceError, match=r"other settings \(weights_digest: "):
            trace_corpus(loaded.model, corpus, tmp_path / "run", **how)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    other = type(loaded.tokenizer)(tokenizer_object=loaded.tokenizer.backend_tokenizer, pad_token="!")
    other.add_tokens(["quick"])
    with pytest.raises(TraceError, match=r"other settings \(tokenizer_digest: "):
        trace_corpus(loaded.model, corpus, tmp_path / "run", tokenizer=other, **HOW)


def test_options_reach_the_trace(folder, corpus, tmp_path):
    trace = trace_corpus(
        folder, corpus, tmp_path / "run", labels=["kind"], limit=3, stride=8, logits=True, norms=True,
        predictions=True, control="random-router", control_draws=2, seed=4, command="a command", **HOW,
    )  # fmt: skip
    assert trace.num_documents == 3
    assert trace.contents == ("weights", "logits", "norms", "predictions")
    assert len(trace.random_routers) == len(trace.layers) == 3
    assert trace.manifest["command"] == "a command"
    settings = trace.manifest["settings"]
    assert (settings["context_length"], settings["stride"], settings["batch_tokens"]) == (16, 8, 64)
    assert (settings["control"], settings["seed"], settings["limit"]) == ("random-router", 4, 3)
    assert settings["control_draws"] == len(trace.random_draws(trace.layers[0].name)) == 2
    weights = trace.weights(1)
    assert len(np.unique(weights)) > 0.5 * weights.size  # gate weights of the model, not equal shares


def test_a_sample_is_resumed_from_any_form_and_another_one_is_refused(folder, corpus, tmp_path):
    how = HOW | {"sample": 3, "sample_seed": 2}
    expected = trace_corpus(folder, corpus, tmp_path / "whole", **how)
    assert expected.num_documents == 3
    assert expected.manifest["corpus"]["sample"] == {"size": 3, "seed": 2, "population": 5}
    trace_corpus(folder, corpus, tmp_path / "run", **how)
    interrupt(tmp_path / "run", shards=0)
    (tmp_path / "c.json.xz").write_bytes(lzma.compress(json.dumps(ROWS).encode()))
    listener = Listener()
    assert_same(trace_corpus(folder, tmp_path / "c.json.xz", tmp_path / "run", reporter=listener, **how), expected)
    assert f"{tmp_path / 'c.json.xz'}: a random sample of 3 of 5 documents, drawn with seed 2" in listener.notes
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for other, message in (
        ({"sample_seed": 0}, "expected the documents that the trace in .* was begun with, and any others after them"),
        ({"sample": 2}, "expected at least the 3 documents that the trace in"),
        ({"sample": None, "limit": 3}, "expected the documents that the trace in"),
    ):
        with pytest.raises(CorpusError, match=message):
            trace_corpus(folder, corpus, tmp_path / "run", **how | other)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_an_interrupted_trace_is_resumed_and_damage_repaired(folder, corpus, reference, tmp_path):
    listener = Listener()
    run = tmp_path / "run"
    trace_corpus(folder, corpus, run, **HOW)
    shard = run / "trace/routing-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-9])
    assert_same(trace_corpus(folder, corpus, run, repair=True, reporter=listener, **HOW), reference)
    assert listener.notes[0] == f"loading {folder} …"
    assert listener.steps[-1].done == 5


@pytest.mark.parametrize("spelling", ["relative", "link"])
def test_the_same_model_and_corpus_may_be_named_in_another_way(
    folder, corpus, reference, tmp_path, monkeypatch, spelling
):
    run = tmp_path / "moved"
    shutil.copytree(reference.path, run)
    interrupt(run, shards=0)
    monkeypatch.chdir(folder.parent)
    (tmp_path / "model").symlink_to(folder)
    (tmp_path / "data").symlink_to(corpus.parent)
    names = {
        "relative": (f"./{folder.name}/", os.path.relpath(corpus), os.path.relpath(run)),
        "link": (tmp_path / "model", f"{tmp_path}/data/./{corpus.name}", run),
    }
    assert_same(trace_corpus(*names[spelling], **HOW), reference)
    listener = Listener()
    trace_corpus(folder, corpus, run, reporter=listener, **HOW)
    assert listener.notes[-1] == f"{run}: the trace is complete already"


def test_another_model_is_refused_wherever_it_is(folder, loaded, corpus, tmp_path):
    run, other = tmp_path / "run", tmp_path / "model"
    shutil.copytree(folder, other)
    trace_corpus(other, corpus, run, **HOW)
    assert_same(trace_corpus(folder, corpus, run, **HOW), open_trace(run))  # a copy is the same model
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if "gate" in name)
    save_file(weights | {name: weights[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        TraceError, match=r"other settings \(weights_digest: '\w{12}…' there, '\w{12}…' now\)"
    ) as caught:
        trace_corpus(other, corpus, run, **HOW)
    assert "\n" not in str(caught.value)
    other = other.rename(tmp_path / "third")
    with pytest.raises(TraceError, match=rf"\(model: '.*/model' there, '{other}' now; weights_digest: "):
        trace_corpus(other, corpus, run, **HOW)


class NeverLoaded(Exception):
    """Raised if a model is loaded."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 0}, "context: expected a positive number, got 0"),
        ({"stride": -1}, "stride: expected a positive number"),
        ({"batch_tokens": 0}, "batch_tokens: expected a positive number"),
        ({"control": "random"}, "control: expected one of random-router"),
        ({"control_draws": 0}, "control_draws: expected a positive number, got 0"),
        ({"dtype": "float8"}, "dtype: expected one of auto, float32"),
        ({"device": "cpu", "device_map": "auto"}, "expected a device or a device map, got both"),
        ({"model": "no/such/model"}, "expected a checkpoint folder or a hub id"),
        ({"tokenizer": "gpt2"}, "tokenizer: expected one only with a loaded model"),
        ({"corpus": "nothing.jsonl"}, "expected a file or folder, found none"),
        ({"corpus": []}, "expected at least one document"),
        ({"corpus": ["x"], "labels": ["kind"]}, "has no columns to choose"),
        ({"corpus": pd.DataFrame([*ROWS, ROWS[0]])}, "DataFrame, row 5: expected unique ids"),  # the last row
        ({"corpus": pd.DataFrame({"text": ["x"], "id": ["a"], "body": ["b"]}), "text_column": "body"}, "label columns"),
        ({"run": "other"}, "got one that is not empty and holds no trace"),
        ({"run": "file"}, "expected a folder to write the run to, got a file"),
        ({"run": "traced", "context": 8}, "context_length: 16 there, 8 now"),
        ({"run": "traced", "logits": True}, "contents: "),
        ({"run": "traced", "limit": 2}, "expected at least the 5 documents that the trace in .* was begun with, got 2"),
        ({"run": "traced", "corpus": "changed"}, "expected the documents that the trace in .* was begun with"),
    ],
)
def test_all_of_this_is_checked_before_a_model_is_loaded(arguments, message, folder, corpus, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious").write_text("x")
    (tmp_path / "file").write_text("x")
    given = {"model": folder, "corpus": corpus, "run": "run", **HOW} | arguments
    given["run"] = tmp_path / given["run"]
    if arguments.get("run") == "traced":
        copy = tmp_path / "corpus.jsonl"
        copy.write_text(corpus.read_text(encoding="utf-8"), encoding="utf-8")
        trace_corpus(folder, copy, tmp_path / "traced", **HOW)
        if given["corpus"] == "changed":
            copy.write_text(corpus.read_text(encoding="utf-8").replace("quick", "slow"), encoding="utf-8")
        given["corpus"] = copy

    def never(*_, **__):
        raise NeverLoaded

    monkeypatch.setattr(loading, "load_checkpoint", never)
    with pytest.raises((CaptureError, CorpusError, TraceError), match=message) as caught:
        trace_corpus(given.pop("model"), given.pop("corpus"), given.pop("run"), **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "tokenizer: expected the tokenizer of the loaded model"),
        ({"tokenizer": object()}, "expected a fast tokenizer"),
        ({"tokenizer": "x", "dtype": "bfloat16"}, "dtype: expected it only with the name of a model to load"),
        ({"tokenizer": "x", "trust_remote_code": True}, "trust_remote_code: expected it only with the name"),
        ({"tokenizer": "x", "allow_missing_weights": True}, "allow_missing_weights: expected it only with the name"),
        ({"model": torch.nn.Linear(2, 2), "tokenizer": "x"}, "model: expected a transformers model, .* got Linear"),
        ({"model": 7, "tokenizer": "x"}, "model: expected a transformers model, .* got int"),
        ({"tokenizer": "no/such/tokenizer/here"}, "could not be loaded as a tokenizer"),
    ],
)
def test_mistakes_with_a_loaded_model_are_one_line(arguments, message, loaded, tmp_path):
    model = arguments.get("model", loaded.model)
    with pytest.raises(CaptureError, match=message) as caught:
        trace_corpus(model, ["x"], tmp_path / "run", **{key: arguments[key] for key in arguments if key != "model"})
    assert "\n" not in str(caught.value)


def test_torch_is_imported_when_a_model_is_loaded(tmp_path):
    code = (
        "import sys\n"
        "from specialize.pipeline.trace import trace_corpus\n"
        "from specialize.errors import CorpusError\n"
        "import specialize.capture, specialize.pipeline.record\n"
        "try: trace_corpus(sys.argv[1], 'nothing.txt', 'run')\n"
        "except CorpusError as error: assert 'nothing.txt' in str(error)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, cwd=Path(tmp_path))
