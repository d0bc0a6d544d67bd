from itertools import combinations

import numpy as np
import pytest

from planted.usage import plant_usage
from specialize.errors import MeasurementError
from specialize.measure import measure_committee
from specialize.measure.estimators import committee
from specialize.measure.estimators.committee import find_common_group

MEANS = np.array([[0.6, 0.1, 0.1, 0.2], [0.1, 0.6, 0.1, 0.2], [0.1, 0.1, 0.6, 0.2]])


def test_groups_by_hand():
    """Each label has its own expert; the common group needs all three, or none of them would hold half everywhere."""
    found = measure_committee(MEANS, [0, 1, 2], num_labels=4, permutations=0)
    assert found.sizes.value.tolist()[:3] == [1, 1, 1]
    assert np.isnan(found.sizes.value[3])
    assert found.groups.astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found.common_group.tolist() == [True, True, True, False]
    assert found.common_size.value == 3
    np.testing.assert_allclose(found.common_mass.value, [0.8, 0.8, 0.8, np.nan])
    assert found.common_size.ci_kind == found.sizes[0].ci_kind == "none: a number of experts"
    shared = measure_committee([[5, 5, 1, 0], [0, 9, 0, 9]], [0, 1], num_labels=2, permutations=0)
    assert shared.common_group.tolist() == [True, True, False, False]  # or 1 and 3, with 0 for label 0
    assert shared.common_size.value == 2


def test_of_groups_of_one_size_that_of_the_largest_mass():
    shares = np.array([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    group, least = find_common_group(shares, [1.0, 2.0, 4.0, 3.0])
    assert np.flatnonzero(group).tolist() == [1, 2]
    assert least == 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_sizes_are_those_of_a_search_through_all_groups(seed, share):
    usage, codes = plant_usage(np.full((3, 7), 1 / 7), num_documents=12, concentration=3, seed=seed)
    codes[0] = -1
    found = measure_committee(usage, codes, num_labels=3, share=share, permutations=0)
    shares = {}
    for label in set(codes.tolist()) - {-1}:
        rows = [row / row.sum() for row, code in zip(usage, codes, strict=True) if code == label]
        shares[label] = sum(rows) / len(rows)

    def smallest(labels):
        for size in range(1, 8):
            held = [
                group for group in combinations(range(7), size)
                if all(sum(shares[label][expert] for expert in group) >= share - 1e-9 for label in labels)
            ]  # fmt: skip
            if held:
                return size, held
        raise AssertionError

    for label in shares:
        assert found.sizes.value[label] == smallest([label])[0]
        assert tuple(np.flatnonzero(found.groups[label])) in smallest([label])[1]
    size, groups = smallest(shares)
    assert found.common_size.value == size
    load = (usage / usage.sum(axis=1, keepdims=True))[codes >= 0].sum(axis=0)
    heaviest = max(load[list(group)].sum() for group in groups)
    assert load[found.common_group].sum() == pytest.approx(heaviest, rel=1.1e-3)


def test_specialized_labels_have_small_groups_and_a_large_common_one():
    usage, codes = plant_usage(MEANS, num_documents=300, concentration=50)
    found = measure_committee(usage, codes, num_labels=3, permutations=19)
    assert (found.sizes.p_value == 0.05).all()
    assert (found.sizes.null_mean > found.sizes.value).all()
    assert found.common_size.p_value == 0.05
    assert found.common_size.null_mean < found.common_size.value == 3


def test_intervals_of_the_mass_of_the_common_group_cover():
    """The group is the planted one in each data set: every label needs its own expert."""
    held = []
    for seed in range(100):
        usage, codes = plant_usage(MEANS, num_documents=100, concentration=50, seed=seed)
        found = measure_committee(usage, codes, num_labels=3, permutations=0)
        assert found.common_group.tolist() == [True, True, True, False]
        held.append((found.common_mass.ci_low <= 0.8) & (found.common_mass.ci_high >= 0.8))
    assert 0.92 <= np.mean(held) <= 0.98


def test_sizes_reject_as_often_as_they_should_under_the_null():
    """A tenth of the data sets at 10 %, over the labels and the common group."""
    alike = np.tile([0.3, 0.25, 0.2, 0.1, 0.1, 0.05], (3, 1))
    p_values = []
    for seed in range(90):
        usage, codes = plant_usage(alike, num_documents=30, seed=seed + 1000)
        found = measure_committee(usage, codes, num_labels=3, permutations=9, seed=seed)
        p_values.append([*found.sizes.p_value, found.common_size.p_value])
    assert 0.06 <= (np.array(p_values) <= 0.1).mean() <= 0.14


def test_wrong_arguments_raise():
    with pytest.raises(MeasurementError, match="share: expected a share above 0 and at most 1, got 0"):
        measure_committee(MEANS, [0, 1, 2], num_labels=3, share=0)
    with pytest.raises(MeasurementError, match=r"got shapes \(3, 4\) and \(2,\)"):
        measure_committee(MEANS, [0, 1], num_labels=3)
    with pytest.raises(MeasurementError, match="with both a label and an expert, got none"):
        measure_committee(MEANS, [-1, -1, -1], num_labels=3)
    with pytest.raises(MeasurementError, match="usage: expected finite, non-negative masses"):
        measure_committee(-MEANS, [0, 1, 2], num_labels=3)
    with pytest.raises(MeasurementError, match=r"expected shares that reach 0\.5 for every label"):
        find_common_group([[0.2, 0.2]], [1.0, 1.0])


def test_a_search_that_is_stopped_returns_a_group_that_holds_the_share_and_prints_nothing(capfd, monkeypatch):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(128, 0.3), 8)
    for nodes in (1, 40):
        monkeypatch.setattr(committee, "MOST_NODES", nodes)
        group, least = committee.find_common_group(shares, shares.sum(axis=0))
        assert (shares[:, group].sum(axis=1) >= 0.5 - 1e-6).all()
        assert 1 <= least <= group.sum() < 60
    assert capfd.readouterr().out == ""
