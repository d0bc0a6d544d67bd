import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM

from specialize.errors import ConfigError
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.models.moe import balance_loss

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "num_experts": 4,
    "routing_prefix": 6,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ROUTED = [
    {"routing_unit": unit, "num_experts_per_tok": k, "router_scope": scope, "router_type": kind}
    for unit, k, scope, kind in itertools.product(
        ("token", "sequence"), (1, 2), ("layer", "global"), ("learned", "frozen", "rerandomized", "guided")
    )
]


def build(**choices: object) -> GPTMoEForCausalLM:
    torch.manual_seed(0)
    model = GPTMoEForCausalLM(GPTMoEConfig(**(SIZES | choices)))
    with torch.no_grad():
        for parameter in model.parameters():  # every token should matter to every later one
            parameter.mul_(4)
    return model.eval()


def random_ids(rows: int = 2, length: int = 20) -> torch.Tensor:
    return torch.randint(1, 61, (rows, length), generator=torch.Generator().manual_seed(1))


def name_of(choices: dict[str, object]) -> str:
    return "-".join(map(str, choices.values()))


@pytest.mark.parametrize("choices", [*ROUTED, {"num_experts": 0}], ids=name_of)
def test_no_counted_logit_sees_a_later_token(choices):
    """Change one token at a time; logits before it must not move where their loss is counted.

    In double precision: how many tokens an expert has decides how their products are rounded.
    """
    model = build(**choices).double()
    first_counted = model.config.uncounted_positions
    ids = random_ids(1)
    with torch.no_grad():
        before = model(ids).logits
        for place in range(ids.shape[1]):
            changed = ids.clone()
            changed[0, place] = (changed[0, place] + 7) % 60 + 1
            after = model(changed).logits
            torch.testing.assert_close(after[:, first_counted:place], before[:, first_counted:place])
            assert not torch.allclose(after[:, place], before[:, place])


def test_a_prefix_router_does_look_ahead_inside_its_prefix():
    """The control of the test above: what is not counted is not counted for a reason."""
    model = build(routing_unit="sequence", num_experts_per_tok=1)
    ids = random_ids(16)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 7) % 60 + 1
    with torch.no_grad():
        assert not torch.allclose(model(ids).logits[:, :5], model(changed).logits[:, :5])


def test_a_full_summary_is_labelled_non_causal_because_it_leaks():
    model = build(routing_unit="sequence", num_experts_per_tok=1, sequence_summary="full")
    ids = random_ids(16)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 7) % 60 + 1
    with torch.no_grad():
        assert not torch.allclose(model(ids).logits[:, :-1], model(changed).logits[:, :-1])
    assert not model.config.is_causal
    assert build(routing_unit="sequence").config.is_causal
    assert build(num_experts=0, sequence_summary="full", routing_unit="sequence").config.is_causal


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("unit", ["token", "sequence"])
def test_padding_changes_nothing(unit, side):
    model = build(routing_unit=unit)
    ids, padding = random_ids(3, 12), torch.zeros(3, 5, dtype=torch.int64)
    order = (padding, ids) if side == "left" else (ids, padding)
    mask = torch.cat([torch.zeros_like(part) if part is padding else torch.ones_like(part) for part in order], dim=1)
    with torch.no_grad():
        padded = model(torch.cat(order, dim=1), attention_mask=mask).logits
        real = padded[:, 5:] if side == "left" else padded[:, :12]
        torch.testing.assert_close(real, model(ids).logits)


@pytest.mark.parametrize("choices", ROUTED, ids=name_of)
def test_saved_and_loaded_it_is_the_same_model(choices, tmp_path):
    model = build(**choices)
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, GPTMoEForCausalLM)
    with torch.no_grad():
        torch.testing.assert_close(loaded(random_ids()).logits, model(random_ids()).logits, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "moves"), [("learned", True), ("frozen", False), ("rerandomized", False)])
def test_only_a_learned_router_is_trained(kind, moves):
    model = build(router_type=kind).train()
    ids = random_ids()
    model(ids, labels=ids).loss.backward()
    router = model.model.layers[0].mlp.router
    assert (router.weight.grad is not None) == moves
    assert model.model.layers[0].mlp.experts.up.grad is not None


def test_a_rerandomized_router_is_drawn_anew_in_training_only():
    model = build(router_type="rerandomized")
    router = model.model.layers[1].mlp.router
    drawn = router.weight.clone()
    model(random_ids())
    assert torch.equal(router.weight, drawn)
    model.train()
    model(random_ids())
    assert not torch.equal(router.weight, drawn)


def test_one_router_serves_all_layers_when_global():
    model = build(router_scope="global")
    assert [block.mlp.router is None for block in model.model.layers] == [False, True, True]


@pytest.mark.parametrize("unit", ["token", "sequence"])
def test_the_loss_counts_what_may_be_counted(unit):
    model = build(routing_unit=unit, router_aux_loss_coef=0.0)
    ids = random_ids()
    with torch.no_grad():
        output = model(ids, labels=ids)
    skip = 5 if unit == "sequence" else 0  # the last of six prefix positions counts
    log_probabilities = output.logits.log_softmax(dim=-1)[:, :-1]
    expected = -log_probabilities.gather(2, ids[:, 1:, None])[:, skip:].mean()
    torch.testing.assert_close(output.loss, expected)


def test_balance_loss_is_one_when_even_and_e_when_collapsed():
    even, counted = torch.arange(8)[:, None] % 4, torch.ones(8, dtype=torch.bool)
    assert balance_loss(torch.full((8, 4), 0.25), even, counted) == 1.0
    collapsed = torch.nn.functional.one_hot(torch.zeros(8, dtype=torch.int64), 4).float()
    assert balance_loss(collapsed, torch.zeros(8, 1, dtype=torch.int64), counted) == 4.0


def test_padding_does_not_count_in_the_balance_loss():
    random = torch.Generator().manual_seed(0)
    probabilities = torch.rand(30, 4, generator=random).softmax(dim=-1)
    experts = torch.randint(0, 4, (30, 2), generator=random)
    decided = torch.rand(30, generator=random) < 0.6
    share = torch.bincount(experts[decided].flatten(), minlength=4) / experts[decided].numel()
    expected = 4 * (share * probabilities[decided].mean(dim=0)).sum()
    torch.testing.assert_close(balance_loss(probabilities, experts, decided), expected)


def test_generation_goes_on_from_the_prompt():
    model = build()
    prompt = random_ids(2, 4)
    generated = model.generate(prompt, max_new_tokens=5, do_sample=False)
    assert torch.equal(generated[:, :4], prompt)
    with torch.no_grad():
        assert torch.equal(generated[:, 4], model(prompt).logits[:, -1].argmax(dim=-1))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"routing_unit": "tokens"},
            "routing_unit: expected one of token, sequence, got 'tokens'. Did you mean 'token'?",
        ),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok: expected 1 to num_experts = 4, got 9"),
        ({"num_experts": -1}, "num_experts: expected 0 (dense) or more, got -1"),
        ({"num_attention_heads": 5}, "hidden_size: expected a multiple of num_attention_heads = 5, got 32"),
        ({"routing_prefix": 99}, "routing_prefix: expected 1 to max_position_embeddings = 40, got 99"),
        ({"routing_prefix": True}, "routing_prefix: expected a whole number, got True"),
        ({"hidden_size": "x"}, "hidden_size: expected a whole number, got 'x'"),
        ({"hidden_size": 32.0}, "hidden_size: expected a whole number, got 32.0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: expected at most 512, got 1000000000"),
        ({"vocab_size": -(10**5000)}, "vocab_size: expected 1 or more, got a value of type int"),
        ({"dropout": float("nan")}, "dropout: expected a number from 0 to below 1, got nan"),
        ({"dropout": 10**400}, f"dropout: expected a number from 0 to below 1, got 1{'0' * 79}…"),
        ({"layer_norm_epsilon": None}, "layer_norm_epsilon: expected a number above 0, got None"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: expected true or false, got 'no'"),
        (
            {"router_type": ["learned"]},
            "router_type: expected one of learned, frozen, rerandomized, guided, got ['learned'].",
        ),
    ],
)
def test_impossible_choices(choices, message):
    with pytest.raises(ConfigError) as caught:
        GPTMoEConfig(**(SIZES | choices))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "choices",
    [{}, {"router_scope": "global"}, {"num_experts": 0}, {"tie_word_embeddings": False}, {"num_experts": 7}],
    ids=name_of,
)
def test_parameters_are_counted_before_the_model_is_built(choices):
    model = build(**choices)
    assert model.config.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_damaged_configuration_is_one_line_where_it_is_loaded(tmp_path):
    build().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": "32"'))
    with pytest.raises(ConfigError, match=r"^hidden_size: expected a whole number, got '32'$"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("k", [1, 2])
def test_grouped_experts_compute_what_one_by_one_do(k):
    """In bfloat16 all experts run in one kernel; the reference is float32, one expert after the other."""
    model = build(num_experts_per_tok=k)
    layer = model.model.layers[0].mlp
    hidden = torch.randn(1, 64, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    mask = torch.ones(1, 64, dtype=torch.bool)
    with torch.no_grad():
        decision = layer.router(hidden, mask)
    decision = decision._replace(experts=torch.arange(64 * k).view(64, k) % 3)  # one is idle
    results = []
    for grouped in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=grouped):
            output = layer.experts(hidden[0], decision.experts, decision.weights)
        (output**2).sum().backward()
        gradients = (hidden.grad, layer.experts.up.grad, layer.experts.down.grad)
        results.append((output.detach(), *(gradient.clone() for gradient in gradients)))
        model.zero_grad()
        hidden.grad = None
    for reference, grouped in zip(*results, strict=True):
        scale = reference.abs().max()
        torch.testing.assert_close(grouped.float() / scale, reference / scale, atol=0.02, rtol=0)
    assert (results[1][2][3] == 0).all()  # no gradient for the expert without a token
