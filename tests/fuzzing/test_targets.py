"""A short version of `make fuzz`: every reader of foreign bytes reads its input or refuses it with one clear line."""

from pathlib import Path
from random import Random

import pytest
from analyses.fuzzing.harness import attempt, without_slow_parts
from analyses.fuzzing.mutation import mutate_bytes
from analyses.fuzzing.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INPUTS = Path(__file__).parent / "inputs"
FOUND = sorted(path for path in INPUTS.glob("*/*"))

# seeds and no strategy for random numbers: how many are drawn depends on paths and versions in the manifest
changes = st.lists(st.tuples(st.booleans(), st.integers(0, 2**32 - 1)), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def quick():
    with without_slow_parts():
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name, tmp_path):
    for seed, data in TARGETS[name].seeds().items():
        outcome = attempt(TARGETS[name], data, tmp_path / "input")
        assert outcome.accepted, (seed, outcome)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_is_read_or_refused(path, tmp_path):
    outcome = attempt(TARGETS[path.parent.name], path.read_bytes(), tmp_path / "input")
    assert outcome.finding is None, outcome.finding.details


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_changed_inputs_are_read_or_refused(name, data, tmp_path_factory):
    target = TARGETS[name]
    changed = data.draw(st.sampled_from(list(target.seeds().values())))
    for structured, seed in data.draw(changes):
        changed = (target.mutate if structured and target.mutate else mutate_bytes)(changed, Random(seed))
    outcome = attempt(target, changed, tmp_path_factory.getbasetemp() / "fuzzing")
    assert outcome.finding is None, outcome.finding.details
