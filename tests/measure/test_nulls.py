import numpy as np
import pytest

from specialize.errors import MeasurementError
from specialize.measure import draw_permutations, draw_shifts, p_values
from specialize.measure.base import nulls


def test_shifts_are_uniform_and_hold_the_identity():
    shifts = draw_shifts([1, 4, 10], permutations=6000, seed=0)
    assert shifts.dtype == np.int32
    assert not shifts[:, 0].any()
    for document, length in ((1, 4), (2, 10)):
        seen = np.bincount(shifts[:, document], minlength=length)
        assert len(seen) == length
        np.testing.assert_allclose(seen / 6000, 1 / length, atol=0.03)


def test_permutations_are_permutations():
    drawn = draw_permutations(range(7), permutations=50, seed=0)
    assert drawn.shape == (50, 7)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(7), (50, 1)))
    assert len(np.unique(drawn, axis=0)) > 40


def test_permutations_exchange_whole_groups():
    groups = np.repeat([30, 10, 20, 40], 3)[[0, 3, 1, 4, 2, 5, 6, 7, 8, 9, 10, 11]]  # the first two are interleaved
    drawn = draw_permutations(groups, permutations=300, seed=0)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(12), (300, 1)))
    moved = groups[drawn]  # the group of the source of each document
    for group in np.unique(groups):
        assert (moved[:, groups == group] == moved[:, groups == group][:, :1]).all()
    assert len(np.unique(moved, axis=0)) == 24  # all orders of four groups
    uneven = draw_permutations([1, 1, 1, 2, 3, 3], permutations=50, seed=0)
    np.testing.assert_array_equal(np.sort(uneven, axis=1), np.tile(np.arange(6), (50, 1)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: draw_shifts([5] * 9, permutations=3, seed=seed),
        lambda seed: draw_permutations(range(9), permutations=3, seed=seed),
    ],
)
def test_seeds_repeat(draw):
    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_p_values_count_the_observed_value_and_ties():
    null = np.array([0.0, 1.0, 2.0, 3.0])
    assert p_values(2.0, null) == pytest.approx(3 / 5)
    assert p_values(2.0 + 1e-13, null) == pytest.approx(3 / 5)
    assert p_values(9.0, null) == pytest.approx(1 / 5)
    assert p_values(-1.0, null) == 1.0
    assert p_values(np.inf, np.array([np.inf, 0.0])) == pytest.approx(2 / 3)


def test_undefined_permutations_count_as_extreme():
    assert p_values(2.0, np.array([np.nan, 0.0])) == pytest.approx(2 / 3)
    assert np.isnan(p_values(np.nan, np.array([1.0, 0.0])))
    assert np.isnan(p_values(np.ones(3), np.empty((0, 3)))).all()


def test_batches_hold_every_permutation_once(monkeypatch):
    monkeypatch.setattr(nulls, "BATCH_BYTES", (8 * 24 + 4 * 4) * 4)  # four permutations at once
    observations = nulls.Observations(
        codes=np.array([0, 1, 1, 0], dtype=np.int32),
        experts=np.array([[0], [1], [2], [0]], dtype=np.int16),
        masses=np.ones((4, 1)),
        starts=np.arange(5, dtype=np.int64),
        blocks=np.arange(4, dtype=np.int32),
    )
    batches = list(nulls.permuted_tables(observations, shape=(4, 2, 3), permutations=10, seed=0))
    assert [len(tables) for _, tables in batches] == [4, 4, 2]
    assert [batch.start for batch, _ in batches] == [0, 4, 8]
    monkeypatch.undo()
    ((_, at_once),) = nulls.permuted_tables(observations, shape=(4, 2, 3), permutations=10, seed=0)
    np.testing.assert_array_equal(np.concatenate([tables for _, tables in batches]), at_once)


def test_permutations_cannot_be_negative():
    with pytest.raises(MeasurementError, match="permutations must be at least 0, got -1"):
        draw_shifts([3], permutations=-1, seed=0)
