"""Routing is found, and captured exactly, in a tiny random model of every Mixture-of-Experts type of transformers."""

import numpy as np
import pytest
import torch

import specialize
from moe_zoo.build import build, build_whole, buildable, inputs_of, moe_folders, only_as_tested, set_implementation
from moe_zoo.oracles import oracle_for
from moe_zoo.types import NOT_MOE, OVERRIDES, UNBUILDABLE, WHOLE

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), only_as_tested]


@pytest.mark.parametrize("folder", buildable())
def test_captured_routing_is_what_the_model_executes(folder):
    check_both_implementations(folder, build(folder))


@pytest.mark.parametrize("folder", WHOLE)
def test_a_multimodal_model_run_on_text_alone(folder):
    check_both_implementations(folder, build_whole(folder))


def check_both_implementations(folder, model):
    for implementation in ("eager", "grouped_mm"):
        if not set_implementation(model, implementation) and implementation != "eager":
            continue
        recorder = specialize.attach(model)
        for side in ("left", "right"):
            inputs = inputs_of(model, side)
            with pytest.MonkeyPatch.context() as patch, torch.no_grad():
                oracle = oracle_for(folder)(model, patch)
                model(**inputs)
            layers = recorder.take(keep_padding=True)
            assert layers
            for layer in layers:
                with torch.no_grad():
                    experts, weights = oracle.answer(layer.name)
                np.testing.assert_array_equal(layer.experts, experts.numpy())
                np.testing.assert_array_equal(layer.weights, weights.float().numpy())
                tokens = inputs["decoder_input_ids"] if _reads_decoder_input(layer, inputs) else inputs["input_ids"]
                assert layer.experts.shape == (tokens.numel(), layer.spec.top_k)
                assert layer.experts.min() >= -1
                assert layer.experts.max() < layer.num_experts
                assert len(np.unique(layer.experts)) > 1
        recorder.stop()


def _reads_decoder_input(layer, inputs):
    return layer.spec.stack == "decoder" and "decoder_input_ids" in inputs


def test_no_type_is_left_out():
    """Every folder that sounds of experts is built, or listed with the reason why not."""
    assert set(buildable()) | NOT_MOE.keys() | UNBUILDABLE.keys() == set(moe_folders())
    assert len(buildable()) >= 70
    assert all(reason for reason in (*NOT_MOE.values(), *UNBUILDABLE.values()))
    assert OVERRIDES.keys() <= set(buildable())
