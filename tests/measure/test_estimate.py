import numpy as np
import pytest
import scipy.stats

from specialize.errors import MeasurementError
from specialize.measure import jackknife, lift, load, mutual_information, specific_information
from specialize.measure.base.estimate import jackknife_values, make_estimates
from specialize.measure.base.intervals import ratio_interval, share_interval


@pytest.fixture
def blocks():
    return np.random.default_rng(0).poisson(5.0, (12, 3, 4)).astype(float)


def test_jackknife_equals_its_definition(blocks):
    left_out = np.array([mutual_information(np.delete(blocks, i, axis=0).sum(axis=0)) for i in range(12)])
    value = 12 * mutual_information(blocks.sum(axis=0)) - 11 * left_out.mean()
    error = np.sqrt(11 / 12 * ((left_out - left_out.mean()) ** 2).sum())
    estimate = jackknife(blocks, mutual_information, n_documents=24)
    assert estimate.value == pytest.approx(value, abs=1e-12)
    reach = scipy.stats.t.ppf(0.975, 11) * error
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((value - reach, value + reach))
    assert estimate.ci_kind == "95 % jackknife over 12 document blocks (Student t)"
    assert (estimate.unit, estimate.n_tokens, estimate.n_documents) == ("bits", blocks.sum(), 24)
    assert np.isnan(estimate.p_value)


def test_jackknife_of_a_mean_is_the_textbook_interval():
    values = np.random.default_rng(1).normal(3.0, 1.0, 20)
    # a table of one cell whose total over 20 blocks, or 19, is divided by a column that counts the blocks
    tables = np.stack([values + 10, np.ones(20)], axis=1)[:, None, :]
    estimate = jackknife(tables, lambda counts: counts[..., 0, 0] / counts[..., 0, 1], confidence=0.9)
    expected = scipy.stats.ttest_1samp(values + 10, 0).confidence_interval(0.9)
    assert estimate.value == pytest.approx(13.0, abs=1.0)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((expected.low, expected.high))
    assert estimate.ci_kind.startswith("90 % ")


def test_leading_axes_and_array_statistics(blocks):
    stack = np.stack([blocks, blocks[::-1], 2 * blocks])
    for statistic, shape in [(mutual_information, ()), (specific_information, (4,)), (lift, (3, 4))]:
        value, error = jackknife_values(stack, statistic)
        assert value.shape == error.shape == (3, *shape)
        alone, alone_error = jackknife_values(blocks, statistic)
        for draw in range(3):  # neither the order of blocks nor the scale of the mass matters
            np.testing.assert_allclose(value[draw], alone, atol=1e-12)
            np.testing.assert_allclose(error[draw], alone_error, atol=1e-12)


def test_a_linear_statistic_is_left_alone(blocks):
    equal = blocks / blocks.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(jackknife_values(equal, load)[0], load(equal.sum(axis=0)), atol=1e-12)


def test_one_block_has_no_interval(blocks):
    estimate = jackknife(blocks[:1], mutual_information)
    assert estimate.value == pytest.approx(mutual_information(blocks[0]))
    assert np.isnan([estimate.ci_low, estimate.ci_high]).all()
    assert estimate.ci_kind is None


def test_an_expert_seen_in_one_block_only_is_undefined(blocks):
    blocks[1:, :, 2] = 0
    value, error = jackknife_values(blocks, specific_information)
    np.testing.assert_array_equal(np.isnan(value), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(error), [False, False, True, False])
    assert np.isfinite(jackknife_values(blocks, mutual_information)[0])


def test_ratio_interval_is_symmetric_on_the_log_scale():
    low, high = ratio_interval(np.array([2.0, 0.0]), np.array([0.2, 0.1]), num_blocks=10)
    assert low[0] * high[0] == pytest.approx(4.0)
    assert 0 < low[0] < 2 < high[0]
    assert np.isnan([low[1], high[1]]).all()


def test_share_interval_stays_between_0_and_1():
    low, high = share_interval(np.array([0.02, 0.5, 0.98, 0.0, 1.0]), np.full(5, 0.02), num_blocks=50)
    assert ((low[:3] > 0) & (high[:3] < 1)).all()
    np.testing.assert_allclose(low[[2, 0, 1]], 1 - high[[0, 2, 1]])  # of the complement
    assert high[1] - low[1] == pytest.approx(2 * 2.0096 * 0.02, rel=5e-3)  # near a half as the linear one
    assert np.isnan([low[3:], high[3:]]).all()


@pytest.mark.parametrize(
    ("tables", "confidence", "message"),
    [
        (np.ones((2, 2)), 0.95, r"got shape \(2, 2\)"),
        (np.ones((0, 2, 2)), 0.95, r"got shape \(0, 2, 2\)"),
        (np.ones((2, 2, 2)), 95, "between 0 and 1, got 95"),
    ],
)
def test_misfits_are_named(tables, confidence, message):
    with pytest.raises(MeasurementError, match=message):
        jackknife(tables, mutual_information, confidence=confidence)


def test_a_note_is_added_to_the_intervals_that_it_concerns():
    value = np.array([1.0, 2.0, 3.0])
    found = make_estimates(value, [0.1, np.nan, 0.1], unit="bits", num_blocks=5, n_tokens=9, n_documents=9)
    noted = found.noted("few tokens", np.array([True, True, False]))
    assert noted.ci_kind.tolist() == [
        "95 % jackknife over 5 document blocks (Student t, few tokens)",
        None,
        "95 % jackknife over 5 document blocks (Student t)",
    ]
    assert found.ci_kind[0] == "95 % jackknife over 5 document blocks (Student t)"
    single = make_estimates(1.0, 0.1, unit="bits", num_blocks=5, n_tokens=9, n_documents=9)
    assert single.noted("few tokens", np.asarray(True))[()].ci_kind.endswith("(Student t, few tokens)")
