import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.errors import MeasurementError
from specialize.measure import compare_selectivity, measure_selectivity

LABELS = 3


def plant_change(effects, *, seed, level="token", num_documents=60, tokens=24):
    """A change with the effect of its label, an effect of the document and skewed noise; labels come in runs."""
    rng = np.random.default_rng(seed)
    shape = (num_documents, tokens)
    codes = rng.integers(0, LABELS, (num_documents, tokens // 4)).repeat(4, axis=1)
    if level == "document":
        codes = np.tile(codes[:, :1], (1, tokens))
    change = np.asarray(effects)[codes] + rng.normal(size=(num_documents, 1)) / 2 + rng.exponential(1, shape) - 1
    change[:, -1] = np.nan
    own = codes[:, 0] if level == "document" else codes.ravel()
    return change.ravel(), own, np.repeat(np.arange(num_documents), tokens)


def loop_selectivity(change, codes, label):
    own = [value for value, code in zip(change, codes, strict=True) if value == value and code == label]
    rest = [value for value, code in zip(change, codes, strict=True) if value == value and code not in (-1, label)]
    return sum(own) / len(own) - sum(rest) / len(rest)


@pytest.mark.parametrize("level", ["token", "document"])
def test_selectivity_is_that_of_loops(level):
    change, codes, documents = plant_change([0, 1, 2], seed=0, level=level)
    codes[3] = -1
    found = measure_selectivity(change, codes, documents, level=level, num_labels=4, permutations=0)
    own = codes if level == "token" else codes[documents]
    np.testing.assert_allclose(found.value[:3], [loop_selectivity(change, own, label) for label in range(3)])
    assert np.isnan(found.value[3])
    compared = compare_selectivity(change, [2 * change], codes, documents, label=1, level=level)
    np.testing.assert_allclose(compared.selectivity.value, found.value[1])
    np.testing.assert_allclose(compared.difference.value, -found.value[1])
    np.testing.assert_allclose(compared.selectivity.ci_low, found.ci_low[1])


@pytest.mark.parametrize("level", ["token", "document"])
def test_the_planted_label_is_found_and_no_other(level):
    planted = plant_change([0, 0, 2], seed=1, level=level)
    found = measure_selectivity(*planted, level=level, num_labels=LABELS, permutations=199)
    assert found.p_value[2] == 1 / 200
    assert (found.p_value[:2] > 0.5).all()
    assert found.ci_low[2] > 1
    assert np.isnan(measure_selectivity([1.0, 2.0], [0, 0], [0, 1], level="token", num_labels=1).value).all()


@pytest.mark.parametrize("level", ["token", "document"])
def test_five_percent_of_null_data_sets_are_rejected_and_intervals_cover(level):
    p_values, held = [], []
    for seed in range(500):
        planted = plant_change([1, 1, 1], seed=seed, level=level, num_documents=24)
        found = measure_selectivity(*planted, level=level, num_labels=LABELS, permutations=19, seed=seed + 10**6)
        p_values.append(found.p_value)
        held.append((found.ci_low <= 0) & (found.ci_high >= 0))
    assert 0.03 <= (np.array(p_values) <= 0.05).mean() <= 0.07
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_set_is_ranked_among_random_sets():
    """Changes of one document effect in common, so that the interval of the paired difference is narrow."""
    change, codes, documents = plant_change([0, 0, 0], seed=2)
    is_label = codes == 1
    noise = np.random.default_rng(0).normal(0, 0.05, (19, len(change)))
    random = [change + is_label * size + own for size, own in zip(np.linspace(0.1, 0.4, 19), noise, strict=True)]
    found = compare_selectivity(change + is_label, iter(random), codes, documents, label=1, level="token")
    assert found.selectivity.p_value == found.difference.p_value == 1 / 20
    assert found.selectivity.n_permutations == 19
    np.testing.assert_allclose(found.difference.value, 0.75, atol=0.01)
    assert found.difference.ci_low <= 0.75 <= found.difference.ci_high
    paired, own = (each.ci_high - each.ci_low for each in (found.difference, found.selectivity))
    assert paired < own / 10
    np.testing.assert_allclose(found.selectivity.null_mean, found.random.mean())
    assert (found.selectivity.null_low, found.selectivity.null_high) == (found.random.min(), found.random.max())
    least = compare_selectivity(change, random, codes, documents, label=1, level="token")
    assert least.difference.p_value == 1


def test_ranks_of_one_more_random_set_are_uniform():
    p_values, held = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        base, codes, documents = plant_change([0, 1, 0], seed=seed, num_documents=20, tokens=12)
        sizes = rng.gamma(1, size=20)
        changes = base + (codes == 1) * sizes[:, None] + rng.normal(size=(20, len(codes)))
        found = compare_selectivity(changes[0], changes[1:], codes, documents, label=1, level="token")
        p_values.append(found.difference.p_value)
        held.append(found.difference.ci_low <= sizes[0] - sizes[1:].mean() <= found.difference.ci_high)
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07
    assert 0.45 <= np.mean(np.array(p_values) <= 0.5) <= 0.55
    assert 0.92 <= np.mean(held) <= 0.98


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_documents_and_of_random_sets_does_not_matter(seed):
    change, codes, documents = plant_change([0, 1, 2], seed=seed, num_documents=9, tokens=8)
    rng = np.random.default_rng(seed)
    random = change + rng.normal(size=(4, len(change)))
    order = rng.permutation(9)
    rows = np.concatenate([np.flatnonzero(documents == document) for document in order])
    codes[:2] = [0, 1]
    how = {"label": 1, "level": "token"}
    found = compare_selectivity(change, random, codes, documents, groups=np.arange(9), **how)
    again = compare_selectivity(
        change[rows], random[rng.permutation(4)][:, rows], codes[rows], documents, groups=order, **how
    )
    for one, other in ((found.selectivity, again.selectivity), (found.difference, again.difference)):
        for name in ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-7, atol=1e-10)


def test_wrong_arguments_raise():
    arrays = ([0, 1, 0], [0, 0, 1])
    how = {"level": "token", "label": 1}
    with pytest.raises(MeasurementError, match="got 3, which none of them have"):
        compare_selectivity([1.0, 2.0, 3.0], [[1.0, 2.0, 3.0]], *arrays, level="token", label=3)
    with pytest.raises(MeasurementError, match="got 1, which all of them have"):
        compare_selectivity([np.nan, 2.0, np.nan], [[1.0, 2.0, 3.0]], *arrays, **how)
    with pytest.raises(MeasurementError, match="expected at least one random set, got none"):
        compare_selectivity([1.0, 2.0, 3.0], [], *arrays, **how)
    with pytest.raises(MeasurementError, match="random set 1 has others"):
        compare_selectivity([1.0, 2.0, 3.0], [[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]], *arrays, **how)
