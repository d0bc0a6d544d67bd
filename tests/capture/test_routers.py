import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import specialize
from capture_models import CONFIGS, SIZES, build
from moe_zoo import build as zoo
from specialize.capture import find_routers
from specialize.capture.points import Choice, LogitsSource
from specialize.capture.scores import find_score_function
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


def test_a_model_without_slots_is_refused():
    model = build("olmoe")
    for layer in model.model.layers:
        layer.mlp.gate.top_k = 0
    with pytest.raises(CaptureError, match=r"mlp\.experts: expected at least one expert per token, got none"):
        find_routers(model)


def test_a_model_that_fails_on_the_probe_says_why():
    model = build("mixtral")
    model.lm_head.forward = None
    with pytest.raises(CaptureError, match="the verification pass over 2 x 16 token ids failed: TypeError"):
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


@zoo.only_as_tested
def test_the_probe_draws_no_random_numbers():
    model = zoo.build_whole("diffusion_gemma", "DiffusionGemmaForBlockDiffusion", {"canvas_length": 8})
    state = torch.random.get_rng_state()
    find_routers(model)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_probe_leaves_each_modules_mode_as_it_was():
    model = build("mixtral").train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    find_routers(model)
    assert [module.training for module in model.modules()] == modes


def test_the_probe_works_under_inference_mode():
    with torch.inference_mode():
        assert len(find_routers(build("olmoe"))) == 3


def test_a_failed_probe_leaves_no_hooks():
    model = build("mixtral")
    model.lm_head.forward = None
    with pytest.raises(CaptureError):
        find_routers(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_layers_may_differ_in_experts_and_slots():
    model = zoo.build("mixtral")
    other = copy.deepcopy(model.config)
    other.num_local_experts, other.num_experts_per_tok = 5, 3
    block = type(model.model.layers[1].mlp)(other)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.3)
    model.model.layers[1].mlp = block
    specs = [point.spec for point in find_routers(model)]
    assert [(spec.num_experts, spec.top_k) for spec in specs] == [(8, 2), (5, 3), (8, 2)]
    assert {spec.score_function for spec in specs} == {"softmax"}
    with specialize.attach(model) as recorder, torch.no_grad():
        model(**zoo.padded_batch("left"))
    assert [layer.experts.shape[1] for layer in recorder.take()] == [2, 3, 2]


def test_experts_in_every_other_layer():
    model = zoo.build("qwen3_moe", num_hidden_layers=4, decoder_sparse_step=2)
    assert [point.spec.layer for point in find_routers(model)] == [1, 3]


def test_three_hundred_experts():
    model = zoo.build("olmoe", num_experts=300, num_experts_per_tok=7)
    with specialize.attach(model) as recorder, torch.no_grad():
        model(**zoo.padded_batch("right"))
    for layer in recorder.take():
        assert (layer.num_experts, layer.spec.top_k) == (300, 7)
        assert layer.experts.max() > 255


def test_half_precision():
    model = build("deepseek_v3").to(torch.bfloat16)
    assert {point.spec.num_experts for point in find_routers(model)} == {8}


def compiled(model, how):
    if how == "whole":
        return torch.compile(model, backend="eager")
    layer = model.model.layers[1]
    if how == "a layer":
        model.model.layers[1] = torch.compile(layer, backend="eager")
    elif how == "in place":
        layer.mlp.compile(backend="eager")
    else:
        layer.forward = torch.compile(layer.forward, backend="eager")
    return model


@pytest.mark.parametrize("how", ["whole", "a layer", "in place", "its forward"])
def test_a_compiled_model_is_refused(how):
    with pytest.raises(CaptureError, match=r"got a compiled one.*attach before torch\.compile"):
        specialize.attach(compiled(build("mixtral"), how))


def test_a_model_without_weights_is_refused():
    with pytest.raises(CaptureError, match="expected a model with weights, got one on the meta device"):
        specialize.attach(build("mixtral").to("meta"))


def test_a_layer_used_at_several_depths_is_refused():
    model = build("mixtral")
    model.model.layers[2].mlp = model.model.layers[0].mlp
    with pytest.raises(CaptureError, match=r"layers\.0\.mlp\.experts: expected one routing decision in a pass, got 2"):
        specialize.attach(model)


def test_a_layer_that_is_not_run_is_refused():
    model = build("mixtral")
    model.model.layers[2].forward = lambda hidden, **_: hidden
    with pytest.raises(CaptureError, match=r"1 of 3 modules named 'experts'.*the first is model\.layers\.2"):
        specialize.attach(model)


@pytest.mark.parametrize(("folder", "silent"), [("dots3_note", "vision"), ("ernie4_5_vl_moe", "vision_moe")])
def test_experts_for_images_are_left_out_of_a_text_pass(folder, silent):
    model = zoo.build_whole(folder)
    assert any(silent in path and path.endswith(".experts") for path, _ in model.named_modules())
    names = [point.spec.name for point in find_routers(model)]
    assert names
    assert not any(silent in name for name in names)


def test_special_token_ids_are_not_drawn():
    model = zoo.build_whole("qwen3_vl_moe")
    drawn = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: drawn.append(given[0]))
    model.config.image_token_id, model.config.video_token_id = 4, 5
    find_routers(model)
    assert not {4, 5} & set(drawn[0].flatten().tolist())


class Block(nn.Module):
    """A block of a Mixture-of-Experts model by itself."""

    def __init__(self):
        super().__init__()
        self.inner = build("mixtral").model.layers[0].mlp

    def forward(self, states, *, scale=1.0):
        return self.inner(states * scale)


@pytest.mark.parametrize("inputs", [(torch.ones(1, 3, 32),), {"states": torch.ones(1, 3, 32), "scale": 2.0}])
def test_a_bare_block_is_called_with_what_is_given(inputs):
    (point,) = find_routers(Block(), inputs)
    assert (point.spec.name, point.spec.num_experts, point.spec.layer) == ("inner.experts", 8, 0)


def test_a_bare_block_without_inputs_is_told_to_give_them():
    with pytest.raises(CaptureError, match=r"Block: expected a language model with token embeddings.*as inputs"):
        find_routers(Block())
    with pytest.raises(CaptureError, match=r"the verification pass over the given inputs failed: TypeError"):
        find_routers(Block(), {"wrong": 1})
    with pytest.raises(CaptureError, match=r"expected keywords \(a mapping\) or a tuple of arguments, got Tensor"):
        find_routers(Block(), torch.ones(1, 3, 32))


FUNCTIONS = {
    "softmax": torch.softmax,
    "sigmoid": lambda logits, dim: logits.sigmoid(),
    "sqrtsoftplus": lambda logits, dim: nn.functional.softplus(logits).sqrt(),
}


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_score_function_is_told_from_any_other(name, slots, sharpness):
    logits = sharpness * torch.randn(40, 8, generator=torch.Generator().manual_seed(slots))
    scores = FUNCTIONS[name](logits, dim=-1)
    experts = torch.rand(40, 8, generator=torch.Generator().manual_seed(0)).argsort(dim=-1)[:, :slots]
    weights = 2.5 * scores.gather(1, experts)
    if slots > 1:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    source = LogitsSource(nn.Identity(), 0)
    others = [(None, torch.randn(40, 8)), (None, scores), (source, logits)]
    assert find_score_function(Choice(experts, weights), others, 8) == (name, source)


def test_equal_logits_tell_no_score_function():
    choice = Choice(torch.tensor([[0, 1], [2, 3]]), torch.full((2, 2), 0.5))
    source = LogitsSource(nn.Identity(), 0)
    assert find_score_function(choice, [(source, torch.zeros(2, 4))], 4)[0] == "unknown"


def test_dropped_slots_do_not_hide_the_score_function():
    logits = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    weights, experts = logits.softmax(dim=-1).topk(2)
    experts[::3, 1], weights[::3, 1] = -1, 0
    assert find_score_function(Choice(experts, weights), [(None, logits)], 8)[0] == "softmax"
