from dataclasses import replace
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t
from sklearn.metrics import mutual_info_score

from planted.words import information_of, plant_topic_words, plant_word_noise, plant_words
from specialize.errors import MeasurementError
from specialize.measure import assign_blocks, measure_conditional_information, p_values, spread_mass
from specialize.measure.estimators import ambiguous
from specialize.measure.estimators.conditional import find_ambiguous
from specialize.measure.estimators.type_runs import sort_tokens

RNG = np.random.default_rng(5)
WORDS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
LABELS = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.3, 0.7], [0.4, 0.2, 0.4], [0.5, 0.0, 0.5]])
OF_WORD = RNG.dirichlet(np.full(4, 0.4), size=5)
LEXICAL = np.repeat(OF_WORD[:, None], 3, axis=1)
CONTEXTUAL = 0.6 * LEXICAL + 0.4 * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0.5]])


def measure(planted, **options):
    return measure_conditional_information(
        *planted.arrays, **{"level": "token", "permutations": 39, **planted.sizes, **options}
    )


def scattered(seed=0, tokens=600, slots=2):
    """Arrays with everything that can be missing: labels, words, slots, whole tokens."""
    rng = np.random.default_rng(seed)
    experts = rng.permuted(np.tile(np.arange(5), (tokens, 1)), axis=1)[:, :slots]
    experts[rng.random(experts.shape) < 0.1] = -1
    return (
        rng.integers(-1, 3, tokens),
        rng.integers(-1, 25, tokens),
        experts,
        np.sort(rng.integers(0, 30, tokens)),
        rng.random(experts.shape),
    )


def by_hand(codes, words, experts, documents, weights, rule, *, num_blocks=7, min_count=10):
    """Values and intervals of the three information measures from one dense table per block."""
    chosen, masses = spread_mass(experts, weights, rule=rule)
    masses = np.broadcast_to(masses, chosen.shape)
    counts = {word: np.sum((words == word) & (codes >= 0)) for word in range(25)}
    kept = [
        token
        for token in range(len(codes))
        if codes[token] >= 0 and words[token] >= 0 and counts[words[token]] >= min_count
        and len(set(codes[(words == words[token]) & (codes >= 0)])) > 1
    ]  # fmt: skip
    present = np.unique(documents[kept])
    block_of = dict(zip(present.tolist(), assign_blocks(present, num_blocks=num_blocks).tolist(), strict=True))
    tables = np.zeros((max(block_of.values()) + 1, 25, 3, 5))
    for token in kept:
        for expert, mass in zip(chosen[token], masses[token], strict=True):
            if expert >= 0:
                tables[block_of[documents[token]], words[token], codes[token], expert] += mass
    every = np.array([information_of(t / t.sum()) for t in [*(tables.sum(axis=0) - tables), tables.sum(axis=0)]])
    blocks = len(tables)
    value = blocks * every[-1] - (blocks - 1) * every[:-1].mean(axis=0)
    error = np.sqrt((blocks - 1) / blocks * ((every[:-1] - every[:-1].mean(axis=0)) ** 2).sum(axis=0))
    return value, student_t.ppf(0.975, blocks - 1) * error


@pytest.mark.parametrize("size", [12, 2**18])
@pytest.mark.parametrize("rule", ["selection", "gate", "first"])
def test_values_and_intervals_are_those_of_dense_tables(rule, size, monkeypatch):
    monkeypatch.setattr(ambiguous, "PART_TOKENS", size)
    codes, words, experts, documents, weights = scattered()
    measured = measure_conditional_information(
        codes, words, experts, documents, level="token", num_labels=3, num_experts=5, rule=rule, weights=weights,
        num_blocks=7, permutations=0,
    )  # fmt: skip
    value, reach = by_hand(codes, words, experts, documents, weights, rule)
    three = (measured.conditional_information, measured.mutual_information, measured.word_information)
    np.testing.assert_allclose([each.value for each in three], value, atol=1e-10)
    np.testing.assert_allclose([each.ci_low for each in three], value - reach, atol=1e-10)
    np.testing.assert_allclose([each.ci_high for each in three], value + reach, atol=1e-10)
    assert np.isnan(measured.conditional_information.p_value)


def test_it_is_the_mean_of_scikit_learns_information_within_words():
    planted = plant_words(WORDS, LABELS, CONTEXTUAL, num_documents=20, tokens_per_document=50)
    plain = measure(planted, num_blocks=1, permutations=0).conditional_information
    expected = 0.0
    for word in range(5):
        own = planted.words == word
        expected += own.mean() * mutual_info_score(planted.codes[own], planted.experts[own, 0]) / np.log(2)
    assert plain.value == pytest.approx(expected, abs=1e-10)
    assert np.isnan(plain.ci_low)
    assert plain.ci_kind is None


def test_a_lexical_router_has_no_information_beyond_the_word():
    planted = plant_words(WORDS, LABELS, LEXICAL, num_documents=150, tokens_per_document=60, seed=3)
    assert planted.conditional == pytest.approx(0, abs=1e-12)
    measured = measure(planted, permutations=99)
    alone, beyond = measured.mutual_information, measured.conditional_information
    assert alone.ci_low > 0.1
    assert alone.p_value == pytest.approx(1 / 100)
    assert alone.ci_low < planted.marginal < alone.ci_high
    assert beyond.p_value > 0.05
    assert beyond.null_low < beyond.value < beyond.null_high
    assert beyond.ci_low < 0 < beyond.ci_high
    assert measured.word_information.ci_low < planted.lexical < measured.word_information.ci_high
    assert measured.num_types == 5


def test_a_lexical_router_has_none_in_documents_that_differ():
    planted = plant_word_noise(num_documents=200, tokens_per_document=60, seed=4)
    measured = measure(planted, permutations=99)
    assert measured.mutual_information.ci_low > 0
    assert measured.conditional_information.p_value > 0.05
    assert measured.conditional_information.null_mean < 0.002


@pytest.mark.parametrize("concentration", [np.inf, 20.0])
def test_a_contextual_router_is_above_both_nulls(concentration):
    planted = plant_words(
        WORDS, LABELS, CONTEXTUAL, num_documents=150, tokens_per_document=60, concentration=concentration, seed=3
    )
    measured = measure(planted, permutations=99)
    for estimate, truth in (
        (measured.conditional_information, planted.conditional),
        (measured.mutual_information, planted.marginal),
        (measured.word_information, planted.lexical),
    ):
        assert estimate.ci_low < truth < estimate.ci_high
        assert estimate.unit == "bits"
    for estimate in (measured.conditional_information, measured.mutual_information):
        assert estimate.p_value == pytest.approx(1 / 100)
        assert estimate.value > estimate.null_high


def test_intervals_cover_the_planted_truth():
    covered = []
    for seed in range(200):
        planted = plant_words(
            WORDS, LABELS, CONTEXTUAL, num_documents=60, tokens_per_document=40, concentration=15, seed=seed
        )
        beyond = measure(planted, permutations=0).conditional_information
        covered.append(beyond.ci_low < planted.conditional < beyond.ci_high)
    assert 0.90 <= np.mean(covered) <= 0.99


@pytest.fixture
def one_thread():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def rejections(plant, level, count, *, permutations=39):
    found = []
    for seed in range(count):
        planted = plant(seed)
        found.append(
            measure(
                planted, level=level, permutations=permutations, num_blocks=10, seed=seed
            ).conditional_information.p_value
        )
    return np.array(found)


@pytest.mark.parametrize("shared", [False, True])
def test_p_values_are_uniform_though_documents_differ_on_both_sides(one_thread, shared):
    found = rejections(
        lambda seed: plant_word_noise(num_documents=20, tokens_per_document=60, shared=shared, seed=seed), "token", 500
    )
    assert 0.03 <= (found <= 0.05).mean() <= 0.07
    assert 0.44 <= (found <= 0.5).mean() <= 0.56


def test_p_values_of_topics_are_uniform_when_routing_follows_words(one_thread):
    found = rejections(
        lambda seed: plant_topic_words(num_documents=40, tokens_per_document=30, seed=seed), "document", 500
    )
    assert 0.02 <= (found <= 0.05).mean() <= 0.07
    assert 0.43 <= (found <= 0.5).mean() <= 0.57


def test_topics_of_documents_that_go_to_one_expert_are_not_rejected_too_often(one_thread):
    """All words of a document share its topic and its expert, so that what they tell is not independent.

    Topics have words of their own here, for which the test is cautious.
    """

    def plant(seed):
        planted = plant_topic_words(num_documents=80, tokens_per_document=20, seed=seed)
        chosen = np.random.default_rng(10_000 + seed).integers(0, 6, 80)
        return replace(planted, experts=chosen[planted.documents][:, None].astype(np.int16))

    found = rejections(plant, "document", 300)
    assert (found <= 0.05).mean() <= 0.05
    assert 0.3 <= (found <= 0.5).mean() <= 0.57


def test_free_permutation_within_a_word_rejects_too_often():
    found = []
    for seed in range(60):
        planted = plant_word_noise(num_documents=20, tokens_per_document=120, shared=True, seed=seed)
        tokens = runs_of(planted)
        rng = np.random.default_rng(seed)
        shuffled = np.stack(
            [
                np.concatenate([rng.permutation(tokens.labels.codes[a:b]) for a, b in pairwise(tokens.labels.starts)])
                for _ in range(39)
            ]
        )
        of_labels = tokens.expert_entropy(np.vstack([tokens.labels.codes, shuffled]).astype(np.int32), 3, 6)[:, -1]
        found.append(p_values(-of_labels[0], -of_labels[1:]))
    assert np.mean(np.array(found) <= 0.05) > 0.15


def runs_of(planted):
    return sort_tokens(
        planted.codes,
        planted.documents,
        planted.words,
        experts=planted.experts,
        masses=np.ones((len(planted.codes), 1)),
        blocks=np.arange(planted.documents[-1] + 1, dtype=np.int32),
        unit=1.0,
    )


def test_exchange_moves_whole_documents_and_keeps_each_words_labels():
    planted = plant_word_noise(num_documents=30, tokens_per_document=40, seed=1)
    tokens = runs_of(planted)
    ((_, drawn),) = tokens.labels.exchange(permutations=20, seed=0)
    cells = list(pairwise(tokens.labels.cells))
    word_of = np.searchsorted(tokens.labels.starts, tokens.labels.cells[:-1], side="right")
    moved = 0
    for codes in drawn:
        for a, b in pairwise(tokens.labels.starts):
            np.testing.assert_array_equal(np.sort(codes[a:b]), np.sort(tokens.labels.codes[a:b]))
        for place, (a, b) in enumerate(cells):
            donors = [
                tokens.labels.codes[c:d]
                for other, (c, d) in enumerate(cells)
                if word_of[other] == word_of[place] and d - c == b - a
            ]
            assert any(
                np.array_equal(np.roll(labels, -shift), codes[a:b]) for labels in donors for shift in range(b - a)
            )
        moved += np.mean(codes != tokens.labels.codes)
    assert moved / 20 > 0.2


@pytest.mark.parametrize("level", ["token", "document"])
def test_types_whose_tokens_are_not_in_memory_together(level, monkeypatch):
    plant = plant_word_noise if level == "token" else plant_topic_words
    planted = plant(num_documents=30, tokens_per_document=40, seed=3)
    whole = measure(planted, level=level)
    monkeypatch.setattr(ambiguous, "PART_TOKENS", 40)
    assert repr(measure(planted, level=level)) == repr(whole)  # NaN is not equal to itself


def test_draws_depend_on_the_seed_alone(one_thread):
    planted = plant_word_noise(num_documents=30, tokens_per_document=40)
    first = measure(planted, seed=1)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    again = measure(planted, seed=1)
    assert again.conditional_information == first.conditional_information
    assert again.mutual_information == first.mutual_information
    assert measure(planted, seed=2).conditional_information.null_mean != first.conditional_information.null_mean


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_renaming_changes_nothing(seed):
    codes, words, experts, documents, _ = scattered(seed)
    rng = np.random.default_rng(seed)
    label_names, word_names, names = rng.permutation(3), rng.permutation(25), rng.permutation(5)
    options = {"level": "token", "num_labels": 3, "num_experts": 5, "permutations": 0}
    one = measure_conditional_information(codes, words, experts, documents, **options)
    other = measure_conditional_information(
        np.where(codes < 0, -1, label_names[codes]), np.where(words < 0, -1, word_names[words]),
        np.where(experts < 0, -1, names[experts]), documents, **options,
    )  # fmt: skip
    for name in ("conditional_information", "mutual_information", "word_information"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value, abs=1e-10)
    assert one.num_types == other.num_types


def test_chain_rule():
    """I(E;W) + I(E;Y|W) = I(E;W,Y), measured with one type for each pair of word and label."""
    codes, words, experts, documents, _ = scattered(4)
    options = {"level": "token", "num_labels": 3, "num_experts": 5, "permutations": 0, "num_blocks": 1}
    one = measure_conditional_information(codes, words, experts, documents, **options)
    kept = find_ambiguous(words, codes)
    pairs = np.where(kept, 3 * words + codes, -1)
    chosen, masses = spread_mass(experts)
    joint = np.zeros((75, 1, 5))
    for token in np.flatnonzero(kept):
        for expert in chosen[token]:
            if expert >= 0:
                joint[pairs[token], 0, expert] += masses[token, 0]
    together = information_of(joint / joint.sum())[2]
    assert one.word_information.value + one.conditional_information.value == pytest.approx(together, abs=1e-10)


def test_documents_that_carry_the_label():
    planted = plant_topic_words(num_documents=200, tokens_per_document=40, contextual=1.0, seed=2)
    measured = measure(planted, level="document", permutations=99)
    assert measured.conditional_information.p_value == pytest.approx(1 / 100)
    lexical = plant_topic_words(num_documents=200, tokens_per_document=40, effect=0.0, seed=2)
    measured = measure(lexical, level="document", permutations=99)
    assert measured.mutual_information.p_value == pytest.approx(1 / 100)
    assert measured.conditional_information.p_value > 0.05
    tokens = measure(lexical, permutations=0, level="document").conditional_information
    spread = measure_conditional_information(
        lexical.codes[lexical.documents], *lexical.arrays[1:], level="token", permutations=0, **lexical.sizes
    )
    assert (spread.conditional_information.value, spread.conditional_information.ci_low) == (
        tokens.value,
        tokens.ci_low,
    )


def test_which_tokens_are_of_ambiguous_words():
    words = np.array([7, 7, 7, 8, 8, 8, -1, 9, 9])
    codes = np.array([0, 1, -1, 0, 0, 0, 1, 1, 0])
    assert find_ambiguous(words, codes, min_count=2).tolist() == [True, True, *[False] * 5, True, True]
    assert not find_ambiguous(words, codes, min_count=3).any()
    assert not find_ambiguous(words, np.full(9, -1)).any()


def test_misfits_are_named():
    codes, words, experts, documents, _ = scattered()
    options = {"level": "token", "num_labels": 3, "num_experts": 5}
    with pytest.raises(MeasurementError, match="of one length, got 600, 599, 600 and 600"):
        measure_conditional_information(codes, words[1:], experts, documents, **options)
    with pytest.raises(MeasurementError, match="type with 1000 occurrences and 2 labels, got none"):
        measure_conditional_information(codes, words, experts, documents, min_count=1000, **options)
    with pytest.raises(MeasurementError, match="codes must be below 2"):
        measure_conditional_information(codes, words, experts, documents, **{**options, "num_labels": 2})
    with pytest.raises(MeasurementError, match="level: expected one of token, document, got 'word'"):
        measure_conditional_information(codes, words, experts, documents, **{**options, "level": "word"})
    with pytest.raises(MeasurementError, match="non-decreasing numbers from 0"):
        measure_conditional_information(codes, words, experts, documents[::-1], **options)


def test_sparse_tables_carry_a_warning():
    """Two types of two labels and three experts have 2 x 1 x 2 = 4 degrees of freedom."""
    for tokens, warned in ((16, True), (20, False)):
        words, codes = np.repeat([0, 1], tokens // 2), np.tile([0, 1], tokens // 2)
        experts = np.resize([0, 1, 2, 2], tokens)[:, None]
        found = measure_conditional_information(
            codes, words, experts, np.arange(tokens), level="token", num_labels=2, num_experts=5, min_count=1,
            permutations=0,
        ).conditional_information  # fmt: skip
        assert ("biased: below 5 tokens for each degree of freedom" in found.ci_kind) == warned
