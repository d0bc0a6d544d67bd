"""The size of a model is read from its configuration alone."""

import json

import pytest
from transformers import GPT2Config, OlmoeConfig, OlmoeForCausalLM

from docs.snippets import ROOT
from specialize.errors import CaptureError, TraceError
from specialize.planning.architecture import find_weights, read_architecture

CONFIGS = ROOT / "docs" / "how-to" / "configs"


# As their authors state them: arXiv 2409.02060, 2505.09388 and 2412.19437.
@pytest.mark.parametrize(
    ("name", "routers", "total", "active"),
    [("olmoe-1b-7b", 16, 6.9, 1.3), ("qwen3-235b-a22b", 94, 235, 22), ("deepseek-v3", 58, 671, 37)],
)
def test_published_models(name, routers, total, active):
    model = read_architecture(CONFIGS / f"{name}.json")
    assert len(model.moe_layers) == routers
    assert model.parameters == pytest.approx(total * 1e9, rel=0.01)
    assert model.active_parameters == pytest.approx(active * 1e9, rel=0.02)


def test_parameters_are_those_of_the_model(tmp_path):
    config = OlmoeConfig(
        vocab_size=50, hidden_size=16, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, num_experts=4,
        num_experts_per_tok=1, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = OlmoeForCausalLM(config)
    config.save_pretrained(tmp_path)
    found = read_architecture(tmp_path)
    expert = 3 * 16 * 8  # gate, up and down
    assert found.parameters == sum(each.numel() for each in model.parameters())
    assert found.active_parameters == found.parameters - 3 * 3 * expert
    assert find_weights(tmp_path) is False
    model.save_pretrained(tmp_path)
    assert find_weights(tmp_path) is True


def test_random_routers_are_counted():
    routers = read_architecture(CONFIGS / "olmoe-1b-7b.json").routers(control_draws=5)
    assert len(routers) == 16 * 6
    assert sum(each.routing == "learned" for each in routers) == 16


def test_models_that_transformers_does_not_know(tmp_path):
    path = tmp_path / "config.json"
    config = {"model_type": "of_the_lab", "num_experts": 4, "num_hidden_layers": 2}
    path.write_text(json.dumps(config))
    with pytest.raises(CaptureError, match="number of experts that a token chooses"):
        read_architecture(path)
    path.write_text(
        json.dumps(
            {"model_type": "of_the_lab", "num_experts": 4, "top_k": 1, "num_hidden_layers": 2, "num_experts_per_tok": 2}
        )
    )
    path.write_text(json.dumps(config | {"num_experts_per_tok": 2}))
    found = read_architecture(path)
    assert (found.parameters, found.active_parameters) == (None, None)
    assert "of_the_lab" in found.why_unknown
    assert read_architecture(path, active_parameters=2e9).active_parameters == 2e9


def test_a_dense_model_is_an_error(tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(TraceError, match="expected the configuration of a Mixture-of-Experts model"):
        read_architecture(tmp_path)
