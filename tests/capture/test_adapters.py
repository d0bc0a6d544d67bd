"""The families that break the convention, one by one: what is special of each is seen."""

import types

import numpy as np
import pytest
import torch
from torch import nn

import specialize
from moe_zoo.build import build, build_whole, inputs_of, only_as_tested, padded_batch
from moe_zoo.oracles import NllbOracle
from specialize.capture import find_routers
from specialize.errors import CaptureError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


SCORES = {"softmax": lambda logits: logits.softmax(dim=-1), "sigmoid": torch.sigmoid}
OF_THEIR_OWN = ["gemma4", "nemotron_h", "muse_spark"]  # routers that see other hidden states than their experts


def record(model, side="left"):
    with specialize.attach(model) as recorder, torch.no_grad():
        model(**inputs_of(model, side))
    return recorder.take(keep_padding=True)


def watch_one_pass(model):
    """The decisions of one pass, as the points hand them on, with the router's own input and output."""
    points = find_routers(model)
    seen, routers = {}, {}
    handles = [point.watch(lambda choice, name=point.spec.name: seen.__setitem__(name, choice)) for point in points]
    for path, module in model.named_modules():
        if type(module).__name__.endswith(("Router", "Gating")):
            handles.append(module.register_forward_hook(lambda _, i, o, path=path: routers.__setitem__(path, (i, o))))
    with torch.no_grad():
        model(**inputs_of(model, "right"))
    for handle in handles:
        handle.remove()
    return points, seen, routers


@pytest.mark.parametrize(
    "folder", [*OF_THEIR_OWN, "mixtral", "llama4", "jetmoe", pytest.param("dbrx", marks=only_as_tested)]
)
def test_hidden_states_are_those_that_the_router_saw(folder):
    overrides = {"moe_latent_size": 8} if folder == "nemotron_h" else {}
    points, seen, routers = watch_one_pass(build(folder, **overrides))
    assert len(routers) == len(points)
    for point, (given, _) in zip(points, routers.values(), strict=True):
        hidden = seen[point.spec.name].hidden
        assert hidden.dim() == 2
        assert torch.equal(hidden, given[0].reshape(hidden.shape))


@pytest.mark.parametrize("folder", ["llama4", "jetmoe"])
def test_router_logits_come_with_the_decision(folder):
    points, seen, routers = watch_one_pass(build(folder))
    for point, (_, output) in zip(points, routers.values(), strict=True):
        assert point.adapter.gives_logits
        assert torch.equal(seen[point.spec.name].logits, output[-1])


@pytest.mark.parametrize("folder", ["gemma4", "zaya", "switch_transformers", "deepseek_v3", "inkling2"])
def test_router_logits_beside_the_decision(folder):
    model = build(folder)
    for point in find_routers(model):
        assert point.spec.score_function in SCORES
        if folder == "zaya":  # they have a column more than there are experts
            assert point.logits is None
            continue
        logits, choices = [], []
        handles = [point.logits.watch(logits.append), point.watch(choices.append)]
        with torch.no_grad():
            model(**inputs_of(model, "left"))
        for handle in handles:
            handle.remove()
        scores = SCORES[point.spec.score_function](logits[0].reshape(-1, point.spec.num_experts))
        taken = choices[0].experts >= 0
        ratios = (choices[0].weights / scores.gather(1, choices[0].experts.clamp(min=0)))[taken.all(dim=1)]
        torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))


def test_jetmoe_has_two_routers_in_a_layer():
    specs = [layer.spec for layer in record(build("jetmoe"))]
    assert [spec.layer for spec in specs] == [0, 0, 1, 1, 2, 2]
    assert len({spec.name for spec in specs}) == 6
    assert {spec.name.split(".")[3] for spec in specs} == {"self_attention", "mlp"}


@only_as_tested
def test_switch_drops_what_exceeds_an_experts_capacity():
    layers = record(build("switch_transformers"))
    dropped = [layer.experts == -1 for layer in layers]
    assert any(some.any() and not some.all() for some in dropped)
    for layer, some in zip(layers, dropped, strict=True):
        assert (layer.weights[some] == 0).all()
        assert (layer.weights[~some] > 0).all()
        counts = [np.bincount(row[row >= 0], minlength=8).max() for row in layer.experts.reshape(3, -1)]
        assert max(counts) <= 2  # the capacity holds for each sequence


def test_encoder_and_decoder_are_told_apart():
    specs = [layer.spec for layer in record(build("nllb_moe"))]
    assert [(spec.stack, spec.layer) for spec in specs] == [
        ("encoder", 0),
        ("encoder", 1),
        ("encoder", 2),
        ("decoder", 1),
    ]


@only_as_tested
def test_a_diffusion_model_has_two_stacks_though_its_configuration_does_not_say_so():
    model = build_whole("diffusion_gemma", "DiffusionGemmaForBlockDiffusion", {"canvas_length": 8})
    stacks = [point.spec.stack for point in find_routers(model)]
    assert stacks == ["encoder"] * 3 + ["decoder"] * 3


def test_nllb_is_recorded_as_meant_and_the_user_is_warned():
    """Its mask is encoded twice: rows go to the first two experts. Should this fail, the warning can go."""
    model = build("nllb_moe")
    (warning,) = {point.adapter.warning for point in find_routers(model)}
    assert "first two experts" in warning
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        oracle = NllbOracle(model, patch)
        model(**inputs_of(model, "left"))
    for point in find_routers(model):
        called = oracle.executed(point.spec.name)
        assert all(called[:2])
        assert not any(called[2:])


def test_deepseek_v4_hash_layers_are_static():
    model = build("deepseek_v4")
    layers = record(model)
    assert [layer.spec.static for layer in layers] == [True, False, False]
    table = model.model.layers[0].mlp.gate.tid2eid
    ids = padded_batch("left")["input_ids"].flatten()
    np.testing.assert_array_equal(layers[0].experts, table[ids].numpy())


def test_aria_before_it_followed_the_convention():
    model = build("aria")
    (found_by,) = {point.spec.found_by for point in find_routers(model)}
    if found_by == "experts module":
        pytest.skip("this transformers' aria follows the convention")
    counts = []
    for layer in model.model.layers:
        layer.mlp.experts.fc1.register_forward_hook(lambda _, given, __: counts.append(given[1].tolist()))
    for layer, given in zip(record(model), counts[-3:], strict=True):
        np.testing.assert_array_equal(np.bincount(layer.experts.ravel(), minlength=8), given)


def test_longcat_identity_experts_are_counted():
    layers = record(build("longcat_flash"))
    assert all((layer.spec.num_experts, layer.spec.identity_experts) == (11, 3) for layer in layers)
    assert max(layer.experts.max() for layer in layers) >= 8


def test_zaya_skips_are_no_choice_of_the_first_expert():
    layers = record(build("zaya"))
    assert any((layer.experts == -1).any() for layer in layers)
    for layer in layers:
        assert layer.spec.num_experts == 8
        assert ((layer.weights == 0) == (layer.experts == -1)).all()


class Mxfp4GptOssExperts(nn.Module):
    """Stands for the quantized experts: it is never called as a module, its kernel is."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def quantized_forward(self, hidden):
    """As the kernel: routes inside, and returns the router's logits."""
    flat = hidden.reshape(-1, self.router.hidden_dim)
    logits = nn.functional.linear(flat, self.router.weight, self.router.bias)
    order = logits.argsort(dim=-1, descending=True)[:, : self.router.top_k]
    scores = logits.gather(1, order).exp()
    self.executed = order, scores / scores.sum(dim=-1, keepdim=True)
    return self.experts.inner.forward(flat, *self.executed).view_as(hidden), logits


def test_gpt_oss_in_mxfp4():
    model = build("gpt_oss")
    for layer in model.model.layers:
        layer.mlp.experts = Mxfp4GptOssExperts(layer.mlp.experts)
        layer.mlp.forward = types.MethodType(quantized_forward, layer.mlp)
    layers = record(model)
    assert [layer.name for layer in layers] == [f"model.layers.{i}.mlp" for i in range(3)]
    for number, layer in enumerate(layers):
        experts, weights = model.model.layers[number].mlp.executed
        np.testing.assert_array_equal(layer.experts, experts.numpy())
        np.testing.assert_allclose(layer.weights, weights.numpy(), rtol=1e-5)
        assert (layer.spec.num_experts, layer.spec.score_function) == (8, "softmax")
        assert layer.spec.found_by == "gpt_oss in MXFP4"


def test_a_kernel_that_hides_its_routing_is_refused(monkeypatch):
    model = build("gpt_oss")
    block = model.model.layers[1].mlp
    monkeypatch.setattr(type(block), "kernel_layer_name", "MegaBlocksMoeMLP", raising=False)
    find_routers(model)  # not replaced yet
    block.forward = types.MethodType(quantized_forward, block)
    with pytest.raises(CaptureError, match=r"MegaBlocksMoeMLP \(model.layers.1.mlp\).*use_kernels=False"):
        find_routers(model)


def test_experts_called_by_keywords_in_any_order():
    class Experts(nn.Module):
        num_experts = 4

        def forward(self, hidden, weights, experts):
            return hidden * weights.sum(dim=-1, keepdim=True)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(8, 4)
            self.experts = Experts()

        def forward(self, hidden):
            weights, chosen = self.router(hidden).softmax(dim=-1).topk(2)
            self.made = chosen, weights
            return self.experts(hidden, weights=weights, experts=chosen)

    block = Block()
    (point,) = find_routers(block, (torch.randn(6, 8, generator=torch.Generator().manual_seed(0)),))
    assert (point.spec.name, point.spec.num_experts, point.spec.score_function) == ("experts", 4, "softmax")
    seen = []
    point.watch(seen.append)
    block(torch.randn(5, 8))
    assert torch.equal(seen[0].experts, block.made[0])
    assert torch.equal(seen[0].weights, block.made[1])
