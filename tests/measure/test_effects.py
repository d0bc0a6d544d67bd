import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.errors import MeasurementError
from specialize.measure import count_effects, measure_effects, shift_labels

LABELS = 4
PARTS = ("effect", "exposure", "per_use", "indirect")
TRUTH = {  # of three labels
    "effect": [1.05, 0.85, 0.1],
    "exposure": [0.5, 0.25, 0.0],
    "per_use": [2.0, 3.1, np.nan],
    "indirect": [0.05, 0.075, 0.1],
}


def draw_arrays(seed, *, num_documents=9, level="token"):
    """Arrays without structure, with tokens that have no change, tokens without label, and a label that is unused."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(num_documents), rng.integers(1, 30, num_documents))
    change, used = rng.standard_t(3, len(documents)), rng.random(len(documents)) < 0.3
    change[rng.random(len(documents)) < 0.2] = np.nan
    codes = rng.integers(-1, 3, len(documents) if level == "token" else num_documents)
    if level == "token":
        used &= codes != 2
    codes[np.flatnonzero(codes < 0)[:1]] = 0
    return change, used, codes, documents


def plant_change(seed, *, num_documents=60, tokens=40):
    """A change of 2, 3.1 and 5 where the expert is used by tokens of three labels, 0.1 elsewhere, and noise."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(num_documents), tokens)
    codes = rng.choice(3, len(documents), p=[0.5, 0.3, 0.2])
    used = rng.random(len(documents)) < np.array([0.5, 0.25, 0.0])[codes]
    change = np.where(used, np.array([2.0, 3.1, 5.0])[codes], 0.1)
    own = rng.normal(size=num_documents)[documents]
    return change + 0.3 * own + rng.exponential(2, len(documents)) - 2, used, codes, documents


def expected_parts(change, used, codes, documents, *, level):
    """The definitions by group of a frame."""
    frame = pd.DataFrame({"change": change, "used": used})
    frame["label"] = codes if level == "token" else codes[documents]
    frame = frame[frame["change"].notna() & (frame["label"] >= 0)]
    grouped, users = frame.groupby("label"), frame[frame["used"]].groupby("label")
    return pd.DataFrame(
        {
            "effect": grouped["change"].mean(),
            "exposure": grouped["used"].mean(),
            "per_use": users["change"].mean(),
            "indirect": grouped.apply(lambda rows: rows.loc[~rows["used"], "change"].sum() / len(rows)),
        }
    ).reindex(range(LABELS))


@pytest.mark.parametrize("level", ["token", "document"])
@pytest.mark.parametrize("seed", range(4))
def test_parts_are_those_of_a_frame_of_tokens(level, seed):
    arrays = draw_arrays(seed, level=level)
    found = measure_effects(*arrays, level=level, num_labels=LABELS, permutations=0)
    expected = expected_parts(*arrays, level=level)
    for part in PARTS:
        np.testing.assert_allclose(getattr(found, part).value, expected[part], err_msg=part)
    labelled = arrays[2] if level == "token" else arrays[2][arrays[3]]
    assert found.effect.n_tokens == np.count_nonzero(np.isfinite(arrays[0]) & (labelled >= 0))


@pytest.mark.parametrize("level", ["token", "document"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_effect_is_the_sum_of_its_parts(level, seed):
    found = measure_effects(*draw_arrays(seed, level=level), level=level, num_labels=LABELS, permutations=0)
    used = found.exposure.value > 0
    direct = np.where(used, found.exposure.value * np.where(used, found.per_use.value, 0), 0)
    np.testing.assert_allclose(found.effect.value, direct + found.indirect.value, rtol=0, atol=1e-12)
    assert np.isnan(found.per_use.value[~used]).all()
    none = found.exposure.value == 0
    np.testing.assert_array_equal(found.effect.value[none], found.indirect.value[none])
    assert np.isnan([getattr(found, part).value[3] for part in PARTS]).all()


def test_planted_effects_are_found():
    found = measure_effects(*plant_change(0), level="token", num_labels=3, permutations=39, seed=1)
    for part, truth in TRUTH.items():
        estimate = getattr(found, part)
        known = np.isfinite(estimate.ci_low)
        assert (estimate.ci_low[known] <= np.array(truth)[known]).all(), part
        assert (estimate.ci_high[known] >= np.array(truth)[known]).all(), part
        np.testing.assert_allclose(estimate.value, truth, atol=0.25)
    assert found.effect.p_value[0] == found.effect.p_value[2] == 1 / 40
    assert found.exposure.p_value.tolist() == [1 / 40, found.exposure.p_value[1], 1 / 40]
    assert np.isnan(found.per_use.p_value[2])
    assert found.effect.unit == "bits"
    assert found.exposure.unit == "share of the label's tokens"


def test_intervals_cover_the_truth():
    """Also of heavy-tailed changes with effects of documents."""
    held = {part: [] for part in PARTS}
    for seed in range(200):
        found = measure_effects(*plant_change(seed), level="token", num_labels=3, permutations=0)
        for part, truth in TRUTH.items():
            estimate = getattr(found, part)
            known = np.isfinite(estimate.ci_low)
            held[part] += ((estimate.ci_low <= truth) & (estimate.ci_high >= truth))[known].tolist()
    for part, covered in held.items():
        assert 0.92 <= np.mean(covered) <= 0.98, part


@pytest.mark.parametrize("level", ["token", "document"])
def test_five_percent_of_null_data_sets_are_rejected(level):
    """Documents differ in their use, in the effect of a use and in their mixes of labels, which come in runs."""
    p_values = {part: [] for part in PARTS}
    for seed in range(400):
        rng = np.random.default_rng(seed)
        size = (16, 24)
        used = rng.random(size) < rng.beta(2, 4, (16, 1))
        change = used * rng.gamma(2, 0.5, (16, 1)) + rng.normal(size=(16, 1)) / 2 + rng.lognormal(0, 1, size)
        mixes = rng.dirichlet([4, 3, 2], size=16)
        codes = np.array([rng.choice(3, 8 if level == "token" else 1, p=mix) for mix in mixes])
        codes = codes.repeat(3, axis=1).ravel() if level == "token" else codes[:, 0]
        found = measure_effects(
            change.ravel(), used.ravel(), codes, np.repeat(np.arange(16), 24),
            level=level, num_labels=3, permutations=19, seed=seed + 10**6,
        )  # fmt: skip
        for part in PARTS:
            p_values[part].append(getattr(found, part).p_value)
    for part, found in p_values.items():
        known = np.array(found)[np.isfinite(found)]
        assert 0.03 <= (known <= 0.05).mean() <= 0.07, part


def test_conditions_with_one_seed_have_the_same_permutations():
    change, used, codes, documents = plant_change(0)
    how = {"level": "token", "num_labels": 3, "permutations": 19, "seed": 5}
    one, other = (measure_effects(factor * change, used, codes, documents, **how).effect for factor in (1, -2))
    np.testing.assert_allclose(other.null_mean, -2 * one.null_mean)
    np.testing.assert_allclose(other.p_value, one.p_value)


def test_intervals_of_few_tokens_carry_a_warning():
    """Fewer than 100 tokens, or tokens nearly all of which are in one document; label 2 has no uses at all."""
    change, used, codes, documents = plant_change(0, num_documents=20)
    how = {"level": "token", "num_labels": 3, "permutations": 0}
    found = measure_effects(change, used, codes, documents, **how)
    uses = np.bincount(codes[used & np.isfinite(change)], minlength=3)
    assert (uses < 100).tolist() == [False, True, True]
    warned = [kind is not None and "undercovers: below 100 tokens" in kind for kind in found.per_use.ci_kind]
    assert warned == [False, True, False]
    assert not any("undercovers" in kind for kind in found.effect.ci_kind)
    long = np.repeat(change, np.where(documents == 3, 50, 1))  # most tokens are in one document
    rows = np.repeat(np.arange(len(change)), np.where(documents == 3, 50, 1))
    found = measure_effects(long, used[rows], codes[rows], documents[rows], **how)
    assert all("undercovers" in kind for kind in found.effect.ci_kind)
    assert not any("undercovers" in str(kind) for kind in found.exposure.ci_kind)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_and_names_of_documents_and_labels_do_not_matter(seed):
    change, used, codes, documents = draw_arrays(seed)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(9), rng.permutation(LABELS)
    rows = np.concatenate([np.flatnonzero(documents == document) for document in order])
    moved = np.repeat(np.arange(9), np.bincount(documents)[order])
    renamed = np.where(codes >= 0, names[codes], -1)
    how = {"level": "token", "num_labels": LABELS, "permutations": 0}
    found = measure_effects(change, used, codes, documents, groups=np.arange(9), **how)
    again = measure_effects(change[rows], used[rows], renamed[rows], moved, groups=order, **how)
    for part in PARTS:
        one, other = getattr(found, part), getattr(again, part)
        for name in ("value", "ci_low", "ci_high"):
            np.testing.assert_allclose(getattr(other, name)[names], getattr(one, name), rtol=1e-6, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_copies_of_documents_that_are_marked_change_nothing(seed):
    change, used, codes, documents = draw_arrays(seed)
    how = {"level": "token", "num_labels": LABELS, "permutations": 0}
    found = measure_effects(change, used, codes, documents, **how)
    twice = [np.concatenate([each, each]) for each in (change, used, codes)]
    copied = measure_effects(*twice, np.concatenate([documents, documents + 9]), groups=np.tile(range(9), 2), **how)
    for part in PARTS:
        np.testing.assert_allclose(getattr(copied, part).value, getattr(found, part).value, atol=1e-12)
        np.testing.assert_allclose(getattr(copied, part).ci_low, getattr(found, part).ci_low, rtol=1e-6, atol=1e-9)


def test_sums_by_block_are_those_of_loops():
    change, used, codes, documents = draw_arrays(5)
    blocks = documents % 3
    expected = np.zeros((3, LABELS, 4))
    for row, value in enumerate(change):
        if value == value and codes[row] >= 0:
            cell = expected[blocks[row], codes[row]]
            cell += [value, 0, 1, 1] if used[row] else [0, value, 0, 1]
    found = count_effects(change, used, codes, blocks=blocks, num_labels=LABELS, num_blocks=3)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_half_precision_is_added_up_in_double_precision():
    change = np.full(5000, 1.001, dtype=np.float16)
    found = measure_effects(
        change, np.ones(5000, dtype=bool), np.zeros(5000, int), np.arange(5000) // 50,
        level="token", num_labels=1, permutations=0,
    )  # fmt: skip
    np.testing.assert_allclose(found.effect.value, float(change[0]), rtol=1e-12)


def test_labels_of_the_predicted_token():
    codes, documents = [5, 6, -1, 7, 8, 9], [0, 0, 0, 1, 1, 2]
    assert shift_labels(codes, documents).tolist() == [6, -1, -1, 8, -1, -1]
    assert shift_labels(codes, documents, sequences=[0, 0, 1, 2, 3, 4]).tolist() == [6, -1, -1, -1, -1, -1]
    assert shift_labels([], []).tolist() == []
    with pytest.raises(MeasurementError, match="expected a code for each of 2 tokens, got 3 codes"):
        shift_labels([0, 1, 2], [0, 0])


def test_wrong_arguments_raise():
    how = {"level": "token", "num_labels": 1}
    with pytest.raises(MeasurementError, match=r"expected change \[tokens\] and used, bool \[tokens\]"):
        measure_effects([1.0, 2.0], [1, 0], [0, 0], [0, 0], **how)
    with pytest.raises(MeasurementError, match="expected values, codes and documents of one length"):
        measure_effects([1.0, 2.0], [True, False], [0], [0, 0], **how)
    with pytest.raises(MeasurementError, match="expected labelled tokens with a value, got none"):
        measure_effects([np.nan], [True], [0], [0], **how)
    with pytest.raises(MeasurementError, match="expected change, codes and blocks of one length"):
        count_effects([1.0, 2.0], [True, False], [0], blocks=[0, 0], num_labels=1, num_blocks=1)
    with pytest.raises(MeasurementError, match="every token needs a block"):
        count_effects([1.0], [True], [0], blocks=[-1], num_labels=1, num_blocks=1)
