import numpy as np
import pytest

from planted import channel_information, plant_channel, plant_noise
from specialize.errors import MeasurementError
from specialize.measure import measure_flow

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])


def plant_flow(seed=0, **how):
    """The planted labels are the experts of the layer before, the planted experts those of the next."""
    planted = plant_channel(SHARES, CHANNEL, num_documents=150, tokens_per_document=40, seed=seed, **how)
    return planted.codes[:, None], planted.experts, planted.documents


def test_a_planted_channel_is_recovered():
    """P(next | this) is given: its information with the first expert is known in closed form."""
    truth = channel_information(SHARES, CHANNEL)
    following = SHARES @ CHANNEL
    share = truth / -(following @ np.log2(following))
    held = np.zeros(3)
    for seed in range(40):
        flow = measure_flow(*plant_flow(seed), num_experts=3, num_following=4, permutations=9)
        held += [
            flow.mutual_information.ci_low < truth < flow.mutual_information.ci_high,
            flow.uncertainty_coefficient.ci_low < share < flow.uncertainty_coefficient.ci_high,
            ((flow.transitions.ci_low < CHANNEL.T) & (flow.transitions.ci_high > CHANNEL.T)).mean(),
        ]
        assert flow.mutual_information.p_value == pytest.approx(0.1)
        np.testing.assert_allclose(flow.transitions.null_mean, np.repeat(following[:, None], 3, axis=1), atol=0.03)
    assert (held / 40 >= 0.875).all()
    assert held[2] / 40 <= 0.98


def test_the_same_choices_in_two_layers_share_all_they_have():
    experts = np.stack([np.arange(600) % 4, (np.arange(600) + 1) % 4], axis=1)
    flow = measure_flow(experts, experts, np.arange(600) // 10, num_experts=4, num_following=4, permutations=9)
    assert flow.uncertainty_coefficient.value == pytest.approx(1)
    assert flow.mutual_information.value == pytest.approx(2)
    np.testing.assert_allclose(flow.transitions.value, np.eye(4))


def test_layers_without_relation_are_within_their_null():
    planted = plant_noise(SHARES, CHANNEL[1], num_documents=60, tokens_per_document=50, seed=3)
    flow = measure_flow(
        planted.codes[:, None], planted.experts, planted.documents, num_experts=3, num_following=4, permutations=99
    )
    assert flow.mutual_information.p_value > 0.05
    assert flow.mutual_information.ci_low < 0 < flow.mutual_information.ci_high


def test_tokens_that_one_layer_dropped_are_left_out():
    flow = measure_flow([[0], [1], [-1], [1]], [[1], [0], [1], [-1]], [0, 1, 1, 2], num_experts=2, num_following=2)
    assert (flow.mutual_information.n_tokens, flow.mutual_information.n_documents) == (2, 2)
    with pytest.raises(MeasurementError, match="that both layers routed, got none"):
        measure_flow([[0]], [[-1]], [0], num_experts=2, num_following=2)
    with pytest.raises(MeasurementError, match="of one length, got 1, 2 and 1"):
        measure_flow([[0]], [[0], [0]], [0], num_experts=2, num_following=2)


def test_rare_transitions_have_no_interval():
    first, second = np.repeat([0, 0, 1], [6, 4, 10])[:, None], np.repeat([0, 1, 1], [6, 4, 10])[:, None]
    order = np.random.default_rng(0).permutation(20)
    shares = measure_flow(
        first[order], second[order], np.arange(20), num_experts=3, num_following=2, permutations=0
    ).transitions  # fmt: skip
    assert np.isfinite(shares.ci_low).tolist() == [[True, False, False], [False, True, False]]
    assert shares[1, 0].ci_kind == shares[0, 1].ci_kind == "none: below 5 tokens with this transition"
    assert shares[0, 2].ci_kind is None


def test_sparse_tables_carry_a_warning():
    """Three experts by three have four degrees of freedom."""
    for tokens, warned in ((19, True), (20, False)):
        rows = np.arange(tokens)[:, None]
        flow = measure_flow(rows % 3, rows // 2 % 3, np.arange(tokens), num_experts=9, num_following=4, permutations=0)
        for found in (flow.mutual_information, flow.uncertainty_coefficient):
            assert (", biased: below 5 tokens" in found.ci_kind) == warned
