"""Measures against independent implementations, and invariants."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from specialize.measure import (
    count_blocks,
    label_entropy,
    load,
    load_entropy,
    measure_cache,
    measure_committee,
    measure_label_overlap,
    measure_layer,
    measure_same_token,
    measure_signatures,
    mutual_information,
    specific_information,
    uncertainty_coefficient,
)

SHAPES = [(2, 2), (2, 8), (17, 8), (17, 64), (5, 256)]
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=30, deadline=None)


def draw_table(shape, seed, most=40):
    return np.random.default_rng(seed).integers(0, most, shape) + np.eye(*shape, dtype=int)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_tables_as_scikit_learn_and_scipy_have_them(shape, seed):
    table = draw_table(shape, seed)
    nats = mutual_info_score(None, None, contingency=table)
    assert mutual_information(table) == pytest.approx(nats / np.log(2), abs=1e-10)
    # the likelihood-ratio statistic is 2 N I in nats
    statistic = scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    assert mutual_information(table) == pytest.approx(statistic / (2 * table.sum() * np.log(2)), abs=1e-10)
    labels, experts = table.sum(axis=1), table.sum(axis=0)
    assert label_entropy(table) == pytest.approx(scipy.stats.entropy(labels, base=2), abs=1e-10)
    assert load_entropy(table) == pytest.approx(scipy.stats.entropy(experts, base=2), abs=1e-10)
    joint = scipy.stats.entropy(table.ravel(), base=2)
    assert mutual_information(table) == pytest.approx(label_entropy(table) + load_entropy(table) - joint, abs=1e-10)
    assert uncertainty_coefficient(table) == pytest.approx(nats / scipy.stats.entropy(labels), abs=1e-10)


@given(seeds, st.floats(1e-3, 1e-2))
@few
def test_weak_association_is_the_squared_contingency(seed, strength):
    """Near independence the information is half the mean square contingency, in nats (Cramér)."""
    rng = np.random.default_rng(seed)
    shares, loads = rng.dirichlet(np.full(4, 20)), rng.dirichlet(np.full(6, 20))
    tilt = rng.uniform(-1, 1, (4, 6))
    joint = np.outer(shares, loads) * (1 + strength * tilt)
    table = np.rint(joint / joint.sum() * 10**12).astype(np.int64)
    cramer = association(table, method="cramer", correction=False)
    in_bits = cramer**2 * 3 / 2 / np.log(2)
    assert mutual_information(table) == pytest.approx(in_bits, rel=5 * strength, abs=1e-10)


@given(seeds, st.integers(1, 4), st.integers(2, 5), st.integers(4, 7))
@few
def test_counting_as_scikit_learn_counts_tokens(seed, top_k, labels, experts):
    """With k slots each slot is a token of weight 1/k: the table of all slots, divided by k."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, labels, 60)
    chosen = rng.random((60, experts)).argsort(axis=1)[:, :top_k]
    blocks = count_blocks(
        codes, chosen, blocks=np.arange(60) // 20, num_labels=labels, num_experts=experts, num_blocks=3
    )
    nats = mutual_info_score(np.repeat(codes, top_k), chosen.ravel())
    assert mutual_information(blocks.sum(axis=0)) == pytest.approx(nats / np.log(2), abs=1e-10)


def measure(codes, experts, **options):
    documents = np.arange(len(codes)) // 20
    return measure_layer(
        codes, experts, documents, level="token", num_labels=5, num_experts=7, permutations=9, **options
    )


@given(seeds)
@few
def test_renaming_changes_no_estimate(seed):
    rng = np.random.default_rng(seed)
    codes, experts = rng.integers(0, 5, 200), rng.integers(0, 7, (200, 1))
    of_label, of_expert = rng.permutation(5), rng.permutation(7)
    before, after = measure(codes, experts), measure(of_label[codes], of_expert[experts])
    for name in ("mutual_information", "uncertainty_coefficient", "label_entropy", "load_entropy"):
        for part in ("value", "ci_low", "ci_high", "null_mean", "p_value"):
            old, new = getattr(getattr(before, name), part), getattr(getattr(after, name), part)
            assert new == pytest.approx(old, abs=1e-10, nan_ok=True)
    np.testing.assert_allclose(after.load.value[of_expert], before.load.value, atol=1e-10)
    moved = after.specific_information
    np.testing.assert_allclose(moved.value[of_expert], before.specific_information.value, atol=1e-10)
    np.testing.assert_allclose(moved.p_value[of_expert], before.specific_information.p_value)
    np.testing.assert_allclose(after.lift.value[of_label][:, of_expert], before.lift.value, atol=1e-10)


@given(seeds, st.permutations(range(17)))
@few
def test_merging_labels_or_experts_never_adds_information(seed, order):
    table = draw_table((17, 17), seed).astype(float)
    kept, merged = order[:2]
    fewer = table.copy()
    fewer[kept] += fewer[merged]
    fewer[merged] = 0
    assert mutual_information(fewer) <= mutual_information(table) + 1e-10
    assert mutual_information(fewer.T) <= mutual_information(table.T) + 1e-10


@given(seeds, st.sampled_from(SHAPES))
@few
def test_specific_informations_weighted_by_load_are_the_information(seed, shape):
    table = draw_table(shape, seed, most=4)
    parts = load(table) * specific_information(table)
    assert np.nansum(parts) == pytest.approx(mutual_information(table), abs=1e-10)
    assert (parts[np.isfinite(parts)] >= 0).all()


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_renaming_experts_changes_no_prediction_and_no_usage(seed):
    """Neither what predicts experts nor how labels use them depends on how experts are numbered."""
    rng = np.random.default_rng(seed)
    documents, of_expert = np.repeat(np.arange(20), 10), rng.permutation(6)
    experts = rng.random((200, 6)).argsort(axis=1)[:, :2].astype(np.int16)
    usage, codes, words = rng.dirichlet(np.ones(6), 20), rng.integers(0, 3, 20), rng.integers(0, 9, 200)
    renamed, moved = of_expert[experts], np.empty_like(usage)
    moved[:, of_expert] = usage
    how = {"num_labels": 3, "permutations": 9}

    sizes = []

    def measure_all(experts, usage):
        cached = measure_cache(experts, documents, num_experts=6, capacity=3, permutations=9)
        committee = measure_committee(usage, codes, **how)
        # the size is exact; under the null it is found in an order in which equal experts can stand otherwise
        sizes.append(committee.common_size.value)
        return [
            cached.recent, cached.segments, measure_same_token(words, experts, documents, num_experts=6).same,
            committee.sizes, measure_signatures(usage, codes, **how).difference,
            measure_label_overlap(usage, codes, **how),
        ]  # fmt: skip

    for before, after in zip(measure_all(experts, usage), measure_all(renamed, moved), strict=True):
        for part in ("value", "ci_low", "null_mean", "p_value"):
            np.testing.assert_allclose(getattr(after, part), getattr(before, part), atol=1e-9)
    assert sizes[0] == sizes[1]
