from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from planted.usage import plant_usage
from specialize.measure import measure_signatures

ALIKE = np.tile([0.3, 0.25, 0.2, 0.1, 0.1, 0.05], (3, 1))
APART = np.array([[0.4, 0.3, 0.1, 0.1, 0.05, 0.05], [0.2, 0.3, 0.2, 0.2, 0.05, 0.05], [0.05, 0.05, 0.1, 0.1, 0.3, 0.4]])


def test_similarities_by_hand():
    """Two documents of a label share a direction, those of the other are at 60 degrees to it."""
    usage = [[1, 0], [3, 0], [1, 3**0.5], [2, 2 * 3**0.5]]
    found = measure_signatures(usage, [0, 0, 1, 1], num_labels=2, permutations=0)
    assert (found.within.value, found.between.value, found.difference.value) == pytest.approx((1, 0.5, 0.5))
    alone = measure_signatures(usage[:1], [0], num_labels=2, permutations=0)
    assert np.isnan([alone.within.value, alone.between.value]).all()


def brute_force(usage, codes, groups=None):
    """Mean cosines of all pairs of documents of different groups, one pair at a time."""
    means = {True: [], False: []}
    for one, other in combinations(range(len(codes)), 2):
        apart = groups is None or groups[one] != groups[other]
        if apart and min(codes[one], codes[other]) >= 0 and usage[one].any() and usage[other].any():
            size = (usage[one] @ usage[one] * (usage[other] @ usage[other])) ** 0.5
            means[bool(codes[one] == codes[other])].append(usage[one] @ usage[other] / size)
    return np.mean(means[True]), np.mean(means[False])


@pytest.mark.parametrize("seed", range(5))
def test_means_and_errors_are_those_of_all_pairs(seed):
    usage, codes = plant_usage(APART, num_documents=14, seed=seed)
    codes[2], usage[5] = -1, 0.0
    found = measure_signatures(usage, codes, num_labels=3, permutations=0)
    assert (found.within.value, found.between.value) == pytest.approx(brute_force(usage, codes))
    left = []
    for document in range(14):
        if codes[document] >= 0 and usage[document].any():  # each is a block
            others = np.arange(14) != document
            left.append(brute_force(usage[others], codes[others])[0])
    error = (11 / 12 * ((left - np.mean(left)) ** 2).sum()) ** 0.5
    assert found.within.ci_high - found.within.value == pytest.approx(2.20098516 * error)  # t of 11 degrees
    assert (found.within.n_documents, found.within.n_tokens) == (12, 360)


@pytest.mark.parametrize("seed", range(5))
def test_documents_that_belong_together_are_not_compared(seed):
    usage, codes = plant_usage(APART, num_documents=30, seed=seed)
    codes[2], usage[5] = -1, 0.0
    groups = np.random.default_rng(seed).integers(0, 12, 30)
    found = measure_signatures(usage, codes, num_labels=3, permutations=9, groups=groups)
    assert (found.within.value, found.between.value) == pytest.approx(brute_force(usage, codes, groups))
    left = [brute_force(*(each[groups != group] for each in (usage, codes, groups)))[1] for group in np.unique(groups)]
    count = len(left)  # each group is a block
    error = ((count - 1) / count * ((left - np.mean(left)) ** 2).sum()) ** 0.5
    reach = found.between.ci_high - found.between.value
    assert reach == pytest.approx(scipy.stats.t.ppf(0.975, count - 1) * error)


def test_copies_of_documents_change_nothing():
    usage, codes = plant_usage(APART, num_documents=40)
    once = measure_signatures(usage, codes, num_labels=3, permutations=99)
    order = np.tile(np.arange(40), 2)
    twice = measure_signatures(usage[order], codes[order], num_labels=3, permutations=99, groups=order)
    for name in ("within", "between", "difference"):
        one, other = getattr(once, name), getattr(twice, name)
        assert (other.value, other.ci_low, other.ci_high) == pytest.approx((one.value, one.ci_low, one.ci_high))
    assert twice.difference.null_mean == pytest.approx(once.difference.null_mean, abs=1e-12)


def test_intervals_cover():
    usage, codes = plant_usage(APART, num_documents=40_000, seed=10**6)
    large = measure_signatures(usage, codes, num_labels=3, permutations=0)
    names = ("within", "between", "difference")
    held = []
    for seed in range(300):
        found = measure_signatures(*plant_usage(APART, num_documents=80, seed=seed), num_labels=3, permutations=0)
        held.append(
            [getattr(found, n).ci_low <= getattr(large, n).value <= getattr(found, n).ci_high for n in names]
        )  # fmt: skip
    assert ((np.mean(held, axis=0) >= 0.92) & (np.mean(held, axis=0) <= 0.985)).all()


def test_documents_of_a_label_are_alike_where_labels_differ():
    found = measure_signatures(*plant_usage(APART, num_documents=60), num_labels=3, permutations=39)
    assert found.difference.p_value == 1 / 40
    assert found.difference.ci_low > 0
    assert abs(found.difference.null_mean) < 0.02


def test_five_percent_of_null_data_sets_are_rejected():
    p_values = []
    for seed in range(1000):
        usage, codes = plant_usage(ALIKE, num_documents=30, seed=seed)
        found = measure_signatures(usage, codes, num_labels=3, permutations=19, seed=seed, num_blocks=5)
        p_values.append(found.difference.p_value)
    assert 0.03 <= (np.array(p_values) <= 0.05).mean() <= 0.07
