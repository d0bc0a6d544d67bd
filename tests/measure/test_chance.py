"""Chance at the observed load, against sums over all sets of experts."""

import itertools
from math import comb, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planted.streams import SetDistribution
from specialize.measure.base.chance import pair_chance, repeat_chance, sharing_chance


def conditional_poisson(odds, sizes):
    """List every set of the given sizes with its probability; sets hold -1 up to the largest size."""
    most, sets, shares = max(sizes), [], []
    for size, share in sizes.items():
        own = list(itertools.combinations(range(len(odds)), size))
        weights = np.array([prod(odds[expert] for expert in each) for each in own])
        sets += [(*each, *[-1] * (most - size)) for each in own]
        shares += list(share * weights / weights.sum())
    return SetDistribution(np.array(sets, dtype=np.int16), np.array(shares), len(odds))


def as_counts(sizes):
    return np.array([sizes.get(size, 0.0) for size in range(max(sizes) + 1)])


@pytest.mark.parametrize(("num_experts", "top_k"), [(8, 2), (64, 8), (5, 1), (7, 6), (512, 22)])
def test_an_even_load_gives_the_textbook_chance(num_experts, top_k):
    even = np.full(num_experts, top_k / num_experts)
    sizes = as_counts({top_k: 1.0})
    disjoint = comb(num_experts - top_k, top_k) / comb(num_experts, top_k)
    assert sharing_chance(even, sizes) == pytest.approx(1 - disjoint, abs=1e-12)
    assert repeat_chance(even) == pytest.approx(1 / num_experts)
    pairs = pair_chance(even, sizes)
    np.testing.assert_array_equal(np.isnan(pairs), np.eye(num_experts, dtype=bool))
    np.testing.assert_allclose(pairs[~np.eye(num_experts, dtype=bool)], (top_k - 1) / (num_experts - 1), atol=1e-12)


def test_mixtral():
    even = np.full(8, 1000.0)
    assert repeat_chance(even) == 0.125
    assert sharing_chance(even, as_counts({2: 4000.0})) == pytest.approx(0.46, abs=0.005)


@settings(deadline=None, max_examples=60)
@given(
    odds=st.lists(st.floats(0.02, 50), min_size=4, max_size=7),
    mixture=st.sampled_from([{2: 1.0}, {3: 1.0}, {1: 0.3, 2: 0.7}, {1: 0.1, 2: 0.2, 3: 0.7}]),
)
def test_the_most_random_sets_of_a_load_are_found(odds, mixture):
    truth = conditional_poisson(odds, mixture)
    sizes = as_counts(mixture)
    assert sharing_chance(truth.inclusion, sizes) == pytest.approx(truth.any_repeat, abs=1e-9)
    expected = truth.coactivation
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(pair_chance(truth.inclusion, sizes), expected, atol=1e-9)


def test_scale_does_not_matter_and_tokens_without_experts_are_passed_over():
    truth = conditional_poisson([1.0, 2.0, 3.0, 0.5, 0.1], {2: 1.0})
    counts = np.array([900.0, 0.0, 500.0])
    assert sharing_chance(500 * truth.inclusion, counts) == pytest.approx(truth.any_repeat, abs=1e-10)


def test_experts_that_are_always_or_never_chosen():
    always = np.array([10.0, 5.0, 5.0, 0.0])
    assert sharing_chance(always, as_counts({2: 10.0})) == 1.0
    pairs = pair_chance(always, as_counts({2: 10.0}))
    np.testing.assert_allclose(pairs[0], [np.nan, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(pairs[1], [1.0, np.nan, 0.0, 0.0], atol=1e-12)
    assert np.isnan(pairs[3]).all()


def test_leading_axes_and_nothing_at_all():
    chosen = np.array([[4.0, 4.0, 4.0], [0.0, 0.0, 0.0]])
    sizes = np.array([[0.0, 12.0], [5.0, 0.0]])
    np.testing.assert_allclose(sharing_chance(chosen, sizes), [1 / 3, np.nan])
    np.testing.assert_allclose(repeat_chance(chosen), [1 / 3, np.nan])
