"""A checkpoint has exactly the weights of its model: missing ones would be random, others dropped."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import specialize
from capture.test_run import TEXTS, make_checkpoint
from capture_models import OWN
from specialize.capture import load_checkpoint
from specialize.errors import CaptureError, TraceError
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM

HOSTILE = "\x1b]8;;http://evil\x07x\x1b[31m"


@pytest.fixture(scope="module", params=["olmoe", "own"])
def whole(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "whole"
    checkpoint = make_checkpoint()
    checkpoint.tokenizer.save_pretrained(folder)
    if request.param == "olmoe":
        checkpoint.model.save_pretrained(folder)
    else:
        torch.manual_seed(0)
        GPTMoEForCausalLM(GPTMoEConfig(**OWN | {"vocab_size": 300}, num_experts_per_tok=2)).save_pretrained(folder)
    return folder


@pytest.fixture
def spoil(whole, tmp_path):
    """Write the checkpoint with other weights, or another number of layers."""

    def write(change=lambda weights: weights, layers: int = 0) -> Path:
        folder = tmp_path / "spoilt"
        folder.mkdir()
        for path in whole.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config["num_hidden_layers"] += layers
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


def router_of(names) -> str:
    return next(name for name in names if ".1." in name and ("gate.weight" in name or "router" in name))


def without(part):
    return lambda weights: {name: values for name, values in weights.items() if name != part(weights)}


def refuse(folder: Path, run: Path, message: str, **how) -> None:
    for refused in (
        lambda: load_checkpoint(folder, **how),
        lambda: specialize.inspect(folder, **how),
        lambda: specialize.trace_corpus(folder, TEXTS, run, **how),
    ):
        with pytest.raises(CaptureError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert not run.exists()


def test_a_missing_router_is_named(spoil, tmp_path):
    folder = spoil(without(router_of))
    message = (
        rf"^{folder}: expected a checkpoint with exactly the weights of its model; the checkpoint lacks 1 weight "
        rf"\(model\.layers\.1\..*\), which would be random; .*--allow-missing-weights"
    )
    refuse(folder, tmp_path / "run", message)


def test_a_layer_too_many_is_named(spoil, tmp_path):
    folder = spoil(layers=1)
    refuse(folder, tmp_path / "run", r"lacks \d+ weights \((model\.layers\.3\.[\w.]+, ){3}…\), which would be random")


def test_a_layer_too_few_is_named(spoil, tmp_path):
    folder = spoil(layers=-1)
    refuse(folder, tmp_path / "run", r"; the model does not use \d+ weights \((model\.layers\.2\.[\w.]+, ){3}…\); ")


def test_a_weight_of_another_shape_is_named(spoil, tmp_path):
    def narrow(weights):
        name = router_of(weights)
        return weights | {name: weights[name][:-1].clone()}

    folder = spoil(narrow)
    message = r"expected model\.layers\.1\..* of the shape \[\d+, 32\] that its config\.json states, got \[\d+, 32\]; "
    refuse(folder, tmp_path / "run", message)
    refuse(folder, tmp_path / "run", message, allow_missing_weights=True)


@pytest.mark.parametrize("whole", ["olmoe"], indirect=True)  # stored with one weight for each expert
@pytest.mark.parametrize("part", ["gate_proj", "down_proj"])
@pytest.mark.parametrize("change", ["missing", "superfluous"])
def test_a_weight_of_one_expert_is_missed(spoil, tmp_path, part, change):
    def harm(weights):
        values = weights[f"model.layers.1.mlp.experts.3.{part}.weight"]
        if change == "missing":
            return without(lambda _: f"model.layers.1.mlp.experts.3.{part}.weight")(weights)
        return weights | {f"model.layers.1.mlp.experts.16.{part}.weight": values.clone()}

    refuse(
        spoil(harm), tmp_path / "run", r"expected .*model\.layers\.1\.mlp\.experts\.\w+.*, got .*; get the whole check"
    )


def test_it_can_be_allowed_and_is_recorded(spoil, whole, tmp_path):
    folder = spoil(without(router_of), layers=-1)
    how = {"allow_missing_weights": True}
    trace = specialize.trace_corpus(folder, TEXTS, tmp_path / "run", **how)
    model = trace.manifest["model"]
    assert model["missing_weights"]["number"] == 1
    assert model["missing_weights"]["names"][0].startswith("model.layers.1.")
    assert model["unused_weights"]["number"] >= len(model["unused_weights"]["names"][:20]) > 3
    assert all(name.startswith("model.layers.2.") for name in model["unused_weights"]["names"])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = specialize.trace_corpus(folder, TEXTS, tmp_path / "again", **how)
    assert torch.equal(state, torch.get_rng_state())
    assert again.manifest["shards"] == trace.manifest["shards"]  # the random weights are always the same
    (folder / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    with pytest.raises(TraceError, match=r"other settings \(missing_weights: 1 there, None now"):
        specialize.trace_corpus(folder, TEXTS, tmp_path / "run", **how)  # not resumed with the right weights
    facts = load_checkpoint(whole, allow_missing_weights=True).facts
    assert not {"missing_weights", "unused_weights"} & facts.keys()


@pytest.mark.parametrize("whole", ["olmoe"], indirect=True)  # the head of the other is tied to the embeddings
def test_routing_does_not_need_a_language_model_head(spoil, whole, tmp_path):
    folder = spoil(without(lambda weights: "lm_head.weight"))
    checkpoint = load_checkpoint(folder)
    assert checkpoint.missing_head == ("lm_head.weight",)
    trace = specialize.trace_corpus(checkpoint, TEXTS, tmp_path / "run")
    expected = specialize.trace_corpus(whole, TEXTS, tmp_path / "whole")
    for spec in expected.layers:
        np.testing.assert_array_equal(trace.experts(spec.name), expected.experts(spec.name))
    message = r"^predictions: expected the weights of the language-model head, the checkpoint lacks lm_head\.weight; "
    with pytest.raises(CaptureError, match=message):
        specialize.trace_corpus(folder, TEXTS, tmp_path / "none", predictions=True)
    assert not (tmp_path / "none").exists()
    trace = specialize.trace_corpus(folder, TEXTS, tmp_path / "all", predictions=True, allow_missing_weights=True)
    assert trace.manifest["model"]["missing_weights"] == {"number": 1, "names": ["lm_head.weight"]}


def test_a_backbone_is_checked_as_a_model_with_a_head(spoil, whole, tmp_path):
    def strip(weights):
        return {name.removeprefix("model."): values for name, values in weights.items() if name != "lm_head.weight"}

    folder = spoil(strip, layers=-1)
    refuse(folder, tmp_path / "run", r"the model does not use \d+ weights \(")


def test_what_the_loader_reports_does_not_reach_the_terminal(spoil, call, tmp_path):
    folder = spoil(lambda weights: weights | {HOSTILE: torch.zeros(1), "other.weight": torch.zeros(1)})
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        code, out, err = call("inspect", folder)
        logger.warning("still %s", "shown")
    finally:
        logger.removeHandler(handler)
    assert code == 0, err
    assert not {"\x1b", "\x07"} & set(out + err + written.getvalue())
    assert "LOAD REPORT" not in out + err + written.getvalue()
    assert written.getvalue() == "still shown\n"
    assert not any(each.filters for each in logger.handlers)


def test_the_command_refuses_in_one_line_without_control_characters(spoil, call, tmp_path):
    folder = spoil(lambda weights: weights | {f"model.layers.1.{HOSTILE}{'y' * 5000}": torch.zeros(1)})
    (tmp_path / "corpus.txt").write_text("The quick brown fox.")
    command = ("trace", folder, tmp_path / "corpus.txt", "-o", tmp_path / "run")
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    assert not {"\x1b", "\x07"} & set(err)
    last = err.strip().splitlines()[-1]
    assert "does not use 1 weight (model.layers.1. ]8;;http://evil x [31myyy" in last
    assert len(last) < 700
    assert not (tmp_path / "run").exists()
    code, _, err = call(*command, "--allow-missing-weights")
    assert code == 0, err
    assert specialize.open_trace(tmp_path / "run").manifest["model"]["unused_weights"]["number"] == 1
