from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.errors import MeasurementError
from specialize.measure import draw_matched_sets


def by_layer(pairs):
    found = {}
    for layer, expert in pairs:
        found.setdefault(layer, set()).add(expert)
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_sets_have_the_sizes_of_the_chosen_one_without_its_experts(data, seed):
    rng = np.random.default_rng(seed)
    sizes = data.draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    load = [rng.dirichlet(np.ones(size)) for size in sizes]
    chosen = [
        (layer, expert)
        for layer, size in enumerate(sizes)
        for expert in rng.permutation(size)[: data.draw(st.integers(int(layer == 0), size - 1))]
    ]
    found = draw_matched_sets(load, chosen, count=12, seed=seed)
    own = by_layer(chosen)
    possible = 1
    for layer, experts in own.items():
        others = sizes[layer] - len(experts)
        possible *= comb(others, len(experts)) if others >= len(experts) else comb(len(experts), len(experts) - others)
    assert found.num_possible == possible
    assert len(set(found.sets)) == len(found.sets) == min(12, possible)
    assert found.layers == tuple(own)
    for pairs, loads in zip(found.sets, found.loads, strict=True):
        drawn = by_layer(pairs)
        assert {layer: len(experts) for layer, experts in drawn.items()} == {k: len(v) for k, v in own.items()}
        for layer, experts in drawn.items():
            assert len(experts & own[layer]) == max(0, 2 * len(own[layer]) - sizes[layer])
        np.testing.assert_allclose(loads, [load[layer][list(experts)].sum() for layer, experts in drawn.items()])
    np.testing.assert_allclose(found.chosen_load, [load[layer][list(experts)].sum() for layer, experts in own.items()])


def test_loads_are_matched_as_far_as_there_are_experts():
    rng = np.random.default_rng(0)
    load = [rng.lognormal(size=128) for _ in range(3)]
    largest = [(layer, int(expert)) for layer in range(3) for expert in np.argsort(load[layer])[-8:]]
    middle = [(layer, int(expert)) for layer in range(3) for expert in np.argsort(load[layer])[60:64]]
    found = draw_matched_sets(load, middle, count=50)
    assert (np.abs(found.loads / found.chosen_load - 1) < 0.1).all()
    assert len(found.sets) == 50
    heavy = draw_matched_sets(load, largest, count=50)
    unmatched = np.array([each.sum() * 8 / 128 for each in load])
    assert (heavy.loads.mean(axis=0) > 1.5 * unmatched).all()
    assert (heavy.loads < heavy.chosen_load).all()


def test_with_few_experts_there_are_as_many_sets_as_exist():
    found = draw_matched_sets([np.arange(8.0)], [(0, 6)], count=20)
    assert sorted(found.sets) == [((0, expert),) for expert in (0, 1, 2, 3, 4, 5, 7)]
    nearest = draw_matched_sets([np.arange(8.0)], [(0, 6)], count=4)
    assert sorted(expert for ((_, expert),) in nearest.sets) == [3, 4, 5, 7]


def test_draws_depend_on_the_seed_alone_and_not_on_the_order_of_the_chosen():
    load = [np.ones(16)] * 2
    found = draw_matched_sets(load, [(0, 3), (1, 4), (0, 1)], count=5, seed=3)
    assert found.sets == draw_matched_sets(load, [(0, 1), (0, 3), (1, 4)], count=5, seed=3).sets
    assert found.sets != draw_matched_sets(load, [(0, 1), (0, 3), (1, 4)], count=5, seed=4).sets


def test_every_expert_of_equal_load_is_drawn():
    """No expert is preferred for its number: of 15 equal ones each is in a set of one in 15."""
    drawn = [draw_matched_sets([np.ones(16)], [(0, 0)], count=1, seed=seed).sets[0][0][1] for seed in range(600)]
    counts = np.bincount(drawn, minlength=16)[1:]
    assert ((counts - 40) ** 2 / 40).sum() < 31.3  # chi-squared with 14 degrees of freedom, p = .005


@pytest.mark.parametrize(
    ("load", "chosen", "message"),
    [
        ([[1, 1]], [], "different .* pairs, at least one"),
        ([[1, 1]], [(0, 1), (0, 1)], "different"),
        ([[1, 1]], [(0, 2)], r"expected experts that have a load, got \(0, 2\)"),
        ([[1, 1]], [(1, 0)], "expected experts that have a load"),
        ([[1, 1]], [(0, 0), (0, 1)], "expected fewer than all experts"),
        ([[1, np.nan]], [(0, 0)], "expected finite, non-negative loads"),
        ([[1, -1]], [(0, 0)], "expected finite, non-negative loads"),
        ([[1, 1, 1]], [(0, 1.7)], "expert: expected a whole number, got 1.7"),
        ([[1, 1, 1]], [(0, True)], "expert: expected a whole number, got True"),
        ([[1, 1, 1]], [(0.0, 1)], "layer of an expert: expected a whole number"),
    ],
)
def test_wrong_arguments_raise(load, chosen, message):
    with pytest.raises(MeasurementError, match=message):
        draw_matched_sets(load, chosen, count=3)
    with pytest.raises(MeasurementError, match="count must be at least 1"):
        draw_matched_sets([[1, 1]], [(0, 0)], count=0)
    with pytest.raises(MeasurementError, match=r"count: expected a whole number, got 2\.5"):
        draw_matched_sets([[1, 1]], [(0, 0)], count=2.5)
