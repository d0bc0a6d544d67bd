"""Switching off an expert is exact in a tiny random model of every Mixture-of-Experts type of transformers.

The oracles do not use the interventions' code: for ``drop`` the weights of the expert are set to zero; for ``reroute``
the model's own router is asked for k + 1 experts.
"""

from contextlib import contextmanager
from copy import copy

import numpy as np
import pytest
import torch

from moe_zoo.build import build, build_whole, buildable, inputs_of, only_as_tested, set_implementation
from specialize.capture import Interventions, Recorder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), only_as_tested]

FIXED = ("doge", "nllb_moe")  # their routing cannot be changed
UNSEEN = ("phimoe", "switch_transformers")  # they select by a maximum
# A convolution over the tokens follows the experts of the last layer, or a layer with attention.
MIXED_AFTERWARDS = ("inkling", "inkling2", "nemotron_h")
TOP_K = ("top_k", "topk", "num_experts_per_tok", "moe_k", "moe_top_k")


@pytest.mark.parametrize("folder", [name for name in buildable() if name not in FIXED])
def test_an_expert_is_switched_off_exactly(folder):
    model = build(folder)
    interventions, inputs, layers = check_dropping(model)
    if folder not in MIXED_AFTERWARDS and layers[-1].spec.stack == "decoder":
        check_last_layer(model, interventions, inputs, layers[-1])
    if folder == "jetmoe":
        check_rerouting_in_jetmoe(model, interventions, inputs, layers)
    elif folder not in UNSEEN:
        check_rerouting(folder, model, interventions, inputs, layers[-1])


@pytest.mark.parametrize("folder", ["llama4", "qwen3_vl_moe"])
def test_in_a_multimodal_model_run_on_text_alone(folder):
    check_dropping(build_whole(folder))


@pytest.mark.parametrize("folder", ["olmoe", "deepseek_v3", "gpt_oss"])
def test_with_another_implementation_of_the_experts(folder):
    model = build(folder)
    assert set_implementation(model, "grouped_mm")
    check_dropping(model)


def check_dropping(model):
    """In the first and the last layer; those between them are like these."""
    interventions, inputs = Interventions(model), inputs_of(model, "left")
    layers = record(model, inputs, interventions.points)
    plain = run(model, inputs)
    for layer in {layer.name: layer for layer in (layers[0], layers[-1])}.values():
        expert = int(np.bincount(layer.experts[layer.experts >= 0]).argmax())
        with interventions.applied([(layer.name, expert)]) as intervention:
            dropped = run(model, inputs)
        assert intervention.slots == {layer.name: (layer.experts == expert).sum()}
        assert not torch.equal(dropped, plain)
        if expert < layer.num_experts - layer.spec.identity_experts:
            with zeroed(model, interventions, layer.name, expert):
                torch.testing.assert_close(dropped, run(model, inputs), atol=1e-5, rtol=0)
    few = {name: values[:1, :2] for name, values in inputs.items()}
    [layer] = record(model, few, interventions.points)[-1:]
    unused = min({*range(layer.num_experts)} - {*layer.experts.flatten()})
    plain = run(model, few)
    with interventions.applied([(layer.name, unused)]) as intervention:
        assert torch.equal(run(model, few), plain)
    assert intervention.slots == {layer.name: 0}
    return interventions, inputs, layers


def check_last_layer(model, interventions, inputs, last):
    """Tokens that did not use the expert are as before, to the bit."""
    plain = run(model, inputs)
    uses = np.bincount(last.experts[last.experts >= 0])
    expert = int(np.where(uses == 0, last.experts.size, uses).argmin())
    with interventions.applied([(last.name, expert)]):
        dropped = run(model, inputs)
    others = torch.from_numpy(~(last.experts == expert).any(axis=1))
    if not others.any():
        assert set(uses) == {0, len(last.experts)}  # all tokens use the same experts
    assert torch.equal(dropped.flatten(0, 1)[others], plain.flatten(0, 1)[others])


def check_rerouting(folder, model, interventions, inputs, layer):
    """The expert that steps in, and its weight, are those of the model's own router when it chooses k + 1."""
    points = interventions.points
    expert = int(np.bincount(layer.experts[layer.experts >= 0]).argmax())
    hit = (layer.experts == expert).any(axis=1)
    with interventions.applied([(layer.name, expert)], mode="reroute") as intervention:
        other = record(model, inputs, points)[-1]
    assert intervention.slots == {layer.name: hit.sum()}
    np.testing.assert_array_equal(other.experts[~hit], layer.experts[~hit])
    np.testing.assert_array_equal(other.weights[~hit], layer.weights[~hit])
    with one_more(model, layer):
        wider = record(model, inputs, points)[-1]
    assert wider.experts.shape[1] == layer.spec.top_k + 1
    for token in np.flatnonzero(hit):
        weights = dict(zip(wider.experts[token].tolist(), wider.weights[token].tolist(), strict=True))
        del weights[expert]
        assert set(other.experts[token].tolist()) == set(weights)
        expected = np.array([weights[each] for each in other.experts[token].tolist()])
        sums = layer.weights[token].sum(), other.weights[token].sum()
        if folder == "inkling":  # the fixed sum is that of the chosen experts and the shared ones
            expected *= sums[1] / expected.sum()
        elif abs(sums[0] - sums[1]) < 1e-5:  # the model scales the chosen weights to a fixed sum
            expected *= sums[0] / expected.sum()
        np.testing.assert_allclose(other.weights[token], expected, rtol=1e-4, atol=1e-6)


def check_rerouting_in_jetmoe(model, interventions, inputs, layers):
    """Its attention needs k heads of queries, so the oracle is the top-k of the logits, then their softmax."""
    points = interventions.points
    for layer in layers:
        expert = int(np.bincount(layer.experts.flatten()).argmax())
        with interventions.applied([(layer.name, expert)], mode="reroute") as intervention:
            other = {each.name: each for each in record(model, inputs, points, extras=["logits"])}[layer.name]
        assert intervention.slots == {layer.name: (layer.experts == expert).sum()}
        logits = torch.from_numpy(np.delete(other.logits, expert, axis=1))
        best, places = logits.topk(layer.spec.top_k)
        np.testing.assert_array_equal(other.experts, places + (places >= expert))
        np.testing.assert_allclose(other.weights, best.softmax(dim=-1), atol=1e-6)


def run(model, inputs):
    with torch.inference_mode():
        output = model(**inputs)
    return (output.logits if "logits" in output else output[0]).clone()


def record(model, inputs, points, **how):
    with Recorder(model, points, **how) as recorder:
        run(model, inputs)
    return recorder.take(keep_padding=True)


@contextmanager
def zeroed(model, interventions, name, expert):
    """Set all weights of an expert to zero for a while."""
    [point] = [each for each in interventions.points if each.spec.name == name]
    modules = [point.module]
    if point.spec.found_by in ("llama4", "jetmoe"):  # the point is a router, the experts are beside it
        beside = dict(model.get_submodule(name.rpartition(".")[0]).named_children())
        modules = [beside[each] for each in ("experts", "input_linear", "output_linear") if each in beside]
    slices = []
    for module in modules:
        for path, parameter in module.named_parameters():
            if f"expert_{expert}." in path or path.startswith(f"{expert}."):
                slices.append(parameter.data)
            elif point.module.__class__.__name__ == "DbrxExperts":  # all experts in one matrix
                slices.append(parameter.data.view(point.spec.num_experts, -1, parameter.shape[1])[expert])
            elif "." not in path:
                slices.append(parameter.data[expert])
    assert slices
    kept = [each.clone() for each in slices]
    for each in slices:
        each.zero_()
    yield
    for each, values in zip(slices, kept, strict=True):
        each.copy_(values)


@contextmanager
def one_more(model, layer):
    """Let the router of a layer choose one more expert for a while."""
    block = model.get_submodule(layer.name.rpartition(".")[0])
    with pytest.MonkeyPatch.context() as patch:
        for router in block.children():  # of Gemma 4
            if hasattr(router, "config") and hasattr(router.config, "top_k_experts"):
                patch.setattr(router, "config", copy(router.config))
                patch.setattr(router.config, "top_k_experts", layer.spec.top_k + 1)
        found = [
            (module, name)
            for module in block.modules()
            for name in TOP_K
            if isinstance(getattr(module, name, None), int) and not isinstance(getattr(module, name), bool)
        ]
        for module, name in found:
            patch.setattr(module, name, layer.spec.top_k + 1)
        yield
