import numpy as np
import pytest
import scipy.stats

from specialize.errors import MeasurementError
from specialize.measure import choice_entropy, choice_margin, measure_label_means

MEANS = np.array([1.0, 1.5, 3.0])


def plant_values(effect, *, level, num_documents=40, tokens=20, seed=0):
    """Draw values around the mean of their label, with an effect of the document; labels come in runs."""
    rng = np.random.default_rng(seed)
    shape = (num_documents, tokens)
    codes = rng.integers(0, 3, (num_documents, tokens // 4)).repeat(4, axis=1)
    if level == "document":
        codes = np.tile(codes[:, :1], (1, tokens))
    values = 2 + effect * (MEANS[codes] - 2) + rng.normal(size=(num_documents, 1)) / 2 + rng.normal(size=shape)
    own = codes[:, 0] if level == "document" else codes.ravel()
    return values.ravel(), own, np.repeat(np.arange(num_documents), tokens)


def test_entropy_is_that_of_scipy():
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 3
    expected = scipy.stats.entropy(scipy.special.softmax(logits, axis=1), base=2, axis=1)
    np.testing.assert_allclose(choice_entropy(logits), expected)
    special = [[0.0, 0.0, -np.inf, -np.inf], [1e4, 0, 0, 0], [np.nan, 0, 0, 0]]
    np.testing.assert_allclose(choice_entropy(special), [1, 0, np.nan], atol=1e-12)


def test_margin_by_hand():
    logits = np.log(2) * np.array([[4.0, 1.0, 3.0, 0.0]] * 4)
    chosen = [[0, 2], [0, 3], [1, -1], [-1, -1]]
    np.testing.assert_allclose(choice_margin(logits, chosen), [2, -3, -3, np.nan])
    assert np.isnan(choice_margin([[1.0, 2.0], [1.0, -np.inf]], [[0, 1], [0, -1]])).all()


@pytest.mark.parametrize("level", ["token", "document"])
def test_means_are_those_of_loops_over_tokens(level):
    values, codes, documents = plant_values(1.0, level=level, num_documents=12)
    values[[3, 50]] = np.nan
    codes[5] = -1
    found = measure_label_means(values, codes, documents, level=level, num_labels=4, permutations=0)
    sums, counts = [0.0] * 4, [0] * 4
    for row, value in enumerate(values):
        code = codes[row] if level == "token" else codes[documents[row]]
        if code >= 0 and value == value:
            sums[code], counts[code] = sums[code] + value, counts[code] + 1
    np.testing.assert_allclose(found.value[:3], np.divide(sums[:3], counts[:3]))
    assert np.isnan(found.value[3])
    assert found.n_tokens == sum(counts)


@pytest.mark.parametrize("level", ["token", "document"])
def test_intervals_cover_and_differences_are_found(level):
    held = []
    for seed in range(600):
        found = measure_label_means(
            *plant_values(1.0, level=level, num_documents=100, seed=seed), level=level, num_labels=3, permutations=0
        )
        held.append((found.ci_low <= MEANS) & (found.ci_high >= MEANS))
    assert 0.92 <= np.mean(held) <= 0.98
    found = measure_label_means(*plant_values(1.0, level=level), level=level, num_labels=3, permutations=39)
    assert found.p_value[0] == found.p_value[2] == 1 / 40


@pytest.mark.parametrize("level", ["token", "document"])
def test_five_percent_of_null_data_sets_are_rejected(level):
    p_values = []
    for seed in range(700):
        planted = plant_values(0.0, level=level, num_documents=12, seed=seed)
        found = measure_label_means(*planted, level=level, num_labels=3, permutations=19, seed=seed + 10**6)
        p_values.append(found.p_value)
    assert 0.03 <= (np.array(p_values) <= 0.05).mean() <= 0.07


def test_wrong_arguments_raise():
    with pytest.raises(MeasurementError, match="expected values, codes and documents of one length"):
        measure_label_means([1.0, 2.0], [0], [0], level="document", num_labels=1)
    with pytest.raises(MeasurementError, match="expected labelled tokens with a value, got none"):
        measure_label_means([np.nan], [0], [0], level="document", num_labels=1)
