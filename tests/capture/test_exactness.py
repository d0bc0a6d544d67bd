"""What is captured is what the experts computed with, by an oracle that shares no code with the hooks."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

import specialize
from capture_models import build


class ExpertsSpy:
    """Replaces the forward of each experts module's class and writes down the arguments that arrive."""

    def __init__(self, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        names = {id(module): name for name, module in model.named_modules()}
        for cls in {type(module) for name, module in model.named_modules() if name.endswith(".experts")}:
            original = cls.forward

            def forward(module, hidden, ids, weights, *rest, original=original, **more):
                self.seen[names[id(module)]].append((ids.clone(), weights.float().clone()))
                return original(module, hidden, ids, weights, *rest, **more)

            monkeypatch.setattr(cls, "forward", forward)

    def experts(self, name: str) -> np.ndarray:
        return torch.cat([ids for ids, _ in self.seen[name]]).numpy()

    def weights(self, name: str) -> np.ndarray:
        return torch.cat([weights for _, weights in self.seen[name]]).detach().numpy()


def padded_batch(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 128, (3, 12), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 3, 7)):
        where = slice(12 - padding, 12) if side == "right" else slice(0, padding)
        mask[row, where] = 0
        ids[row, where] = 0
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_captured_routing_is_what_the_experts_received(family, side, monkeypatch):
    model = build(family)
    ids, mask = padded_batch(side)
    with specialize.attach(model) as recorder:
        spy = ExpertsSpy(model, monkeypatch)
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask)
    layers = recorder.take(keep_padding=True)
    assert [layer.name for layer in layers] == list(spy.seen)
    for layer in layers:
        assert layer.experts.shape == (ids.numel(), layer.spec.top_k)
        np.testing.assert_array_equal(layer.experts, spy.experts(layer.name))
        np.testing.assert_array_equal(layer.weights, spy.weights(layer.name))
        assert layer.experts.min() >= 0
        assert layer.experts.max() < layer.num_experts


def test_two_forward_passes_follow_one_another(family):
    model = build(family)
    ids, mask = padded_batch("right")
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        once = recorder.take(keep_padding=True)
        model(input_ids=ids[:1], attention_mask=mask[:1])
        model(input_ids=ids[1:], attention_mask=mask[1:])
        twice = recorder.take(keep_padding=True)
    for one, two in zip(once, twice, strict=True):
        np.testing.assert_array_equal(one.experts, two.experts)
        np.testing.assert_allclose(one.weights, two.weights, atol=1e-5)


def test_selection_bias_is_not_lost():
    """The case that recomputing top-k from router logits gets wrong."""
    model = build("deepseek_v3")
    ids, _ = padded_batch("right")
    logits: dict[str, torch.Tensor] = {}
    handles = [
        module.gate.register_forward_hook(lambda _, __, out, name=name: logits.__setitem__(f"{name}.experts", out[0]))
        for name, module in model.named_modules()
        if hasattr(module, "gate") and hasattr(module, "experts")
    ]
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    for layer in recorder.take(keep_padding=True):
        naive = logits[layer.name].topk(2, dim=-1).indices.numpy()
        assert (np.sort(naive, 1) != np.sort(layer.experts, 1)).any(axis=1).mean() > 0.2


def test_sequence_routing_is_one_decision_a_sequence():
    model = build("own, by sequence")
    ids, mask = padded_batch("left")
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    for layer in recorder.take(keep_padding=True):
        by_sequence = layer.experts.reshape(3, 12)
        assert (by_sequence == by_sequence[:, :1]).all()


def test_global_routing_is_one_decision_for_all_layers():
    model = build("own, global")
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=padded_batch("left")[0])
    first, *others = recorder.take(keep_padding=True)
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(first.experts, other.experts)
