import numpy as np
import pytest

from planted.streams import SetDistribution, plant_sets
from specialize.errors import MeasurementError
from specialize.measure import measure_saturation

SETS = SetDistribution(
    np.array([[0, 1], [1, 2], [2, 0], [3, 2], [4, 0]], dtype=np.int16), np.array([0.35, 0.25, 0.2, 0.1, 0.1]), 5
)


@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0])
def test_planted_saturation_is_recovered(kept):
    """A later checkpoint keeps a token's experts with a known probability and otherwise samples new ones."""
    chance = (SETS.inclusion**2).sum() / 2
    truth = kept + (1 - kept) * chance
    held = 0
    for seed in range(40):
        one, documents = plant_sets(SETS, num_documents=100, tokens_per_document=20, seed=seed)
        other, _ = plant_sets(SETS, num_documents=100, tokens_per_document=20, seed=1000 + seed)
        keep = np.random.default_rng(2000 + seed).random(len(one)) < kept
        measured = measure_saturation(one, np.where(keep[:, None], one[:, ::-1], other), documents, num_experts=5)
        held += measured.ci_low <= truth <= measured.ci_high
        assert measured.null_mean == pytest.approx(chance, abs=0.03)
        assert measured.unit == "share of slots"
    assert held >= 35


def test_slots_without_an_expert_are_misses():
    measured = measure_saturation(
        [[0, 1], [0, -1], [-1, -1], [2, 3]], [[1, 0], [0, 2], [0, 1], [-1, -1]], [0, 0, 1, 2], num_experts=4
    )
    assert measured.value == pytest.approx((2 + 1) / 4)  # of two tokens that both routed, two slots each
    assert (measured.n_tokens, measured.n_documents) == (2, 1)
    nothing = measure_saturation([[-1]], [[0]], [0], num_experts=1)
    assert np.isnan(nothing.value)


def test_misfits_are_named():
    with pytest.raises(MeasurementError, match="saturation needs the same tokens and k"):
        measure_saturation([[0, 1]], [[0]], [0], num_experts=2)
    with pytest.raises(MeasurementError, match="final must be below 2, got 2"):
        measure_saturation([[0]], [[2]], [0], num_experts=2)
