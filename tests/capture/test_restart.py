"""A batch that is restarted at a later layer gives the same logits, to the bit."""

import pytest
import torch
from torch import nn

from capture_models import CONFIGS, build
from moe_zoo.build import build as build_of_zoo
from moe_zoo.build import inputs_of, only_as_tested
from specialize.capture import Interventions, Restart, find_routers, restartable
from specialize.errors import CaptureError

OWN = [name for name in CONFIGS if name.startswith("own")]
FAMILIES = ("deepseek_v3", "gemma4", "jetmoe", "longcat_flash", "olmoe", "qwen4_exp", "zaya")


def batch(seed=5):
    ids = torch.randint(3, 128, (3, 12), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False}


def logits(model, inputs):
    with torch.inference_mode():
        return model(**inputs).logits


def made(name):
    return build(name) if name in OWN else build_of_zoo(name)


@only_as_tested
@pytest.mark.parametrize("name", [*OWN, *FAMILIES])
def test_a_restarted_intervention_equals_one_from_the_start(name):
    model, inputs = made(name), batch()
    interventions = Interventions(model)
    assert restartable(model, inputs, interventions.points)
    restart = Restart(model, interventions.points)
    forwards = [vars(module).get("forward") for module in model.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    names = [point.spec.name for point in interventions.points]
    with restart.storing():
        plain = logits(model, inputs)
    for router in [*names, *reversed(names)]:
        for mode in ("drop", "replace"):
            with interventions.applied([(router, 1)], mode=mode):
                expected = logits(model, inputs)
                with restart.at(router):
                    assert torch.equal(logits(model, inputs), expected)
    assert torch.equal(logits(model, inputs), plain)
    assert forwards == [vars(module).get("forward") for module in model.modules()]
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_layers_below_are_not_computed():
    model, inputs = build("olmoe"), batch()
    restart = Restart(model, find_routers(model))
    with restart.storing([2]):
        logits(model, inputs)
    computed = []
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: computed.append(number))
    with restart.at(2):
        logits(model, inputs)
    assert computed == [2]
    with pytest.raises(CaptureError, match="restart at 1: expected a batch that was run while storing"), restart.at(1):
        pass
    restart.clear()
    with pytest.raises(CaptureError, match="restart at 2"), restart.at(2):
        pass


def test_only_what_is_needed_is_held():
    model, inputs = build("olmoe"), batch()
    restart = Restart(model, find_routers(model))
    with restart.storing([0, 2]):
        logits(model, inputs)
    assert sorted(restart._stored) == [1]
    assert restart._stored[1].shape == (3, 12, 32)
    assert not restart._stored[1].requires_grad


def test_another_batch_is_refused():
    model = build("olmoe")
    restart = Restart(model, find_routers(model))
    with restart.storing():
        logits(model, batch())
    refused = pytest.raises(CaptureError, match="expected the batch that was stored, got another one")
    with restart.at(1), refused:
        logits(model, batch(seed=6))


def test_experts_below_the_restart_cannot_be_switched_off():
    model, inputs = build("olmoe"), batch()
    interventions = Interventions(model)
    restart = Restart(model, interventions.points)
    with restart.storing():
        logits(model, inputs)
    refused = pytest.raises(
        CaptureError, match=r"layers\.0\..*: expected a decision of this router, the model ran without"
    )
    with refused, restart.at(1), interventions.applied([(0, 1), (1, 1)]):
        logits(model, inputs)


def test_a_cache_is_refused():
    model = build("olmoe")
    inputs = batch() | {"use_cache": True}
    points = find_routers(model)
    with Restart(model, points).storing(), pytest.raises(CaptureError, match="call the model with use_cache=False"):
        logits(model, inputs)
    assert not restartable(model, inputs, points)


@only_as_tested
@pytest.mark.parametrize("folder", ["switch_transformers", "nllb_moe", "diffusion_gemma"])
def test_models_that_cannot_be_restarted(folder):
    model = build_of_zoo(folder)
    points = find_routers(model)
    assert not restartable(model, inputs_of(model, "right") | {"use_cache": False}, points)
    if folder != "diffusion_gemma":
        with pytest.raises(CaptureError, match="expected a decoder to restart"):
            Restart(model, points)


def test_a_model_with_a_side_channel_cannot_be_restarted():
    """Its last layer reads what the first one left behind, which is that of another batch after a restart."""
    model, inputs = build("olmoe"), batch()
    first, last = model.model.layers[0], model.model.layers[2]
    first.register_forward_hook(lambda module, _, output: setattr(module, "left", output.detach()))
    points = find_routers(model)
    assert restartable(model, inputs, points)
    last.register_forward_hook(lambda _, __, output: output + first.left[: len(output), : output.shape[1]].mean())
    assert not restartable(model, inputs, points)


def test_routers_outside_a_list_of_layers():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = build("olmoe").model.layers[0].mlp

        def forward(self, hidden):
            return self.block(hidden)

    model = Alone()
    points = find_routers(model, (torch.randn(1, 8, 32),))
    with pytest.raises(CaptureError, match="expected a router in a list of layers"):
        Restart(model, points)
