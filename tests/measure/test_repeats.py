import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planted import plant_noise
from planted.streams import SetDistribution, plant_sets
from specialize.errors import MeasurementError
from specialize.measure import measure_repeats
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.repeats import count_repeats, find_runs, repeat_shares

SETS = SetDistribution(
    np.array([[0, 1], [1, 0], [2, 0], [3, 2], [1, 3], [4, 5]], dtype=np.int16),
    np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1]),
    6,
)


def assert_same(one, two):
    """Equal to the last bit, NaN for NaN."""
    for name in vars(one):
        np.testing.assert_equal(vars(getattr(one, name)), vars(getattr(two, name)))


def shares_by_loop(experts, runs):
    """Same first expert, any expert shared: pair by pair."""
    first, shared = [], []
    for one, two in zip(range(len(experts) - 1), range(1, len(experts)), strict=True):
        left, right = (set(experts[row].tolist()) - {-1} for row in (one, two))
        if runs[one] == runs[two]:
            if experts[one, 0] >= 0 and experts[two, 0] >= 0:
                first.append(experts[one, 0] == experts[two, 0])
            if left and right:
                shared.append(bool(left & right))
    return [np.mean(each) if each else np.nan for each in (first, shared)]


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_shares_are_what_a_loop_finds(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    num_experts = data.draw(st.sampled_from([3, 64, 65, 200]))
    tokens = data.draw(st.integers(1, 60))
    experts = np.stack([rng.choice(num_experts, 3, replace=False) for _ in range(tokens)])
    experts[rng.random(experts.shape) < 0.2] = -1
    documents = np.sort(rng.integers(0, 4, tokens))
    (got,) = measure_repeats(experts, documents, num_experts=num_experts, permutations=3, num_blocks=4)
    np.testing.assert_allclose([got.first.value, got.shared.value], shares_by_loop(experts, documents), atol=1e-12)
    names = rng.permutation(num_experts)
    (renamed,) = measure_repeats(
        np.where(experts >= 0, names[experts], -1), documents, num_experts=num_experts, permutations=3, num_blocks=4
    )
    for one, two in [(got.first, renamed.first), (got.shared, renamed.shared)]:
        np.testing.assert_equal(vars(one), vars(two))
    np.testing.assert_allclose(got.shared_chance.value, renamed.shared_chance.value, atol=1e-9)


def test_runs_end_with_documents_sequences_and_gaps():
    assert find_runs([0, 0, 0, 2, 2]).starts.tolist() == [0, 3, 5]
    assert find_runs([0, 0, 0, 2, 2]).documents.tolist() == [0, 2]
    assert find_runs([0, 0, 0, 2, 2], [0, 1, 1, 2, 2]).starts.tolist() == [0, 1, 3, 5]
    assert find_runs([0, 0, 0, 2, 2], [0, 0, 0, 1, 1], [1, 2, 4, 0, 1]).starts.tolist() == [0, 2, 3, 5]
    experts = np.zeros((5, 1), dtype=np.int16)
    layer = LayerInput.of(experts, [0, 0, 0, 2, 2], num_experts=2, positions=np.array([1, 2, 4, 0, 1]))
    counts = count_repeats(layer, np.array([0, -1, 1], dtype=np.int32))
    assert counts[:, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]


def test_even_routing_repeats_as_mixtrals_chance_says():
    rng = np.random.default_rng(0)
    experts = rng.random((200_000, 8)).argsort(axis=1)[:, :2]
    documents = np.repeat(np.arange(400), 500)
    (got,) = measure_repeats(experts, documents, num_experts=8, permutations=40)
    for estimate, chance in [(got.first, 0.125), (got.shared, 13 / 28)]:
        assert estimate.value == pytest.approx(chance, abs=0.005)
        assert estimate.null_mean == pytest.approx(chance, abs=0.002)
        assert estimate.p_value > 0.02
    assert got.first_chance.value == pytest.approx(0.125, abs=1e-4)
    assert got.shared_chance.value == pytest.approx(13 / 28, abs=1e-4)


@pytest.mark.parametrize("persistence", [0.0, 0.3])
def test_planted_repeats_are_recovered(persistence):
    experts, documents = plant_sets(SETS, num_documents=300, tokens_per_document=60, persistence=persistence)
    (got,) = measure_repeats(experts, documents, num_experts=6, permutations=49)
    for estimate, chance in [(got.first, SETS.first_repeat), (got.shared, SETS.any_repeat)]:
        assert estimate.ci_low < persistence + (1 - persistence) * chance < estimate.ci_high
        if persistence:
            assert estimate.p_value == pytest.approx(1 / 50)
            assert estimate.null_high < estimate.value
    assert got.first_chance.ci_low < SETS.first_repeat < got.first_chance.ci_high
    assert (got.first.n_tokens, got.first.n_documents) == (18_000, 300)


def test_documents_of_their_own_mix_are_no_repeats():
    experts, documents = plant_sets(SETS, num_documents=300, tokens_per_document=40, concentration=2, seed=1)
    (got,) = measure_repeats(experts, documents, num_experts=6, permutations=99)
    assert got.first.value > got.first_chance.ci_high + 0.05  # the load alone would call this repetition
    assert got.first.null_low < got.first.value < got.first.null_high


def test_p_values_are_uniform_when_order_means_nothing():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    p_values = []
    for seed in range(1000):
        planted = plant_noise(
            np.ones(1), np.full(4, 0.25), num_documents=8, tokens_per_document=25, concentration=2, persistence=0,
            seed=seed,
        )  # fmt: skip
        (got,) = measure_repeats(planted.experts, planted.documents, num_experts=4, permutations=39, seed=seed)
        p_values.append(got.first.p_value)
    numba.set_num_threads(before)
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07
    assert 0.45 <= np.mean(np.array(p_values) <= 0.5) <= 0.57


def test_sequences_routed_as_a_whole():
    rng = np.random.default_rng(0)
    sequences = np.repeat(np.arange(400), 20)
    documents = sequences // 4
    experts = rng.integers(0, 4, 400)[sequences][:, None]
    (got,) = measure_repeats(experts, documents, num_experts=4, sequences=sequences, permutations=19)
    assert (got.first.value, got.first.null_mean, got.first.p_value) == (1.0, 1.0, 1.0)
    assert got.first_chance.value == pytest.approx(0.25, abs=0.02)


def test_groups_are_measured_as_if_alone():
    experts, documents = plant_sets(SETS, num_documents=60, tokens_per_document=20, persistence=0.4, seed=2)
    groups = [np.ones(60, bool), np.arange(60) % 3 == 0, np.arange(60) < 10, np.zeros(60, bool)]
    whole, third, start, nothing = measure_repeats(experts, documents, num_experts=6, subsets=groups, permutations=29)
    assert_same(whole, measure_repeats(experts, documents, num_experts=6, permutations=29)[0])
    own = np.isin(documents, np.flatnonzero(groups[1]))
    (alone,) = measure_repeats(experts[own], documents[own], num_experts=6, permutations=29)
    for name in ("value", "ci_low", "ci_high", "n_tokens", "n_documents"):
        assert getattr(third.shared, name) == getattr(alone.shared, name)
    assert third.shared_chance.ci_low == alone.shared_chance.ci_low
    assert start.first.n_documents == 10
    assert np.isnan(nothing.first.value)
    assert nothing.first.n_tokens == 0


def test_the_same_seed_gives_the_same_draws_on_any_number_of_threads():
    experts, documents = plant_sets(SETS, num_documents=30, tokens_per_document=20)
    measured = []
    before = numba.get_num_threads()
    for threads in {1, before}:
        numba.set_num_threads(threads)
        measured.append(measure_repeats(experts, documents, num_experts=6, permutations=20, seed=3)[0])
    for each in measured:
        assert_same(each, measured[0])
    (other,) = measure_repeats(experts, documents, num_experts=6, permutations=20, seed=4)
    assert other.first.null_mean != measured[0].first.null_mean


def test_pseudo_counts_sum_to_the_whole():
    experts, documents = plant_sets(SETS, num_documents=30, tokens_per_document=20)
    layer = LayerInput.of(experts, documents, num_experts=6)
    counts = count_repeats(layer, np.arange(30, dtype=np.int32) // 3)
    assert counts.shape == (10, 1, 4)
    np.testing.assert_allclose(repeat_shares(counts.sum(axis=0)), shares_by_loop(experts, documents), atol=1e-12)


@pytest.mark.parametrize(
    ("experts", "documents", "options", "message"),
    [
        (np.zeros((3, 1), np.int16), [0, 1], {}, r"got shapes \(3, 1\) and \(2,\)"),
        (np.zeros((3, 1), np.int16), [1, 0, 0], {}, "non-decreasing"),
        (np.full((3, 1), 5), [0, 0, 0], {}, "experts must be below 4, got 5"),
        (np.zeros((3, 1), np.int16), [0, 1, 2], {"subsets": [np.ones(2, bool)]}, r"subsets \[3 documents\], got 2"),
    ],
)
def test_misfits_are_named(experts, documents, options, message):
    with pytest.raises(MeasurementError, match=message):
        measure_repeats(experts, documents, num_experts=4, **options)
