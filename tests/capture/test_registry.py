"""Layers that a user describes."""

import inspect
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import specialize
from specialize.capture import Choice, find_routers, register_router, unregister_router
from specialize.errors import CaptureError


class Router(nn.Linear):
    def forward(self, hidden):
        return super().forward(hidden).softmax(dim=-1).topk(2)


class TinyMoE(nn.Module):
    def __init__(self, size, num_experts):
        super().__init__()
        self.router = Router(size, num_experts)
        self.weight = nn.Parameter(torch.randn(num_experts, size, size) / size**0.5)

    def forward(self, hidden):
        weights, experts = self.router(hidden)
        return torch.einsum("nk,nkoi,ni->no", weights, self.weight[experts], hidden)


class Model(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(32, 16)
        self.layers = nn.ModuleList(TinyMoE(16, 8) for _ in range(depth))

    def forward(self, input_ids):
        hidden = self.embedding(input_ids).flatten(0, 1)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return hidden


def read(router, arguments, keywords, output):
    weights, experts = output
    return experts, weights


@pytest.fixture
def registering():
    """`register_router` that is forgotten after the test."""
    kinds = []

    def register(kind, *arguments, **keywords):
        specialize.register_router(kind, *arguments, **keywords)
        kinds.append(kind)

    yield register
    for kind in dict.fromkeys(kinds):
        unregister_router(kind)


def count(router):
    return router.out_features


def test_a_layer_written_by_hand(registering):
    registering(Router, read, num_experts=count)
    model = Model()
    executed = []
    original = model.layers[1].weight
    with specialize.attach(model) as recorder, torch.no_grad():
        ids = torch.arange(10).view(2, 5)
        model(ids)
        hidden = model.embedding(ids).flatten(0, 1)
        for layer in model.layers:
            logits = hidden @ layer.router.weight.T + layer.router.bias
            executed.append(logits.argsort(dim=-1, descending=True)[:, :2].numpy())
            hidden = hidden + layer(hidden)
    assert original is model.layers[1].weight
    layers = recorder.take()
    assert [layer.name for layer in layers] == ["layers.0.router", "layers.1.router"]
    for layer, experts in zip(layers, executed, strict=True):
        np.testing.assert_array_equal(layer.experts, experts)
        assert layer.weights.shape == (10, 2)
        assert (layer.num_experts, layer.spec.top_k, layer.spec.found_by) == (8, 2, "Router")


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_documentation_run(number):
    blocks = inspect.getdoc(register_router).split("::\n\n")[1:]
    lines = blocks[number].splitlines()
    code = [line for place, line in enumerate(lines) if not any(early[:1].strip() for early in lines[: place + 1])]
    names = {"nn": nn, "torch": torch, "specialize": specialize}
    try:
        exec(textwrap.dedent("\n".join(code)), names)
        if number == 0:
            assert [spec.name for spec in names["recorder"].specs] == ["router"]
        else:
            layer = pytest.importorskip("mixture_of_experts").MoE(dim=8, num_experts=4)
            assert len(find_routers(layer, (torch.randn(1, 6, 8),))) == 1
    finally:
        unregister_router(names["Router"] if number == 0 else "Top2Gating")


def test_a_layer_of_a_package(registering):
    """Top-2 gating with a capacity: oracle is the dispatch tensor, which says who goes where."""
    MoE = pytest.importorskip("mixture_of_experts").MoE

    def read_gate(gate, arguments, keywords, output):
        shares = output[1].sum(dim=-1).flatten(0, 1)
        weights, experts = shares.topk(2)
        return Choice(experts.masked_fill(weights == 0, -1), weights, hidden=arguments[0].flatten(0, 1))

    registering("Top2Gating", read_gate, num_experts=lambda gate: gate.num_gates)
    torch.manual_seed(0)
    layer = MoE(dim=16, num_experts=4, capacity_factor_eval=1.0, second_policy_eval="all").eval()
    hidden = torch.randn(2, 24, 16)
    dispatched = []
    layer.gate.register_forward_hook(lambda gate, given, output: dispatched.append(output[0]))
    with specialize.attach(layer, (hidden,)) as recorder, torch.no_grad():
        dispatched.clear()
        layer(hidden)
    (routing,) = recorder.take()
    assert (routing.num_experts, routing.spec.name, routing.spec.found_by) == (4, "gate", "Top2Gating")
    goes = dispatched[0].amax(dim=-1).flatten(0, 1).bool().numpy()  # [tokens, E]
    seen = np.zeros_like(goes)
    token, slot = np.nonzero(routing.experts >= 0)
    seen[token, routing.experts[token, slot]] = True
    np.testing.assert_array_equal(seen, goes)
    assert (routing.experts == -1).any()  # some were dropped
    assert (routing.weights[routing.experts == -1] == 0).all()


def test_what_a_user_registers_goes_before_the_convention(registering):
    from moe_zoo.build import build

    model = build("mixtral")
    registering(
        type(model.model.layers[0].mlp.gate),
        lambda router, arguments, keywords, output: (output[2], output[1]),
        num_experts=lambda router: router.num_experts,
        name="mine",
    )
    specs = [point.spec for point in find_routers(model)]
    assert {spec.found_by for spec in specs} == {"mine"}
    assert [spec.name for spec in specs] == [f"model.layers.{i}.mlp.gate" for i in range(3)]


def test_a_registered_block_hides_what_is_inside_it(registering):
    from moe_zoo.build import build

    registering("MixtralSparseMoeBlock", lambda *_: (torch.zeros(32, 1).long(), torch.ones(32, 1)), num_experts=8)
    specs = [point.spec for point in find_routers(build("mixtral"))]
    assert [spec.name for spec in specs] == [f"model.layers.{i}.mlp" for i in range(3)]


def test_the_latest_registration_counts(registering):
    registering(Router, read, num_experts=count, name="first")
    registering(Router, read, num_experts=count, name="second")
    assert {point.spec.found_by for point in find_routers(Model())} == {"second"}


def test_read_before_the_layer_runs(registering):
    def read_before(layer, arguments, keywords, output):
        assert output is None
        weights, experts = layer.router.weight.new_ones(len(arguments[0]), 1), torch.arange(len(arguments[0])) % 8
        return experts[:, None], weights

    registering(TinyMoE, read_before, num_experts=8, when="before", static=True, identity_experts=2)
    for point in find_routers(Model()):
        assert (point.spec.static, point.spec.identity_experts, point.spec.top_k) == (True, 2, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *_: (torch.zeros(4, 2).long(), torch.ones(4, 3)), r"got int64 \[4, 2\] and float32 \[4, 3\]"),
        (lambda *_: (torch.zeros(4, 2), torch.ones(4, 2)), r"integer experts.*got float32 \[4, 2\]"),
        (lambda *_: (torch.zeros(2, 2, 2).long(), torch.ones(2, 2, 2)), r"\[tokens, k\].*got int64 \[2, 2, 2\]"),
        (lambda *_: torch.zeros(4, 2), r"read: expected \(experts, weights\) or a Choice, got float32 \[4, 2\]"),
        (lambda *_: (torch.full((4, 2), 9), torch.ones(4, 2)), "expected expert ids of 0 to 7, or -1 for none, got 9"),
        (lambda *_: {}["scores"], "its read function failed: KeyError"),
    ],
)
def test_what_is_read_wrongly_is_named(registering, wrong, message):
    registering(Router, wrong, num_experts=count)
    with pytest.raises(CaptureError, match=message) as caught:
        find_routers(Model())
    assert "Router" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_that_never_decides_is_refused(registering):
    registering(Router, lambda *_: None, num_experts=count)
    with pytest.raises(CaptureError, match=r"2 of 2 routing points of Router made no routing decision"):
        find_routers(Model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": 3}, "expected a class of torch modules or the name of one, got 3"),
        ({"kind": dict}, "expected a class of torch modules"),
        ({"when": "during"}, "expected 'before' or 'after', got 'during'"),
        ({"read": "output"}, "expected a function, got str"),
        ({"num_experts": 0}, "expected a positive number or a function, got 0"),
    ],
)
def test_registrations_that_make_no_sense(arguments, message):
    given = {"kind": Router, "read": read, "num_experts": 8} | arguments
    with pytest.raises(CaptureError, match=message):
        register_router(given.pop("kind"), given.pop("read"), **given)
    with pytest.raises(CaptureError, match="expected a registered kind of layer"):
        unregister_router("Router")
