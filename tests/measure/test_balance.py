import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from planted.streams import SetDistribution, plant_sets
from specialize.errors import MeasurementError
from specialize.measure import measure_balance
from specialize.measure.estimators.balance import load_peak, load_variation

SETS = SetDistribution(np.array([[0, 1], [2, 0], [3, 2], [1, 3]], dtype=np.int16), np.array([0.4, 0.3, 0.2, 0.1]), 6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any))
def test_variation_is_scipys(counts):
    table = np.array(counts, dtype=float)[None]
    assert load_variation(table) == pytest.approx(scipy.stats.variation(counts), abs=1e-10)
    assert load_peak(table) == pytest.approx(max(counts) / np.mean(counts), abs=1e-10)


def test_even_and_collapsed_loads():
    assert (load_variation(np.ones((1, 8))), load_peak(np.ones((1, 8)))) == (0.0, 1.0)
    one = np.eye(8)[:1]
    assert load_variation(one) == pytest.approx(np.sqrt(7))
    assert load_peak(one) == 8.0
    assert np.isnan(load_peak(np.zeros((1, 8))))


def test_a_planted_load_is_recovered():
    experts, documents = plant_sets(SETS, num_documents=200, tokens_per_document=50, concentration=20)
    balance = measure_balance(experts, documents, num_experts=6)
    truth = SETS.inclusion / 2
    inside = (balance.load.ci_low <= truth) & (truth <= balance.load.ci_high)
    assert inside.sum() >= 5
    for name, value in [
        ("entropy", scipy.stats.entropy(truth, base=2)),
        ("variation", scipy.stats.variation(truth)),
        ("peak", truth.max() / truth.mean()),
    ]:
        estimate = getattr(balance, name)
        assert estimate.ci_low < value < estimate.ci_high
    assert (balance.dead.value, balance.dead.unit) == (2.0, "count")
    assert np.isnan(balance.dead.ci_low)
    assert (balance.entropy.n_tokens, balance.entropy.n_documents) == (10_000, 200)
    first = measure_balance(experts, documents, num_experts=6, rule="first")
    np.testing.assert_allclose(first.load.value, np.bincount(experts[:, 0], minlength=6) / 10_000)


def test_random_differences_between_experts_are_corrected():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(64, 10.0))
    truth, documents, errors, errors_as_counted = scipy.stats.variation(shares), np.repeat(np.arange(100), 20), [], []
    for _ in range(60):
        experts = rng.choice(64, size=(2000, 1), p=shares)
        errors.append(measure_balance(experts, documents, num_experts=64).variation.value - truth)
        errors_as_counted.append(scipy.stats.variation(np.bincount(experts[:, 0], minlength=64)) - truth)
    assert np.mean(errors_as_counted) > 0.03
    assert abs(np.mean(errors)) < np.mean(errors_as_counted) / 4


def test_slots_without_experts_leave_the_mass_to_the_others():
    experts = np.array([[0, 1], [2, -1], [-1, -1]])
    balance = measure_balance(experts, [0, 0, 1], num_experts=3)
    np.testing.assert_allclose(balance.load.value, [0.25, 0.25, 0.5])
    assert (balance.load.n_tokens, balance.load.n_documents) == (2, 1)


def test_nothing_to_measure():
    with pytest.raises(MeasurementError, match="expected tokens, got none"):
        measure_balance(np.empty((0, 2), np.int16), [], num_experts=3)
