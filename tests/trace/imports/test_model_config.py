"""E, k and the MoE layers are read from a model's configuration, and an input of another model is refused."""

import base64
import json

import numpy as np
import pytest

import specialize
from listening import Listener
from moe_zoo.build import build, only_as_tested
from planted.dumps import write_esft
from specialize.errors import MissingExtraError, TraceError
from specialize.trace.imports import import_trace
from specialize.trace.imports.model_config import read_model

DEEPSEEK = {"num_hidden_layers": 4, "n_routed_experts": 9, "num_experts_per_tok": 2, "first_k_dense_replace": 1}


def write_config(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def draw(layers, tokens=6):
    return np.random.default_rng(0).random((tokens, layers, 9)).argsort(axis=2)[:, :, :2]


@pytest.mark.parametrize(
    ("config", "moe_layers"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"first_k_dense_replace": 2}, [2, 3, 4, 5]),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, [2, 4]),
        ({"moe_layer_freq": [0, 1, 1, 0, 1, 1]}, [1, 2, 4, 5]),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, [1, 5]),
        ({"interleave_moe_layer_step": 2}, [1, 3, 5]),
        ({"moe_layers": [5, 3]}, [3, 5]),
        ({"moe_layers_enum": "2,4"}, [2, 4]),
        ({"mlp_layer_types": ["dense", *["sparse"] * 4, "dense"]}, [1, 2, 3, 4]),
        ({"expert_layer_period": 3, "expert_layer_offset": 1}, [1, 4]),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": 2}, [1, 3, 5]),
        ({"moe_layer_start_index": [2, 3], "moe_layer_end_index": [4, 4]}, [2, 3, 4]),
        ({"num_dense_layers": 4}, [4, 5]),
        ({"hybrid_override_pattern": "ME*EME"}, [1, 3, 5]),
        ({"layers_block_type": ["mamba", "moe", "attention", "moe", "moe", "mamba"]}, [1, 3, 4]),
    ],
)
def test_which_layers_have_routers(tmp_path, config, moe_layers):
    facts = read_model(
        write_config(tmp_path / "m", num_experts=8, num_experts_per_tok=2, num_hidden_layers=6, **config)
    )
    assert (facts.num_experts, facts.top_k, facts.num_layers) == (8, 2, 6)
    assert list(facts.moe_layers) == moe_layers
    assert sorted(facts.moe_layers + facts.dense_layers) == list(range(6))


def test_configurations_of_parts_of_a_model(tmp_path):
    text = {"num_local_experts": 5, "moe_topk": [3, 3], "num_hidden_layers": 2}
    facts = read_model(
        write_config(tmp_path / "a", vision_config={"num_hidden_layers": 9}, thinker={"text_config": text})
    )
    assert (facts.num_experts, facts.top_k, facts.moe_layers) == (5, 3, (0, 1))
    facts = read_model(write_config(tmp_path / "b", n_layers=3, ffn_config={"moe_num_experts": 4, "moe_top_k": 1}))
    assert (facts.num_experts, facts.top_k, facts.moe_layers) == (4, 1, (0, 1, 2))
    facts = read_model(write_config(tmp_path / "c", n_routed_experts=4, zero_expert_num=2, num_layers=1))
    assert (facts.num_experts, facts.top_k) == (6, None)


@pytest.mark.parametrize(
    "family",
    ["deepseek_v3", "ernie4_5_moe", "glm4_moe", "gpt_oss", "jamba", "lfm2_moe", "llama4", "nemotron_h", "qwen3_moe"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
@only_as_tested
def test_the_configuration_tells_what_is_found_in_the_model(tmp_path, family):
    model = build(family)
    model.config.save_pretrained(tmp_path)
    recorder = specialize.attach(model)
    recorder.stop()
    facts = read_model(tmp_path)
    assert list(facts.moe_layers) == [spec.layer for spec in recorder.specs]
    assert {(facts.num_experts, facts.top_k)} == {(spec.num_experts, spec.top_k) for spec in recorder.specs}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 2}, "expected the configuration of a Mixture-of-Experts model"),
        ({"num_experts": 8}, "expected num_hidden_layers or n_layers .* got None"),
        ({"num_experts": "8", "num_hidden_layers": 2}, "from 1 to 32767, the same in all layers, got '8'"),
        ({"num_experts": [8, 4], "num_hidden_layers": 2}, r"the same in all layers, got \[8, 4\]"),
        ({"num_experts": 2, "num_experts_per_tok": 3, "num_hidden_layers": 2}, "as a number from 1 to 2, .* got 3"),
        ({"num_experts": 8, "num_hidden_layers": 2, "first_k_dense_replace": 2}, "one in which every layer is dense"),
        ({"num_experts": 8, "num_hidden_layers": 2, "moe_layers": "x"}, "which layers have routers"),
        ({"num_experts": 8, "num_hidden_layers": 2, "decoder_sparse_step": "x"}, "which layers have routers"),
    ],
)
def test_configurations_that_do_not_say_it(tmp_path, config, message):
    with pytest.raises(TraceError, match=message):
        read_model(write_config(tmp_path / "m", **config))


def test_models_that_cannot_be_found(tmp_path, monkeypatch):
    write_config(tmp_path / "model", **DEEPSEEK)
    for name, message in (
        (tmp_path / "modle", r"expected a folder with a config\.json, or a hub id .* Did you mean 'model'"),
        (tmp_path, r"expected a folder with the config\.json of a model, found none in it"),
    ):
        with pytest.raises(TraceError, match=message):
            read_model(name)
    (tmp_path / "model" / "config.json").write_text("[1]")
    with pytest.raises(TraceError, match="expected the configuration of a model as a JSON object, got another value"):
        read_model(tmp_path / "model")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match="needs the package huggingface-hub"):
        read_model("someone/a-model")


@pytest.mark.parametrize("layers", [4, 3])
def test_layers_of_arrays_are_those_of_the_model(tmp_path, layers):
    experts = draw(layers)
    np.save(tmp_path / "a.npy", experts)
    listener = Listener()
    model = write_config(tmp_path / "m", **DEEPSEEK)
    trace = import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", model=model, reporter=listener)
    assert [(router.layer, router.num_experts) for router in trace.layers] == [(1, 9), (2, 9), (3, 9)]
    np.testing.assert_array_equal(trace.experts(1), experts[:, layers - 3])
    assert listener.notes == [
        f"the input has all 4 layers of {model}; the dense ones are left out: 0"
        if layers == 4
        else f"the input has the 3 MoE layers of {model}, without the dense ones: 0"
    ]
    assert trace.manifest["model"] == {"name": str(model), "config": DEEPSEEK}


def test_sizes_that_a_format_does_not_state_are_those_of_the_model(tmp_path, planted):
    model = write_config(tmp_path / "m", **DEEPSEEK)
    encoded = base64.b64encode(draw(4).astype("<i4").tobytes()).decode()
    (tmp_path / "a.jsonl").write_text(json.dumps({"meta_info": {"routed_experts": encoded}}))
    trace = import_trace("sglang", tmp_path / "a.jsonl", tmp_path / "run", model=model)
    np.testing.assert_array_equal(trace.experts(3), draw(4)[:, 3])
    listener = Listener()
    wide = write_config(tmp_path / "wide", **DEEPSEEK | {"num_hidden_layers": 12})
    trace = import_trace("esft", write_esft(tmp_path / "in", planted), tmp_path / "esft", model=wide, reporter=listener)
    assert [(router.layer, router.num_experts, router.top_k) for router in trace.layers] == [
        (layer, 9, 2) for layer in (9, 10, 11)
    ]
    assert listener.notes == []


def test_an_input_of_another_model_is_refused(tmp_path, planted):
    model = write_config(tmp_path / "m", **DEEPSEEK)
    esft = write_esft(tmp_path / "esft", planted)
    np.save(tmp_path / "a.npy", draw(5))
    np.savez(tmp_path / "b.npz", experts=draw(4), num_experts=12)
    for name, path, how, message in (
        ("vllm", tmp_path / "a.npy", {}, r"expected the 3 MoE layers of .*, or all 4, got 5; name them with `layers`"),
        ("arrays", tmp_path / "b.npz", {}, r"expected E = 9, as in the configuration of .*, got 12"),
        ("esft", esft, {}, r"expected layers with routers of .*, 1, 2, 3, got 9, 10, 11"),
        ("vllm", tmp_path / "a.npy", {"layers": "0-4"}, r"expected layers with routers of .*, 1, 2, 3, got 0, 4"),
    ):
        with pytest.raises(TraceError, match=message):
            import_trace(name, path, tmp_path / "run", model=model, **how)
    assert not (tmp_path / "run").exists()


def test_another_k_is_told(tmp_path):
    np.save(tmp_path / "a.npy", draw(4))
    model = write_config(tmp_path / "m", **DEEPSEEK | {"num_experts_per_tok": 4})
    listener = Listener()
    trace = import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", model=model, reporter=listener)
    assert trace.layers[0].top_k == 2
    assert listener.notes[0] == f"k = 2 in the input, 4 in the configuration of {model}: the input decides"
