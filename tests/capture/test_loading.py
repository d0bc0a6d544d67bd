"""Checkpoints of several kinds, from a folder to a trace."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import specialize
from capture.test_run import TEXTS
from moe_zoo.build import build
from specialize.capture import TraceOptions, load_checkpoint, trace_documents
from specialize.corpus import open_corpus
from specialize.errors import CaptureError
from specialize.models.data import train_bpe


def save(folder: Path, model: torch.nn.Module) -> str:
    model.save_pretrained(folder)
    train_bpe(TEXTS * 3, vocab_size=model.get_input_embeddings().num_embeddings, max_length=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_encoder_decoder_model_routes_each_token_on_both_sides(tmp_path, corpus):
    model = build("switch_transformers", vocab_size=300)
    model.generation_config.decoder_start_token_id = start = 3
    checkpoint = load_checkpoint(save(tmp_path / "model", model))
    options = TraceOptions(context=16, batch_tokens=64, shard_tokens=60, predictions=True)
    trace = trace_documents(checkpoint, open_corpus(corpus), tmp_path / "run", options=options)
    assert {spec.stack for spec in trace.layers} == {"encoder", "decoder"}
    tokens = trace.tokens()
    with specialize.attach(checkpoint.model) as recorder, torch.no_grad():
        for _, window in tokens.groupby("sequence"):
            ids = torch.tensor(window["token_id"].to_numpy()[None], dtype=torch.int64)
            read = torch.cat([torch.tensor([[start]]), ids], dim=1)
            scores = checkpoint.model(input_ids=ids, decoder_input_ids=read).logits[0]
            # the row of a token is the decoder step that read it, and so predicts the token after it
            assert window["predicted_token_id"].tolist() == scores[1:].argmax(dim=-1).tolist()
            for layer in recorder.take():
                steps = layer.experts if layer.spec.stack == "encoder" else layer.experts[1:]
                np.testing.assert_array_equal(trace.experts(layer.name)[window.index], steps)


def test_three_hundred_experts_are_stored_in_nine_bits_each(tmp_path, corpus):
    model = build("olmoe", vocab_size=300, num_experts=300)
    trace = trace_documents(load_checkpoint(save(tmp_path / "model", model)), open_corpus(corpus), tmp_path / "run")
    with pa.memory_map(str(tmp_path / "run/trace/routing-00000.arrow")) as source:
        stored = pa.ipc.open_file(source).schema.field("experts.0").type
    assert stored == pa.binary(-(-9 * trace.layers[0].top_k // 8))
    assert max(trace.experts(spec.name).max() for spec in trace.layers) > 255
    check_against_single_passes(trace, model)


@pytest.mark.parametrize("family", ["every other layer", "k by layer"])
def test_layers_that_are_not_alike(tmp_path, corpus, family):
    sparse = {"decoder_sparse_step": 2, "num_hidden_layers": 4, "mlp_only_layers": []}
    model = build("qwen3_moe", vocab_size=300, **(sparse if family == "every other layer" else {}))
    checkpoint = load_checkpoint(save(tmp_path / "model", model))
    if family == "k by layer":
        for layer, top_k in enumerate((1, 3, 2)[: len(model.model.layers)]):
            for each in (model, checkpoint.model):
                each.model.layers[layer].mlp.gate.top_k = top_k
    trace = trace_documents(checkpoint, open_corpus(corpus), tmp_path / "run")
    if family == "every other layer":
        assert [spec.layer for spec in trace.layers] == [1, 3]
    else:
        assert len({spec.top_k for spec in trace.layers}) > 1
    check_against_single_passes(trace, model)


def check_against_single_passes(trace, model):
    with specialize.attach(model) as recorder, torch.no_grad():
        for _, window in trace.tokens().groupby("sequence"):
            model(input_ids=torch.tensor(window["token_id"].to_numpy()[None], dtype=torch.int64))
            for layer in recorder.take():
                np.testing.assert_array_equal(trace.experts(layer.name)[window.index], layer.experts)


def test_a_checkpoint_spread_over_devices_is_traced_alike(tmp_path, corpus):
    pytest.importorskip("accelerate", reason="a device map needs accelerate")
    folder = save(tmp_path / "model", build("olmoe", vocab_size=300))
    plain = trace_documents(load_checkpoint(folder), open_corpus(corpus), tmp_path / "plain")
    spread = load_checkpoint(folder, device_map="auto", dtype="float32")
    trace = trace_documents(spread, open_corpus(corpus), tmp_path / "spread")
    for spec in plain.layers:
        np.testing.assert_array_equal(plain.experts(spec.name), trace.experts(spec.name))


def test_device_and_device_map_exclude_each_other(tmp_path):
    folder = save(tmp_path / "model", build("olmoe", vocab_size=300))
    with pytest.raises(CaptureError, match=r"expected a device or a device map, got both \(cpu, auto\)"):
        load_checkpoint(folder, device="cpu", device_map="auto")


def test_a_device_map_without_accelerate_says_what_to_install(tmp_path, monkeypatch):
    folder = save(tmp_path / "model", build("olmoe", vocab_size=300))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CaptureError, match="pip install 'specialize\\[large\\]'"):
        load_checkpoint(folder, device_map="auto")


def test_the_tokenizer_of_another_model_is_one_clear_error(tmp_path, corpus):
    folder = tmp_path / "model"
    save(folder, build("olmoe", vocab_size=300))
    train_bpe(TEXTS * 3, vocab_size=400, max_length=64).save_pretrained(folder)
    with pytest.raises(CaptureError, match=r"expected token ids below 300.*use the tokenizer of this model"):
        trace_documents(load_checkpoint(str(folder)), open_corpus(corpus), tmp_path / "run")
