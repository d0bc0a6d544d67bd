"""Simulated error rates: rejections under the null and coverage of intervals."""

import numba
import numpy as np
import pytest

from planted import plant_channel, plant_document_labels, plant_noise
from specialize.measure import measure_layer
from specialize.measure.base import information

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
LOAD = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
MIXED = 0.7 * LOAD + 0.3 * np.eye(6)[[0, 2, 3, 5]]
# So many that a correct test strays from 3-7 % once in 5,000 choices of seeds; with 400 it would once in 15.
NULLS, COVERAGES = 1600, 600


@pytest.fixture(autouse=True)
def one_thread():
    """Count in one thread: for tables this small, waking others takes longer than counting."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def simulate(plant, level, count, **options):
    """Yield the measurements of freshly planted routing."""
    for seed in range(count):
        planted = plant(seed)
        yield measure_layer(
            planted.codes,
            planted.experts,
            planted.documents,
            level=level,
            num_labels=planted.num_labels,
            num_experts=planted.num_experts,
            seed=seed + 1_000_000,
            **options,
        )


def assert_calibrated(measured):
    p_values = np.array([layer.uncertainty_coefficient.p_value for layer in measured])
    assert 0.03 <= (p_values <= 0.05).mean() <= 0.07
    assert 0.45 <= (p_values <= 0.5).mean() <= 0.55


def test_shift_null_rejects_five_percent_of_clustered_noise():
    def plant(seed):
        return plant_noise(SHARES, LOAD, num_documents=10, tokens_per_document=40, seed=seed)

    assert_calibrated(list(simulate(plant, "token", NULLS, permutations=99)))


@pytest.mark.parametrize("by_sequence", [False, True])
def test_permutation_null_rejects_five_percent_of_noise(by_sequence):
    def plant(seed):
        channel = np.tile(LOAD, (4, 1))
        return plant_document_labels(
            SHARES, channel, num_documents=20, tokens_per_document=8, by_sequence=by_sequence, seed=seed
        )

    assert_calibrated(list(simulate(plant, "document", NULLS, permutations=99, num_blocks=10)))


def covered(estimate, truth):
    return estimate.ci_low <= truth <= estimate.ci_high


@pytest.mark.parametrize("num_documents", [50, 200])
@pytest.mark.parametrize("level", ["token", "document"])
def test_jackknife_intervals_cover(num_documents, level):
    plant_one = plant_channel if level == "token" else plant_document_labels

    def plant(seed):
        return plant_one(
            SHARES, MIXED, num_documents=num_documents, tokens_per_document=30, concentration=10, seed=seed
        )

    measured = list(simulate(plant, level, COVERAGES, permutations=0))
    joint = SHARES[:, None] * MIXED
    truth, share = information.mutual_information(joint), information.uncertainty_coefficient(joint)
    assert 0.90 <= np.mean([covered(layer.mutual_information, truth) for layer in measured]) <= 0.99
    assert 0.90 <= np.mean([covered(layer.uncertainty_coefficient, share) for layer in measured]) <= 0.99
    values = np.array([layer.mutual_information.value for layer in measured])
    plain = np.array([information.mutual_information(layer.table) for layer in measured])
    error_of_mean = values.std() / np.sqrt(COVERAGES)
    assert abs(values.mean() - truth) < 3 * error_of_mean
    assert plain.mean() - truth > (3 * error_of_mean if num_documents == 50 else 0)
