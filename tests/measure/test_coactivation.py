import numpy as np
import pytest

from planted.streams import SetDistribution, plant_sets
from specialize.errors import MeasurementError
from specialize.measure import measure_coactivation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.coactivation import coactivation, count_pairs

SETS = SetDistribution(
    np.array([[0, 1], [1, 2], [2, 0], [3, 2], [4, 0]], dtype=np.int16), np.array([0.35, 0.25, 0.2, 0.1, 0.1]), 5
)


def test_planted_pairs_are_recovered():
    """Over many data sets a 95 % interval holds the truth nearly as often as it says, and none is far off."""
    truth, held, cells = SETS.coactivation, 0, 0
    for seed in range(40):
        experts, documents = plant_sets(
            SETS, num_documents=100, tokens_per_document=30, persistence=0.4, concentration=20, seed=seed
        )
        measured = measure_coactivation(experts, documents, num_experts=5)
        inside = np.isfinite(measured.value) & (truth > 0) & (truth < 1)
        np.testing.assert_allclose(measured.value[inside], truth[inside], atol=0.15)
        held += int(((measured.ci_low < truth) & (truth < measured.ci_high))[inside].sum())
        cells += int(inside.sum())
    assert cells == 40 * 8
    assert 0.90 <= held / cells <= 0.98


def test_pairs_of_any_ranks_count():
    """The first and the third slot are a pair as the first and the second are."""
    layer = LayerInput.of([[0, 1, 2], [2, 1, 3]], [0, 1], num_experts=4)
    counts = count_pairs(layer, np.array([0, 1], dtype=np.int32)).sum(axis=0)
    assert counts.tolist() == [[1, 1, 1, 0], [1, 2, 2, 1], [1, 2, 2, 1], [0, 1, 1, 1]]
    shares = coactivation(counts)
    np.testing.assert_allclose(shares[1], [0.5, np.nan, 1, 0.5])
    assert np.isnan(coactivation(np.zeros((2, 2)))).all()


def test_chance_at_an_even_load_is_one_in_the_others():
    rng = np.random.default_rng(0)
    experts = np.stack([rng.permutation(8)[:2] for _ in range(4000)])
    even = np.concatenate([experts, (experts + 1) % 8, (experts + 2) % 8, (experts + 3) % 8] * 2)
    even = np.concatenate([(even + step) % 8 for step in range(8)])  # every expert exactly as often
    measured = measure_coactivation(even, np.arange(len(even)) // 100, num_experts=8)
    off = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(measured.null_mean[off], 1 / 7)
    np.testing.assert_allclose(measured.value[off], 1 / 7, atol=0.02)
    assert np.isnan(np.diagonal(measured.value)).all()


def test_slots_without_an_expert_and_unused_experts():
    measured = measure_coactivation([[0, -1], [0, 1], [-1, -1]], [0, 1, 2], num_experts=3)
    np.testing.assert_allclose(measured.value[0], [np.nan, 0.5, 0])
    np.testing.assert_allclose(measured.value[1], [1, np.nan, 0])
    assert np.isnan(measured.value[2]).all()
    assert (measured.n_tokens, measured.n_documents) == (2, 2)
    with pytest.raises(MeasurementError, match="experts must be below 3, got 3"):
        measure_coactivation([[0, 3]], [0], num_experts=3)
    with pytest.raises(MeasurementError, match=r"documents \[tokens\], got shapes"):
        measure_coactivation([[0, 1]], [0, 0], num_experts=3)
