import itertools

import numpy as np
import pytest
import torch
from torch import nn

import specialize
from capture.test_run import make_checkpoint
from capture_models import build
from moe_zoo.build import build as build_of_zoo
from moe_zoo.build import inputs_of, only_as_tested
from specialize.capture import find_routers, watch_norms
from specialize.capture.controls import RandomRouters
from specialize.errors import CaptureError


def batch(side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 128, (3, 12), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 3, 7)):
        mask[row, slice(12 - padding, 12) if side == "right" else slice(0, padding)] = 0
    return ids * mask, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_dropped(side):
    model = build("olmoe")
    ids, mask = batch(side)
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        everything = recorder.take(keep_padding=True)
        model(input_ids=ids, attention_mask=mask)
        real = recorder.take()
    kept = mask.flatten().bool().numpy()
    for all_of, some_of in zip(everything, real, strict=True):
        np.testing.assert_array_equal(some_of.experts, all_of.experts[kept])
        np.testing.assert_array_equal(some_of.weights, all_of.weights[kept])
        np.testing.assert_array_equal(np.bincount(some_of.sequence), [12, 9, 5])
        row, position = mask.nonzero().numpy().T
        np.testing.assert_array_equal(some_of.sequence, row)
        np.testing.assert_array_equal(some_of.position, position)


def test_sequences_are_numbered_on_from_pass_to_pass():
    model = build("olmoe")
    ids, _ = batch()
    with specialize.attach(model) as recorder, torch.no_grad():
        model(ids)
        model(input_ids=ids[:1, :5])
    layer, *_ = recorder.take()
    np.testing.assert_array_equal(np.bincount(layer.sequence), [12, 12, 12, 5])


def test_what_the_backbone_routes_is_recorded_once():
    model = build("olmoe")
    ids, mask = batch()
    with specialize.attach(model) as recorder, torch.no_grad():
        model.model(input_ids=ids, attention_mask=mask)
        alone = recorder.take()
        model(input_ids=ids, attention_mask=mask)
        whole = recorder.take()
    for one, other in zip(alone, whole, strict=True):
        np.testing.assert_array_equal(one.experts, other.experts)


def test_a_backward_pass_with_recomputation_is_not_recorded_again():
    model = build("olmoe").train()
    name = "activation_checkpointing_enable"  # as transformers calls it since 5.20 or so
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()
    ids, mask = batch()
    with specialize.attach(model) as recorder:
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
    assert all(len(layer.experts) == mask.sum() for layer in recorder.take())


def test_a_pass_that_failed_does_not_stop_the_recording():
    model = build("olmoe")
    ids, mask = batch()
    with specialize.attach(model) as recorder, torch.no_grad():
        with pytest.raises(TypeError):
            model(input_ids=ids, attention_mask=mask, labels="no tensor")
        recorder.clear()
        model(input_ids=ids, attention_mask=mask)
    assert all(len(layer.experts) == mask.sum() for layer in recorder.take())


def test_attached_before_compile_it_records_the_same():
    model = build("mixtral")
    ids, _ = batch()
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids)
        plain = recorder.take()
        torch.compile(model, backend="eager", fullgraph=True)(input_ids=ids)
        compiled = recorder.take()
    torch._dynamo.reset()
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_array_equal(one.experts, other.experts)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_random_router_is_a_fixed_random_projection_of_what_the_router_saw(seed):
    model = build("qwen3_moe")
    ids, mask = batch()
    seen: list[torch.Tensor] = []
    handle = model.model.layers[1].mlp.gate.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    how = {"control": "random-router", "control_draws": 1, "seed": seed}
    with specialize.attach(model, **how) as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
        first = recorder.take()
        model(input_ids=ids, attention_mask=mask)
        again = recorder.take()
    handle.remove()
    learned, control = first[:3], first[3:]
    assert [layer.spec.routing for layer in first] == ["learned"] * 3 + ["random"] * 3
    for one, other in zip(control, again[3:], strict=True):
        np.testing.assert_array_equal(one.experts, other.experts)
    for own, beside in zip(learned, control, strict=True):
        assert beside.experts.shape == own.experts.shape
        assert (np.sort(own.experts) != np.sort(beside.experts)).any()
        np.testing.assert_allclose(beside.weights.sum(axis=1), 1, rtol=1e-5)  # as the model's own
    # chosen linearly: what the control chooses first maximises a linear map, so it is not changed by a larger scale
    hidden = seen[-1].reshape(-1, 32)[mask.flatten().bool()]
    routers = RandomRouters(learned[1].spec, order=1, seed=seed, number=1)
    np.testing.assert_array_equal(routers.choose(hidden)[0][0], control[1].experts)
    np.testing.assert_array_equal(routers.choose(hidden * 7)[0][0], control[1].experts)


def test_each_random_router_is_a_draw_from_one_generator_and_the_first_does_not_depend_on_their_number():
    model = build("olmoe")
    ids, mask = batch()
    seen: list[torch.Tensor] = []
    handle = model.model.layers[1].mlp.gate.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    taken = {}
    for number in (1, 4):
        how = {"control": "random-router", "control_draws": number, "seed": 3}
        with specialize.attach(model, **how) as recorder, torch.no_grad():
            model(input_ids=ids, attention_mask=mask)
            taken[number] = recorder.take()
    handle.remove()
    assert [(layer.spec.draw, layer.layer) for layer in taken[4][3:]] == [(d, n) for d in range(4) for n in range(3)]
    for alone, first in zip(taken[1], taken[4][:6], strict=True):
        assert alone.spec == first.spec
        np.testing.assert_array_equal(alone.experts, first.experts)
        np.testing.assert_array_equal(alone.weights, first.weights)
    hidden = seen[-1].reshape(-1, 32)[mask.flatten().bool()].double().numpy()
    generator = torch.Generator().manual_seed(3 * 1_000_003 + 1)  # the seed, and the place of the layer
    own = [layer for layer in taken[4][3:] if layer.layer == 1]
    for draw, layer in enumerate(own):
        weight = torch.randn(layer.num_experts, 32, generator=generator).double().numpy()
        ranked = np.argsort(-hidden @ weight.T, axis=1)[:, : layer.experts.shape[1]]
        np.testing.assert_array_equal(layer.experts, ranked)
        assert (layer.weights is not None) == (draw == 0)
    for one, other in itertools.combinations(own, 2):
        assert (one.experts != other.experts).mean() > 0.5


@pytest.mark.parametrize(("given", "problem"), [(0, "a positive number, got 0"), (2.5, "a whole number")])
def test_the_number_of_random_routers_is_positive_and_whole(given, problem):
    with pytest.raises(CaptureError, match=f"control_draws: expected {problem}"):
        specialize.attach(build("olmoe"), control="random-router", control_draws=given)


def test_random_routers_of_other_seeds_and_layers_choose_otherwise():
    model = build("olmoe")
    ids, _ = batch()
    choices = {}
    for seed in (0, 1):
        with specialize.attach(model, control="random-router", seed=seed) as recorder, torch.no_grad():
            model(input_ids=ids)
        choices |= {(seed, layer.layer): layer.experts for layer in recorder.take() if layer.spec.routing == "random"}
    assert (choices[0, 0] != choices[1, 0]).mean() > 0.5
    assert (choices[0, 0] != choices[0, 1]).mean() > 0.5


def test_a_random_router_of_a_sequence_router_decides_once_a_sequence_from_what_that_router_reads():
    model = build("own, by sequence")
    ids, mask = batch()
    summaries: list[torch.Tensor] = []
    router = model.model.layers[0].mlp.router
    original = router._summary
    router._summary = lambda *given: summaries.append(original(*given)) or summaries[-1]
    with specialize.attach(model, control="random-router") as recorder, torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    controls = [layer for layer in recorder.take() if layer.spec.routing == "random" and layer.layer == 0]
    expected, _ = RandomRouters(controls[0].spec, order=0, seed=0, number=5).choose(summaries[-1][:, 0])
    for control, choices in zip(controls, expected, strict=True):
        rows = [control.experts[control.sequence == row] for row in range(3)]
        assert all((experts == experts[:1]).all() for experts in rows)
        np.testing.assert_array_equal([experts[0] for experts in rows], choices)


def test_norms_are_those_of_each_expert_run_by_itself():
    model = build("mixtral")
    ids, _ = batch()
    given: list[torch.Tensor] = []
    handle = model.model.layers[1].mlp.experts.register_forward_pre_hook(lambda _, a: given.append(a[0].clone()))
    with specialize.attach(model, extras=["norms"]) as recorder, torch.no_grad():
        model(input_ids=ids)
        layer = recorder.take()[1]
    handle.remove()
    experts, hidden = model.model.layers[1].mlp.experts, given[-1]  # the first is the probe's
    for token in (0, 5, 30):
        for slot in range(2):
            e = layer.experts[token, slot]
            gate, up = (hidden[token] @ experts.gate_up_proj[e].T).chunk(2)
            output = (nn.functional.silu(gate) * up) @ experts.down_proj[e].T * layer.weights[token, slot]
            assert layer.norms[token, slot] == pytest.approx(output.norm().item(), rel=1e-4)


@pytest.mark.parametrize("weighted", [True, False])
def test_norms_before_and_after_the_gate(weighted):
    model, found, given = build("mixtral"), [], []
    ids, _ = batch()
    point = find_routers(model)[1]
    handles = [watch_norms(point, found.append, weighted=weighted), point.watch(given.append)]
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    [norms], [choice] = found, given
    assert norms.shape == (36, 2)
    assert norms.dtype == torch.float32
    with torch.no_grad():
        gate, up = torch.einsum("nh,eoh->neo", choice.hidden, point.module.gate_up_proj).chunk(2, dim=-1)
        outputs = torch.einsum("nei,ehi->neh", nn.functional.silu(gate) * up, point.module.down_proj)  # of all experts
    expected = outputs.norm(dim=-1).gather(1, choice.experts) * (choice.weights if weighted else 1)
    torch.testing.assert_close(norms, expected, rtol=1e-4, atol=1e-6)


@only_as_tested
def test_norms_before_the_gate_are_zero_where_there_is_no_expert():
    model, found, given = build_of_zoo("zaya"), [], []
    point = find_routers(model)[-1]
    handles = [watch_norms(point, found.append, weighted=False), point.watch(given.append)]
    with torch.inference_mode():
        model(**inputs_of(model, "right"))
    for handle in handles:
        handle.remove()
    empty = given[0].experts < 0
    assert empty.any()
    assert torch.equal(found[0] == 0, empty)


@only_as_tested
def test_norms_need_experts_that_can_be_run_separately():
    [point, *_] = find_routers(build_of_zoo("llama4"))
    with pytest.raises(CaptureError, match="its experts cannot be run separately"):
        watch_norms(point, print)


@pytest.mark.parametrize("part", ["the model", "its backbone"])
def test_verification_passes_are_seen_by_no_recorder(part, tmp_path):
    checkpoint = make_checkpoint()
    model, ids = checkpoint.model, batch()[0]
    other = model if part == "the model" else model.model
    with specialize.attach(model, control="random-router", extras=["norms", "logits"]) as recorder, torch.no_grad():
        model(input_ids=ids)
        with specialize.attach(other) as second:
            model(input_ids=ids[:1])
        specialize.inspect(other)
        model(input_ids=ids[:2])
        taken = recorder.take()
    assert {len(layer.experts) for layer in taken} == {36 + 12 + 24}
    assert {len(layer.norms) for layer in taken if layer.norms is not None} == {72}
    assert {len(layer.experts) for layer in second.take()} == {12}
    with torch.no_grad(), specialize.record(model, checkpoint.tokenizer, tmp_path / "run") as recording:
        model(input_ids=ids)
        with specialize.attach(other), pytest.raises(TypeError):
            model(input_ids=ids, labels="no tensor")
    assert recording.num_documents == 3


def test_a_verification_pass_that_fails_hides_nothing_after_it():
    model, ids = build("olmoe"), batch()[0]
    with specialize.attach(model) as recorder, torch.no_grad():
        with pytest.raises(CaptureError, match="verification pass"):
            specialize.attach(model, {"input_ids": "no tensor"})
        model(input_ids=ids)
        assert {len(layer.experts) for layer in recorder.take()} == {36}


def test_another_model_is_recorded_during_a_verification_pass():
    model, other, ids = build("olmoe"), build("mixtral"), batch()[0]
    with specialize.attach(model) as recorder, torch.no_grad():
        handle = other.register_forward_pre_hook(lambda *_: model(input_ids=ids) and None)
        specialize.attach(other).stop()
        handle.remove()
    assert {len(layer.experts) for layer in recorder.take()} == {36}


def test_unknown_controls_and_extras_name_their_neighbours():
    with pytest.raises(CaptureError, match=r"expected one of random-router, got 'random'.*Did you mean"):
        specialize.attach(build("mixtral"), control="random")
    with pytest.raises(CaptureError, match=r"expected any of logits, norms, got 'norm'.*Did you mean 'norms'"):
        specialize.attach(build("mixtral"), extras=["norm"])
