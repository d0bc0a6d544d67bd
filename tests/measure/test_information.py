import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import mutual_info_score

from specialize.errors import MeasurementError
from specialize.measure import (
    entropy,
    label_entropy,
    lift,
    load,
    load_entropy,
    mutual_information,
    specific_information,
    uncertainty_coefficient,
)

masses = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))
tables = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=masses)
positive_tables = tables.filter(lambda table: table.sum() > 0)
each_table = settings(max_examples=60, deadline=None)


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 500)))
@each_table
def test_mutual_information_agrees_with_scikit_learn(counts):
    if counts.sum() == 0:
        return
    expected = mutual_info_score(None, None, contingency=counts) / np.log(2)
    assert mutual_information(counts) == pytest.approx(expected, abs=1e-10)


@given(positive_tables)
@each_table
def test_entropies_agree_with_scipy(table):
    assert label_entropy(table) == pytest.approx(scipy.stats.entropy(table.sum(axis=1), base=2), abs=1e-10)
    assert load_entropy(table) == pytest.approx(scipy.stats.entropy(table.sum(axis=0), base=2), abs=1e-10)


@given(positive_tables)
@each_table
def test_specific_information_is_the_relative_entropy_of_scipy(table):
    labels = table.sum(axis=1) / table.sum()
    computed = specific_information(table)
    for expert, column in enumerate(table.T):
        if column.sum() == 0:
            assert np.isnan(computed[expert])
        else:
            assert computed[expert] == pytest.approx(scipy.stats.entropy(column, labels, base=2), abs=1e-10)


@given(positive_tables)
@each_table
def test_lift_is_observed_over_expected(table):
    used = table[np.ix_(table.sum(axis=1) > 0, table.sum(axis=0) > 0)]
    expected = used / scipy.stats.contingency.expected_freq(used)
    np.testing.assert_allclose(lift(used), expected, rtol=1e-10)


@given(positive_tables, st.randoms(use_true_random=False))
@each_table
def test_relabelling_changes_nothing(table, random):
    rows, columns = list(range(table.shape[0])), list(range(table.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    moved = table[np.ix_(rows, columns)]
    assert mutual_information(moved) == pytest.approx(mutual_information(table), abs=1e-10)
    np.testing.assert_allclose(specific_information(moved), specific_information(table)[columns], atol=1e-10)


@given(positive_tables.filter(lambda table: len(table) > 1))
@each_table
def test_merging_labels_never_adds_information(table):
    merged = np.vstack([table[0] + table[1], table[2:]])
    assert mutual_information(merged) <= mutual_information(table) + 1e-10


@given(positive_tables)
@each_table
def test_specific_information_adds_up_by_load(table):
    total = np.nansum(load(table) * specific_information(table))
    assert total == pytest.approx(mutual_information(table), abs=1e-10)


@given(positive_tables)
@each_table
def test_information_lies_within_its_bounds(table):
    information = mutual_information(table)
    assert 0 <= information <= min(label_entropy(table), load_entropy(table)) + 1e-10
    share, uncertainty = uncertainty_coefficient(table), label_entropy(table)
    if uncertainty == 0:
        assert np.isnan(share)
    else:  # in bits: a nearly certain label makes a share of two tiny numbers
        assert -1e-10 <= share * uncertainty <= uncertainty + 1e-10


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_known_channels(scale):
    independent = np.outer([0.2, 0.3, 0.5], [0.1, 0.9]) * scale
    assert mutual_information(independent) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(lift(independent), 1.0)
    assert mutual_information(np.eye(8) * scale) == pytest.approx(3.0)
    assert uncertainty_coefficient(np.eye(8) * scale) == pytest.approx(1.0)
    noisy = np.array([[0.45, 0.05], [0.05, 0.45]]) * scale
    assert mutual_information(noisy) == pytest.approx(1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))


def test_leading_axes_are_carried_through():
    stack = np.random.default_rng(0).random((2, 3, 4, 5))
    for function, shape in [
        (mutual_information, ()),
        (uncertainty_coefficient, ()),
        (label_entropy, ()),
        (load_entropy, ()),
        (load, (5,)),
        (specific_information, (5,)),
        (lift, (4, 5)),
    ]:
        together = function(stack)
        assert together.shape == (2, 3, *shape)
        np.testing.assert_allclose(together[1, 2], function(stack[1, 2]), rtol=1e-12)
    assert entropy(stack, axis=1).shape == (2, 4, 5)


def test_empty_tables_rows_and_columns():
    empty = np.zeros((3, 4))
    for function in (mutual_information, uncertainty_coefficient, label_entropy, load_entropy):
        assert np.isnan(function(empty))
    assert np.isnan(load(empty)).all()
    assert np.isnan(specific_information(empty)).all()
    assert np.isnan(lift(empty)).all()
    padded = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 4.0]])
    kept = padded[np.ix_([0, 2], [0, 2])]
    assert mutual_information(padded) == pytest.approx(mutual_information(kept))
    assert np.isnan(specific_information(padded)[1])
    assert np.isnan(lift(padded)[1]).all()
    assert np.isnan(lift(padded)[:, 1]).all()
    assert load(padded)[1] == 0.0


def test_one_label_or_one_expert_holds_no_information():
    assert mutual_information([[1.0, 2.0]]) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information([[1.0], [2.0]]) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(uncertainty_coefficient([[1.0, 2.0]]))


@pytest.mark.parametrize("function", [mutual_information, lift, load, specific_information, label_entropy])
def test_misfits_are_named(function):
    with pytest.raises(MeasurementError, match="got shape"):
        function([1.0, 2.0])
    with pytest.raises(MeasurementError, match=r"non-negative numbers, got -1"):
        function([[1.0, -1.0]])
    with pytest.raises(MeasurementError, match="got nan"):
        function([[1.0, np.nan]])
