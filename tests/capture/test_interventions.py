"""Experts switched off: modes, counts, recording, generation, and what is refused."""

from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import specialize
from capture_models import build
from moe_zoo.build import build as build_of_zoo
from moe_zoo.build import inputs_of, only_as_tested
from moe_zoo.oracles import Oracle, oracle_for
from specialize.capture import Interventions, Recorder
from specialize.capture.interventions.edits import random_keys, read_context
from specialize.errors import CaptureError

OWN = ("own, by token", "own, by sequence", "own, global")


def batch(rows=3, length=12):
    ids = torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : 3 * (row % 4)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def run(model, inputs):
    with torch.inference_mode():
        return model(**inputs).logits.clone()


def record(model, points, inputs):
    with Recorder(model, points) as recorder:
        run(model, inputs)
    return recorder.take(keep_padding=True)


def busiest(layer):
    return int(np.bincount(layer.experts[layer.experts >= 0]).argmax())


@contextmanager
def without(model, name, expert):
    """Set the weights of an expert to zero for a while."""
    parameters = [each.data for each in model.get_submodule(name).parameters()]
    kept = [each[expert].clone() for each in parameters]
    for each in parameters:
        each[expert] = 0
    yield
    for each, values in zip(parameters, kept, strict=True):
        each[expert] = values


@pytest.mark.parametrize("name", OWN)
def test_the_packages_own_model(name):
    model, inputs = build(name), batch(rows=12)
    interventions = Interventions(model)
    plain = run(model, inputs)
    layers = record(model, interventions.points, inputs)
    for layer in layers:
        expert = busiest(layer)
        with interventions.applied([(layer.layer, expert)]) as intervention:
            dropped = run(model, inputs)
        assert intervention.slots == {layer.name: (layer.experts == expert).sum()}
        with without(model, layer.name, expert):
            torch.testing.assert_close(dropped, run(model, inputs), atol=1e-5, rtol=0)
    spared = torch.from_numpy(~(layers[-1].experts == busiest(layers[-1])).any(axis=1))
    assert spared.any()
    assert torch.equal(dropped.flatten(0, 1)[spared], plain.flatten(0, 1)[spared])
    assert torch.equal(run(model, inputs), plain)


def test_an_expert_of_sequences_is_switched_off_for_whole_sequences():
    model, inputs = build("own, by sequence"), batch()
    interventions = Interventions(model)
    layer = record(model, interventions.points, inputs)[0]
    [chosen] = {*layer.experts[:12, 0]}  # k = 1, and one decision for the twelve tokens of the first sequence
    with interventions.applied([(0, int(chosen))], mode="reroute") as intervention:
        other = record(model, interventions.points, inputs)[0]
    rows = layer.experts == chosen
    assert intervention.slots == {layer.name: rows.sum()}
    assert rows.sum() in (12, 24, 36)
    assert len({*other.experts[:12, 0]} | {chosen}) == 2
    np.testing.assert_array_equal(other.experts[~rows], layer.experts[~rows])


def test_a_layer_without_a_router_of_its_own_cannot_be_rerouted():
    interventions = Interventions(build("own, global"))
    assert [("reroute" in modes) for modes in interventions.modes.values()] == [True, False, False]
    with (
        pytest.raises(CaptureError, match=r"layers\.1\.mlp\.experts .*mode reroute is unavailable: its selection"),
        interventions.applied([(1, 0)], mode="reroute"),
    ):
        pass


@pytest.mark.parametrize("name", ["mixtral", "olmoe", "own, by sequence"])
def test_renormalize_keeps_the_sum(name):
    model, inputs = build(name), batch()
    interventions = Interventions(model)
    before = record(model, interventions.points, inputs)[1]
    experts = sorted({*before.experts.flatten()})[:2]
    with interventions.applied([(1, int(expert)) for expert in experts], mode="renormalize"):
        after = record(model, interventions.points, inputs)[1]
    np.testing.assert_array_equal(after.experts, before.experts)
    hit = np.isin(before.experts, experts)
    assert hit.any()
    none, some = hit.all(axis=1), hit.any(axis=1) & ~hit.all(axis=1)
    assert (after.weights[none] == 0).all()
    np.testing.assert_array_equal(after.weights[~hit.any(axis=1)], before.weights[~hit.any(axis=1)])
    factor = before.weights.sum(axis=1) / np.where(hit, 0, before.weights).sum(axis=1).clip(1e-9)
    expected = np.where(hit, 0, before.weights * factor[:, None])
    np.testing.assert_allclose(after.weights[some], expected[some], rtol=1e-5)


def test_replace_draws_uniformly_among_the_others():
    model = build("mixtral")
    inputs = {"input_ids": torch.randint(3, 128, (64, 60), generator=torch.Generator().manual_seed(1))}
    interventions = Interventions(model)
    before = record(model, interventions.points, inputs)[0]
    dropped = [busiest(before), (busiest(before) + 1) % 8]
    with interventions.applied([(0, expert) for expert in dropped], mode="replace", seed=3) as intervention:
        after = record(model, interventions.points, inputs)[0]
    hit = np.isin(before.experts, dropped)
    assert intervention.slots == {before.name: hit.sum()}
    np.testing.assert_array_equal(after.weights, before.weights)
    np.testing.assert_array_equal(after.experts[~hit], before.experts[~hit])
    assert not np.isin(after.experts, dropped).any()
    assert (after.experts[:, 0] != after.experts[:, 1]).all()
    one = hit.sum(axis=1) == 1
    for other in set(range(8)) - {*dropped}:  # for tokens that keep this expert, one of five steps in
        rows = one & (np.where(hit, -1, before.experts).max(axis=1) == other)
        if rows.sum() > 200:
            drawn = Counter(after.experts[rows][hit[rows]].tolist())
            assert other not in drawn
            assert chisquare([drawn[e] for e in range(8) if e not in (*dropped, other)]).pvalue > 1e-4


def test_random_keys_are_independent_and_uniform():
    context = torch.arange(20_000)
    keys = random_keys(context, 6, seed=0, router=0)
    orders = keys.argsort(dim=1)
    assert chisquare(np.bincount(orders[:, 0].numpy(), minlength=6)).pvalue > 1e-3
    for other in (random_keys(context, 6, seed=1, router=0), random_keys(context, 6, seed=0, router=1)):
        pairs = orders[:, 0] * 6 + other.argsort(dim=1)[:, 0]
        assert chisquare(np.bincount(pairs.numpy(), minlength=36)).pvalue > 1e-3


def test_replace_does_not_depend_on_the_batch():
    model, inputs = build("mixtral"), batch()
    interventions = Interventions(model)
    with interventions.applied([(0, 1), (0, 2)], mode="replace", seed=7):
        together = record(model, interventions.points, inputs)[0].experts.reshape(3, 12, 2)
        for row in range(3):
            alone = {"input_ids": inputs["input_ids"][row : row + 1, 3 * row :]}
            apart = record(model, interventions.points, alone)[0].experts
            np.testing.assert_array_equal(together[row, 3 * row :], apart)
        again = record(model, interventions.points, inputs)[0].experts.reshape(3, 12, 2)
    np.testing.assert_array_equal(again, together)
    with interventions.applied([(0, 1), (0, 2)], mode="replace", seed=8):
        other = record(model, interventions.points, inputs)[0].experts.reshape(3, 12, 2)
    assert (other != together).any()


def test_context_is_that_of_the_sequence():
    ids = torch.tensor([[5, 6, 7], [0, 5, 6], [5, 7, 6]])
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    context = read_context(ids, mask).view(3, 3)
    assert torch.equal(context[0, :2], context[1, 1:])
    assert context[0, 0] == context[2, 0]
    assert context[0, 2] != context[2, 2]  # the same tokens in another order


class Llama4Executed(Oracle):
    """The experts that a token reaches, and by how much its hidden state is scaled for each."""

    def install(self):
        for cls in self.classes_of("Llama4TextMoe"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append(given[0].flatten(0, -2)))
        for cls in self.classes_of("Llama4TextExperts"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append(given[0]))

    def answer(self, name):
        block = name.removesuffix(".router")
        [hidden], [given] = self.seen[block], self.seen[f"{block}.experts"]
        scale = (given.view(-1, *hidden.shape)[..., 0] / hidden[..., 0]).T
        weights, experts = scale.topk(2)
        assert ((scale > 0).sum(dim=1) == 2).all()
        return experts, weights


@only_as_tested
@pytest.mark.parametrize("folder", ["llama4", "jetmoe", "switch_transformers", "zaya", "longcat_flash"])
@pytest.mark.parametrize("mode", ["replace", "reroute"])
def test_what_adapters_record_of_an_intervention_is_what_the_model_executes(folder, mode):
    model = build_of_zoo(folder)
    inputs = inputs_of(model, "right")
    interventions = Interventions(model)
    for before in record(model, interventions.points, inputs)[-2:]:
        if mode not in interventions.modes[before.name]:
            continue
        expert = busiest(before)
        with interventions.applied([(before.name, expert)], mode=mode), pytest.MonkeyPatch.context() as patch:
            oracle = (Llama4Executed if folder == "llama4" else oracle_for(folder))(model, patch)
            after = {each.name: each for each in record(model, interventions.points, inputs)}[before.name]
        with torch.no_grad():
            experts, weights = oracle.answer(before.name)
        if folder == "zaya":
            experts = experts.masked_fill(weights == 0, -1)  # the oracle does not know who skips without the expert
        assert not (after.experts == expert).any()
        np.testing.assert_array_equal(np.sort(after.experts), np.sort(experts))
        if folder != "jetmoe" or mode == "reroute":
            np.testing.assert_allclose(np.sort(after.weights), np.sort(weights.float()), rtol=1e-5)


@only_as_tested
@pytest.mark.parametrize("folder", ["llama4", "jetmoe", "switch_transformers", "zaya"])
def test_adapters_record_a_dropped_slot_with_weight_zero(folder):
    model = build_of_zoo(folder)
    inputs = inputs_of(model, "right")
    interventions = Interventions(model)
    before = record(model, interventions.points, inputs)[-1]
    hit = before.experts == busiest(before)
    with interventions.applied([(before.name, busiest(before))]):
        after = record(model, interventions.points, inputs)[-1]
    if folder == "llama4":  # which records an expert without weight as none, after the others
        order = np.argsort(hit, axis=1, kind="stable")
        hit = np.take_along_axis(hit, order, axis=1)
        assert (after.experts[hit] == -1).all()
        before = SimpleNamespace(
            **{name: np.take_along_axis(getattr(before, name), order, axis=1) for name in ("experts", "weights")}
        )
    np.testing.assert_array_equal(after.weights, np.where(hit, 0, before.weights))
    np.testing.assert_array_equal(after.experts[~hit], before.experts[~hit])


def test_recorders_see_the_changed_routing():
    model, inputs = build("olmoe"), batch()
    with specialize.attach(model) as outer:
        run(model, inputs)
        before = outer.take()
        expert = busiest(before[1])
        with specialize.intervene(model, [(1, expert)]) as intervention, specialize.attach(model) as inner:
            assert intervention.slots == {before[1].name: 0}  # its verification pass is not counted
            run(model, inputs)
            assert [point.spec for point in inner.points] == [point.spec for point in outer.points]
            for layer in (outer.take()[1], inner.take()[1]):
                hit = before[1].experts == busiest(before[1])
                np.testing.assert_array_equal(layer.experts, before[1].experts)
                np.testing.assert_array_equal(layer.weights, np.where(hit, 0, before[1].weights))
            everything = intervention.slots[before[1].name]
        assert everything >= hit.sum()  # padding is counted, too


@pytest.mark.parametrize("mode", ["drop", "reroute"])
def test_generation_with_a_cache(mode):
    model, inputs = build("olmoe"), batch()
    interventions = Interventions(model)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expert = busiest(record(model, interventions.points, inputs)[1])
    with interventions.applied([(1, expert)], mode=mode) as intervention, torch.inference_mode():
        output = model.generate(**inputs, **settings)
        uncached = model.generate(**inputs, **settings, use_cache=False)
    assert torch.equal(output, uncached)
    assert intervention.slots[interventions.points[1].spec.name] > 0
    if mode == "drop":
        with without(model, interventions.points[1].spec.name, expert), torch.inference_mode():
            assert torch.equal(output, model.generate(**inputs, **settings))


def test_interventions_at_different_routers_compose():
    model, inputs = build("olmoe"), batch()
    interventions = Interventions(model)
    with interventions.applied([(0, 1), (2, 3)]):
        at_once = run(model, inputs)
    with interventions.applied([(0, 1)]), specialize.intervene(model, [(2, 3)]):
        nested = run(model, inputs)
    assert torch.equal(at_once, nested)
    refused = pytest.raises(CaptureError, match="switched off already")
    with interventions.applied([(0, 1)]), refused, specialize.intervene(model, [(0, 2)]):
        pass


@pytest.mark.parametrize("mode", ["drop", "reroute", "replace"])
def test_the_model_is_as_before_also_after_an_exception(mode):
    model, inputs = build("deepseek_v3"), batch()
    plain = run(model, inputs)
    hooks = [dict(module._forward_pre_hooks) | dict(module._forward_hooks) for module in model.modules()]
    interventions = Interventions(model)
    expert = busiest(record(model, interventions.points, inputs)[0])

    def fail(module, arguments):
        raise RuntimeError("in the middle")

    assert mode in interventions.modes[interventions.points[0].spec.name]
    router = model.get_submodule(interventions.points[0].spec.name.replace("experts", "gate"))
    handle = router.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"), interventions.applied([(1, expert)], mode=mode):
        run(model, inputs)
    handle.remove()
    assert torch.overrides._get_current_function_mode_stack() == []
    assert hooks == [dict(module._forward_pre_hooks) | dict(module._forward_hooks) for module in model.modules()]
    assert torch.equal(run(model, inputs), plain)


@pytest.mark.parametrize("mode", ["drop", "renormalize", "reroute", "replace"])
def test_with_offloaded_weights(mode):
    accelerate = pytest.importorskip("accelerate")
    model, inputs = build("olmoe"), batch()
    with specialize.intervene(model, [(0, 3), (1, 5)], mode=mode):
        expected = run(model, inputs)
    accelerate.cpu_offload(model, execution_device="cpu")
    with specialize.intervene(model, [(0, 3), (1, 5)], mode=mode):
        assert torch.equal(run(model, inputs), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised by importing the compiler
def test_a_model_that_was_compiled_since():
    model = build("olmoe")
    interventions = Interventions(model)
    model.compile()
    with pytest.raises(CaptureError, match="not compiled"), interventions.applied([(0, 1)]):
        pass


def test_gradients_pass_after_inference_mode():
    model, inputs = build("olmoe"), batch()
    with specialize.intervene(model, [(1, 2)], mode="renormalize"):
        run(model, inputs)
        model(**inputs).logits.sum().backward()
    assert model.model.embed_tokens.weight.grad.isfinite().all()


def test_groups_without_enough_experts():
    model, inputs = build_of_zoo("deepseek_v3"), batch()  # two groups of four experts, of which a token chooses one
    interventions = Interventions(model)
    layer = interventions.points[0].spec
    drop = [(layer.layer, expert) for expert in (4, 5, 6)]
    refused = pytest.raises(CaptureError, match=r"reroute: expected another expert for each slot, found none for \d+")
    with refused, interventions.applied(drop, mode="reroute"):
        run(model, inputs)


@pytest.mark.parametrize(
    ("drop", "mode", "message"),
    [
        ([(0, 16)], "drop", r"layers\.0\.mlp\.experts: expected an expert of 0 to 15, got 16"),
        ([(0, -1)], "drop", "expected an expert of 0 to 15, got -1"),
        ([(3, 0)], "drop", r"expected a layer with a router \(0, 1, 2\), got 3"),
        ([("layers.0", 0)], "drop", r"expected the name of a router, such as model\.layers\.0\.mlp\.experts"),
        ([(0, 1), (0, 1)], "drop", "expected each expert once, got expert 1 of"),
        ([], "drop", "expected at least one pair"),
        ((0, 1), "drop", r"expected pairs \(layer, expert\), got 0"),
        ([(0, 1.5)], "drop", r"expected pairs \(layer, expert\), got \(0, 1.5\)"),
        ([(0, True)], "drop", r"expected pairs \(layer, expert\)"),
        ("01", "drop", "expected pairs"),
        ([(0, 1)], "remove", "mode: expected one of drop, renormalize, reroute, replace, got 'remove'"),
        ([(0, e) for e in range(13)], "replace", "expected at least k = 4 of the 16 experts to be left, got 13"),
    ],
)
def test_what_is_refused(drop, mode, message):
    with pytest.raises(CaptureError, match=message) as raised, specialize.intervene(build("olmoe"), drop, mode=mode):
        pass
    assert "\n" not in str(raised.value)


@only_as_tested
@pytest.mark.parametrize("folder", ["doge", "nllb_moe"])
def test_families_whose_routing_cannot_be_changed(folder):
    model = build_of_zoo(folder)
    interventions = Interventions(model)
    assert set(interventions.modes.values()) == {()}
    with (
        pytest.raises(CaptureError, match="mode drop is unavailable: its routing can be read but not changed"),
        interventions.applied([(interventions.points[0].spec.name, 0)]),
    ):
        pass


@only_as_tested
def test_a_layer_with_two_routers():
    interventions = Interventions(build_of_zoo("jetmoe"))
    with (
        pytest.raises(CaptureError, match=r"layer 1 has 2 routers: name the one meant, .*self_attention.* or .*mlp"),
        interventions.applied([(1, 0)]),
    ):
        pass
