import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import specialize
from capture_models import CONFIGS, SIZES, build
from specialize.capture import find_routers
from specialize.errors import CaptureError

EXPECTED = {  # E, k, score function, weights sum to one, layers, unit
    "mixtral": (8, 2, "softmax", True, [0, 1, 2], "token"),
    "olmoe": (16, 4, "softmax", False, [0, 1, 2], "token"),
    "qwen3_moe": (8, 3, "softmax", True, [0, 1, 2], "token"),
    "deepseek_v3": (8, 2, "sigmoid", False, [1, 2], "token"),  # its first layer is dense, weights are scaled by 2.5
    "gpt_oss": (8, 2, "softmax", True, [0, 1, 2], "token"),
    "own, by token": (8, 2, "softmax", False, [0, 1, 2], "token"),
    "own, by sequence": (8, 1, "softmax", False, [0, 1, 2], "sequence"),
    "own, global": (8, 2, "softmax", False, [0, 1, 2], "token"),
}


def test_what_is_found_is_what_the_configuration_says(family):
    num_experts, top_k, score_function, normalized, layers, unit = EXPECTED[family]
    specs = [point.spec for point in find_routers(build(family))]
    assert [spec.layer for spec in specs] == layers
    for spec in specs:
        assert (spec.num_experts, spec.top_k, spec.score_function) == (num_experts, top_k, score_function)
        assert (spec.normalized, spec.unit) == (normalized, unit)


def test_every_family_has_an_expectation():
    assert EXPECTED.keys() == CONFIGS.keys()


def test_the_probe_leaves_the_model_as_it_was():
    model = build("mixtral").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_routers(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_dense_model_is_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    with pytest.raises(CaptureError, match="GPT2LMHeadModel: expected Mixture-of-Experts layers"):
        specialize.attach(model)


def test_experts_that_receive_no_decision_are_refused():
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(32, 8)
            self.experts = nn.Linear(8, 8)

        def forward(self, input_ids):
            return self.experts(self.embedding(input_ids))

    with pytest.raises(CaptureError, match=r"1 of 1 modules named 'experts' received no routing decision.*compile"):
        specialize.attach(Silent())


def test_a_model_that_fails_on_the_probe_says_why():
    model = build("mixtral")
    model.lm_head.forward = None
    with pytest.raises(CaptureError, match="a test pass over 2 x 16 token ids failed: TypeError"):
        specialize.attach(model)


def test_nothing_recorded():
    recorder = specialize.attach(build("olmoe"))
    with pytest.raises(CaptureError, match="nothing was recorded"):
        recorder.take()


def test_hooks_are_gone_after_the_block():
    model = build("olmoe")
    ids = torch.randint(3, SIZES["vocab_size"], (1, 8))
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids)
    recorder.take()
    with torch.no_grad():
        model(input_ids=ids)
    with pytest.raises(CaptureError, match="nothing was recorded"):
        recorder.take()
