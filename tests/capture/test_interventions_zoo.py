"""Switching off an expert is exact in a tiny random model of every Mixture-of-Experts type of transformers.

The oracles do not use the interventions' code: for ``drop`` the weights of the expert are set to zero; for ``reroute``
the model's own router is asked for k + 1 experts.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import specialize
from moe_zoo.build import build, build_whole, buildable, inputs_of, only_as_tested, set_implementation
from moe_zoo.types import WHOLE
from specialize.capture import Interventions
from specialize.errors import CaptureError

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), only_as_tested]

FIXED = ("doge", "nllb_moe")  # their routing cannot be changed
UNSEEN = ("phimoe", "switch_transformers")  # they select by a maximum
TOP_K = ("top_k", "topk", "num_experts_per_tok", "moe_k", "moe_top_k")


@pytest.mark.parametrize("folder", [name for name in buildable() if name not in FIXED])
def test_dropping_equals_weights_of_zero(folder):
    check_family(build(folder))


@pytest.mark.parametrize("folder", WHOLE)
def test_in_a_multimodal_model_run_on_text_alone(folder):
    check_family(build_whole(folder))


def check_family(model):
    interventions = Interventions(model)
    for implementation in ("eager", "grouped_mm"):
        if not set_implementation(model, implementation) and implementation != "eager":
            continue
        inputs = inputs_of(model, "left")
        plain = run(model, inputs)
        for layer in record(model, inputs):
            expert = int(np.bincount(layer.experts[layer.experts >= 0]).argmax())
            uses = int((layer.experts == expert).sum())
            with interventions.applied([(layer.name, expert)]) as intervention:
                dropped = run(model, inputs)
            assert intervention.slots == {layer.name: uses}
            assert uses > 0
            if expert < layer.num_experts - layer.spec.identity_experts:
                with zeroed(model, interventions, layer.name, expert):
                    torch.testing.assert_close(dropped, run(model, inputs), atol=1e-5, rtol=0)
            assert not torch.equal(dropped, plain)
            unused = sorted({*range(layer.num_experts)} - {*layer.experts.flatten()})
            if unused:
                with interventions.applied([(layer.name, unused[0])]) as intervention:
                    assert torch.equal(run(model, inputs), plain)
                assert intervention.slots == {layer.name: 0}
        if not getattr(model.config, "is_encoder_decoder", False):
            check_last_layer(model, interventions, inputs, plain)
        assert torch.equal(run(model, inputs), plain)


def check_last_layer(model, interventions, inputs, plain):
    last = record(model, inputs)[-1]
    expert = int(np.bincount(last.experts[last.experts >= 0]).argmax())
    with interventions.applied([(last.name, expert)]):
        dropped = run(model, inputs)
    others = torch.from_numpy(~(last.experts == expert).any(axis=1))
    assert others.any()
    assert torch.equal(dropped.flatten(0, 1)[others], plain.flatten(0, 1)[others])


@pytest.mark.parametrize("folder", [name for name in buildable() if name not in (*FIXED, *UNSEEN)])
def test_rerouting_takes_the_next_expert_of_the_models_own_router(folder):
    model = build(folder)
    interventions = Interventions(model)
    inputs = inputs_of(model, "right")
    for layer in record(model, inputs):
        if "reroute" not in interventions.modes[layer.name]:
            assert layer.spec.static
            continue
        expert = int(np.bincount(layer.experts[layer.experts >= 0]).argmax())
        hit = (layer.experts == expert).any(axis=1)
        with interventions.applied([(layer.name, expert)], mode="reroute") as intervention:
            other = {each.name: each for each in record(model, inputs)}[layer.name]
        assert intervention.slots == {layer.name: hit.sum()}
        np.testing.assert_array_equal(other.experts[~hit], layer.experts[~hit])
        np.testing.assert_array_equal(other.weights[~hit], layer.weights[~hit])
        with one_more(model, layer):
            wider = {each.name: each for each in record(model, inputs)}[layer.name]
        k = layer.spec.top_k
        assert wider.experts.shape[1] == k + 1
        for token in np.flatnonzero(hit):
            weights = dict(zip(wider.experts[token].tolist(), wider.weights[token].tolist(), strict=True))
            del weights[expert]
            assert set(other.experts[token].tolist()) == set(weights)
            expected = np.array([weights[each] for each in other.experts[token].tolist()])
            scale = other.weights[token] / np.where(expected == 0, 1, expected)
            assert np.ptp(scale[expected != 0], axis=0) < 1e-4 * abs(scale).max() if (expected != 0).any() else True


def run(model, inputs):
    with torch.inference_mode():
        output = model(**inputs)
    return (output.logits if "logits" in output else output[0]).clone()


def record(model, inputs):
    with specialize.attach(model) as recorder:
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
            elif ".".join(path.split(".")[:-1]) == "" and parameter.shape[0] in (
                point.spec.num_experts,
                point.spec.num_experts - point.spec.identity_experts,
            ):
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
    found = [
        (module, name)
        for module in block.modules()
        for name in TOP_K
        if isinstance(getattr(module, name, None), int) and not isinstance(getattr(module, name), bool)
    ]
    assert found
    kept = [getattr(module, name) for module, name in found]
    for (module, name), value in zip(found, kept, strict=True):
        setattr(module, name, value + 1)
    yield
    for (module, name), value in zip(found, kept, strict=True):
        setattr(module, name, value)
