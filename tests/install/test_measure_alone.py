"""`specialize.measure` on arrays, where NumPy, SciPy and Numba are all there is."""

import json

import pytest

from install.fresh import make_environment

SCRIPT = """
import importlib.util
import json

import numpy as np

from specialize import measure

rng = np.random.default_rng(0)
documents = np.repeat(np.arange(40), 10)
codes = rng.integers(0, 2, documents.size)
experts = np.stack([codes, codes + 2], axis=1)  # each label has two experts of its own: the association is perfect
blocks = measure.assign_blocks(np.arange(40), num_blocks=8)[documents]
counts = measure.count_blocks(codes, experts, blocks=blocks, num_labels=2, num_experts=4, num_blocks=8)
total = counts.sum(axis=0)
layer = measure.measure_layer(
    codes, experts, documents, level="token", num_labels=2, num_experts=4, permutations=9, seed=0
)
print(json.dumps({
    "shape": counts.shape,
    "information": float(measure.mutual_information(total)),
    "entropy": float(measure.label_entropy(total)),
    "jackknife": measure.jackknife(counts, measure.mutual_information).value,
    "layer": layer.uncertainty_coefficient.value,
    "found": [name for name in ABSENT if importlib.util.find_spec(name)],
}))
"""
ABSENT = ("pandas", "pyarrow", "matplotlib", "seaborn", "sklearn", "torch", "typer", "rich", "jinja2")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("arrays"), ["numpy", "scipy", "numba"])


def test_arrays_in_numbers_out(environment):
    assert environment.distributions == {"numpy", "scipy", "numba", "llvmlite"}
    done = environment.run("-c", f"ABSENT = {ABSENT!r}\n{SCRIPT}")
    told = json.loads(done.stdout)
    assert told["found"] == []
    assert told["shape"] == [8, 2, 4]
    assert told["information"] == pytest.approx(told["entropy"])
    assert told["jackknife"] == pytest.approx(told["entropy"], abs=0.01)  # less the bias
    assert told["layer"] == pytest.approx(1, abs=0.01)


def test_what_needs_more_says_what_is_missing(environment):
    done = environment.run("-c", "from specialize import measure; measure.measure_routing", fails=True)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'pandas'"
