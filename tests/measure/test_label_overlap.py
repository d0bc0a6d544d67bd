import numpy as np
import pytest

from planted.usage import plant_usage
from specialize.measure import measure_label_overlap

ALIKE = np.tile([0.3, 0.25, 0.2, 0.1, 0.1, 0.05], (3, 1))
APART = np.array([[0.4, 0.3, 0.1, 0.1, 0.05, 0.05], [0.2, 0.3, 0.2, 0.2, 0.05, 0.05], [0.05, 0.05, 0.1, 0.1, 0.3, 0.4]])


def weighted_jaccard(first, second):
    least, most = 0.0, 0.0
    for one, other in zip(first, second, strict=True):
        least, most = least + min(one, other), most + max(one, other)
    return least / most


def test_overlap_by_hand():
    """Documents of a label that agree leave no error: as counted and cross-fitted overlap are one."""
    usage = np.tile([[2.0, 1.0, 1.0, 0.0], [0.0, 10.0, 10.0, 20.0], [4.0, 0.0, 0.0, 0.0]], (40, 1))
    found = measure_label_overlap(usage, np.tile([0, 1, 2], 40), num_labels=4, permutations=0)
    np.testing.assert_allclose(found.value[0, :3], [np.nan, 0.5 / 1.5, 0.5 / 1.5])
    assert found.value[1, 2] == 0
    np.testing.assert_allclose(found.value, found.value.T)
    assert np.isnan(found.value[3]).all()
    assert np.isnan(np.diagonal(found.value)).all()
    np.testing.assert_allclose([found[0, 1].ci_low, found[0, 1].ci_high], 1 / 3)
    assert found.ci_kind[0, 1].startswith("95 % from the overlap as counted to the cross-fitted overlap, cautious")


@pytest.mark.parametrize("seed", range(10))
def test_value_lies_between_the_counted_and_the_cross_fitted_overlap(seed):
    """Written anew with loops over documents, labels and experts."""
    usage, codes = plant_usage(APART, num_documents=30, seed=seed)
    found = measure_label_overlap(usage, codes, num_labels=3, permutations=0, num_blocks=1)
    mean = [[0.0] * 6 for _ in range(3)]
    for row, code in zip(usage, codes, strict=True):
        for expert in range(6):
            mean[code][expert] += row[expert] / row.sum() / list(codes).count(code)
    assert found.value[0, 2] == pytest.approx(weighted_jaccard(mean[0], mean[2]))  # one block: as counted
    fitted = measure_label_overlap(usage, codes, num_labels=3, permutations=0)
    assert fitted.value[0, 2] >= found.value[0, 2] - 1e-12


def test_labels_of_one_document_overlap_as_counted_and_have_no_interval():
    """There is nothing to cross-fit: a sign from a half without the label would make any two labels alike."""
    usage = np.random.default_rng(0).dirichlet(np.full(9, 0.3), 8)
    found = measure_label_overlap(usage, np.arange(8), num_labels=8, permutations=3)
    for first in range(8):
        for second in range(first):
            assert found.value[first, second] == pytest.approx(weighted_jaccard(usage[first], usage[second]))
            assert found.ci_kind[first, second].startswith("unreliable, too little data (a label has documents in one")
    assert np.isnan(found.ci_low).all()


def test_one_rare_label_leaves_the_others_their_intervals():
    usage, codes = plant_usage(APART, num_documents=60, seed=1)
    codes = np.append(codes, 3)  # of one document
    found = measure_label_overlap(np.vstack([usage, usage[:1]]), codes, num_labels=4, permutations=0)
    marked = np.array([[str(kind).startswith("unreliable") for kind in row] for row in found.ci_kind])
    assert marked[3, :3].all()
    assert not marked[:3, :3].any()
    assert np.isfinite(found.ci_low[np.triu_indices(3, 1)]).all()


def test_intervals_cover_and_values_are_nearly_unbiased():
    """Intervals are cautious where labels differ, and hold the overlap of labels that do not."""
    for means, bias in ((APART, 0.05), (ALIKE, 0.12)):
        held, values = [], []
        for seed in range(150):
            usage, codes = plant_usage(means, num_documents=90, seed=seed)
            found = measure_label_overlap(usage, codes, num_labels=3, permutations=0)
            truth = weighted_jaccard(means[0], means[1])
            held.append(found.ci_low[0, 1] <= truth + 1e-12 and truth <= found.ci_high[0, 1] + 1e-12)
            values.append(found.value[0, 1] - truth)
        assert np.mean(held) >= 0.92
        assert abs(np.mean(values)) < bias


def test_labels_that_differ_overlap_less_than_permuted_ones():
    usage, codes = plant_usage(APART, num_documents=300, concentration=50)
    found = measure_label_overlap(usage, codes, num_labels=3, permutations=39)
    off = ~np.eye(3, dtype=bool)
    assert (found.p_value[off] == 1 / 40).all()
    assert (found.null_mean[off] < 1).all()
    assert (found.null_mean[off] > found.value[off]).all()


def test_five_percent_of_null_data_sets_are_rejected():
    p_values = []
    for seed in range(800):
        usage, codes = plant_usage(ALIKE, num_documents=30, seed=seed)
        found = measure_label_overlap(usage, codes, num_labels=3, permutations=19, seed=seed, num_blocks=10)
        p_values.append(found.p_value[0, 1])
    assert 0.03 <= (np.array(p_values) <= 0.05).mean() <= 0.07
