"""On a GPU, in half precision, captured routing is what the experts are given, for every type of transformers."""

import numpy as np
import pytest
import torch
import transformers

import specialize
from moe_zoo.build import TESTED_VERSION, build, buildable, inputs_of, set_implementation
from moe_zoo.oracles import oracle_for

pytestmark = [pytest.mark.filterwarnings("default")]  # of other versions of transformers and torch than those pinned

FOLDERS = buildable() if torch.cuda.is_available() else ["deepseek_v3", "gpt_oss", "olmoe"]
# Their oracles compute scores again, which in half precision is not what the model computed.
RECOMPUTED = ("jetmoe", "llama4", "nllb_moe", "switch_transformers", "zaya")
# What the zoo knows of these is not true of other versions of transformers than the one that is pinned.
CHANGED = () if transformers.__version__ == TESTED_VERSION else ("aria", "dbrx", "glm5_next")
CASES = [
    (folder, dtype)
    for folder in FOLDERS
    if folder not in CHANGED
    for dtype in ([torch.float32] if folder in RECOMPUTED else [torch.bfloat16, torch.float16])
]


@pytest.mark.parametrize(("folder", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch."))
def test_captured_routing_is_what_the_model_executes(folder, dtype, device):
    model = build(folder).to(device=device, dtype=dtype)
    for implementation in ("eager", "grouped_mm"):
        if not set_implementation(model, implementation) and implementation != "eager":
            continue
        inputs = {name: values.to(device) for name, values in inputs_of(model, "left").items()}
        try:
            with torch.no_grad():
                model(**inputs)
        except Exception as error:  # the model itself does not run in this precision
            if implementation != "eager":
                continue
            pytest.skip(f"{folder} does not run in {dtype} on {device}: {type(error).__name__}: {error}"[:200])
        recorder = specialize.attach(model)
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            oracle = oracle_for(folder)(model, patch)
            model(**inputs)
        layers = recorder.take(keep_padding=True)
        recorder.stop()
        assert layers
        for layer in layers:
            with torch.no_grad():
                experts, weights = oracle.answer(layer.name)
            np.testing.assert_array_equal(layer.experts, experts.cpu().numpy())
            np.testing.assert_array_equal(layer.weights, weights.float().cpu().numpy())
            assert layer.experts.min() >= -1
            assert layer.experts.max() < layer.num_experts
