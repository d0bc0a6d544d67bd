import numpy as np
import pytest
from scipy import stats

from planted import plant_channel
from specialize.errors import MeasurementError
from specialize.measure import (
    assign_blocks,
    count_blocks,
    estimate_difference,
    jackknife,
    mutual_information,
    pseudo_values,
)

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])


def plant_pair(seed, documents=60):
    """Two routers on the same documents: the second takes one in three choices of the first, else those of chance."""
    planted = plant_channel(
        SHARES, CHANNEL, num_documents=documents, tokens_per_document=30, concentration=10, seed=seed
    )
    rng = np.random.default_rng(10_000 + seed)
    kept = rng.random(len(planted.codes)) < 1 / 3
    second = np.where(kept[:, None], planted.experts, rng.integers(0, 4, planted.experts.shape))
    blocks = assign_blocks(np.arange(documents))
    return [
        count_blocks(
            planted.codes, experts, blocks=blocks[planted.documents], num_labels=3, num_experts=4,
            num_blocks=blocks.max() + 1,
        )
        for experts in (planted.experts, second)
    ]  # fmt: skip


def information_of(channel):
    joint = SHARES[:, None] * channel
    chance = SHARES[:, None] * joint.sum(axis=0)
    return float((joint * np.log2(joint / chance)).sum())


TRUTH = information_of(CHANNEL) - information_of(CHANNEL / 3 + (2 / 3) / 4)


def test_pseudo_values_hold_the_jackknifes_numbers():
    blocks, _ = plant_pair(0)
    values = pseudo_values(blocks, mutual_information)
    whole = jackknife(blocks, mutual_information)
    assert values.mean() == pytest.approx(whole.value)
    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert whole.ci_high - whole.ci_low == pytest.approx(2 * reach)


def test_a_known_difference_is_covered():
    held = 0
    for seed in range(200):
        one, other = (pseudo_values(blocks, mutual_information) for blocks in plant_pair(seed))
        difference = estimate_difference(one, other, unit="bits").difference
        held += difference.ci_low < TRUTH < difference.ci_high
    assert 0.90 <= held / 200 <= 0.99


def test_pairing_cancels_what_documents_share():
    """A side that is the other plus a constant differs by it without any doubt, however noisy both are."""
    noise = np.random.default_rng(0).normal(5, 3, 50)
    difference = estimate_difference(noise + 0.25, noise, unit="bits").difference
    assert difference.value == pytest.approx(0.25)
    assert difference.ci_high - difference.ci_low < 1e-9
    alone = estimate_difference(noise, np.zeros(50), unit="bits").difference
    assert alone.ci_high - alone.ci_low > 1


def test_p_values_are_those_of_the_paired_t_test():
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.3, 1, 30), rng.normal(0, 1, 30)
    both = estimate_difference(one, other, unit="bits", margin=0.9)
    assert both.difference.p_value == pytest.approx(stats.ttest_rel(one, other).pvalue)
    sides = [
        stats.ttest_rel(one + 0.9, other, alternative="greater").pvalue,
        stats.ttest_rel(one - 0.9, other, alternative="less").pvalue,
    ]
    assert both.equivalence.p_value == pytest.approx(max(sides))
    low, high = stats.ttest_rel(one, other).confidence_interval(0.90)
    assert (both.equivalence.ci_low, both.equivalence.ci_high) == pytest.approx((low, high))
    # equivalent at 5 % exactly where the 90 % interval lies within the margin
    assert (both.equivalence.p_value < 0.05) == (low > -0.9 and high < 0.9)
    assert "margin 0.9" in both.equivalence.ci_kind


def test_edges():
    same = estimate_difference(np.ones(5), np.ones(5), unit="bits", margin=0.1)
    assert (same.difference.p_value, same.equivalence.p_value) == (1, 0)
    single = estimate_difference([1.0], [0.5], unit="bits")
    assert single.difference.value == 0.5
    assert np.isnan(single.difference.p_value)
    assert single.difference.ci_kind is None
    with pytest.raises(MeasurementError, match="count both in the same blocks"):
        estimate_difference([1.0, 2.0], [1.0], unit="bits")
    with pytest.raises(MeasurementError, match="margin must be above 0"):
        estimate_difference([1.0], [1.0], unit="bits", margin=0)
