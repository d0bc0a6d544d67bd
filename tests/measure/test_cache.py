from functools import cache
from itertools import combinations

import numpy as np
import pytest

from planted.streams import SetDistribution, plant_sets
from planted.usage import draw_routing
from specialize.errors import MeasurementError
from specialize.measure import measure_cache

SETS = SetDistribution(
    np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [0, 3]], dtype=np.int16),
    np.array([0.25, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05]), 6,
)  # fmt: skip


def test_hits_by_hand():
    """Cache of two, one expert a token: LRU forgets 0 before its next use, the best cache keeps it."""
    found = measure_cache(
        [[0], [1], [2], [0], [1], [2]], np.zeros(6), num_experts=4, capacity=2, segment=3, permutations=0
    )
    assert found.recent.value == 0
    assert found.optimal.value == pytest.approx(2 / 6)
    assert found.segments.value == pytest.approx(4 / 6)
    assert (found.capacity, found.segment) == (2, 3)
    empty = measure_cache([[0], [0], [0]], [0, 1, 1], num_experts=4, permutations=0)  # a document starts empty
    assert (empty.recent.value, empty.capacity) == (pytest.approx(1 / 3), 1)


def test_a_token_requests_its_experts_together():
    """Expert 1 is not evicted for 2, although both come with one token; of one token, the last slot leaves first."""
    found = measure_cache([[0, 1], [1, 2], [3, -1], [1, 2]], [0] * 4, num_experts=4, capacity=2, permutations=0)
    assert found.recent.value == pytest.approx(2 / 7)  # 1 at the second token and at the last
    assert found.optimal.value == pytest.approx(2 / 7)


def tokens_of(experts, documents):
    for document in np.unique(documents):
        yield [[expert for expert in row if expert >= 0] for row in experts[documents == document].tolist()]


def hits_of_lru(tokens, capacity):
    recency, hits = [], 0  # the most recent one first
    for token in tokens:
        hits += sum(expert in recency for expert in token)
        recency = (token + [expert for expert in recency if expert not in token])[:capacity]
    return hits


def hits_of_the_best_cache(tokens, capacity):
    """Search through all contents of the cache after each token."""

    @cache
    def most(place, held):
        if place == len(tokens):
            return 0
        token = frozenset(tokens[place])
        others = sorted(held - token)
        kept = min(len(others), capacity - len(token))
        rest = max(most(place + 1, token | frozenset(each)) for each in combinations(others, kept))
        return len(token & held) + rest

    return most(0, frozenset())


def covered_by_segments(tokens, capacity, segment):
    covered = 0
    for first in range(0, len(tokens), segment):
        slots = [expert for token in tokens[first : first + segment] for expert in token]
        covered += sum(sorted(map(slots.count, set(slots)), reverse=True)[:capacity])
    return covered


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("capacity", [2, 3, 4])
def test_hits_are_those_of_other_programs(seed, capacity):
    experts, documents = draw_routing(60, num_experts=6, top_k=2, num_documents=4, seed=seed)
    found = measure_cache(experts, documents, num_experts=6, capacity=capacity, segment=5, permutations=0)
    slots = (experts >= 0).sum()
    each = list(tokens_of(experts, documents))
    assert found.recent.value == pytest.approx(sum(hits_of_lru(tokens, capacity) for tokens in each) / slots)
    assert found.optimal.value == pytest.approx(
        sum(hits_of_the_best_cache(tokens, capacity) for tokens in each) / slots
    )
    assert found.segments.value == pytest.approx(
        sum(covered_by_segments(tokens, capacity, 5) for tokens in each) / slots
    )
    assert (found.recent.n_tokens, found.recent.n_documents) == ((experts >= 0).any(axis=1).sum(), 4)


def test_a_cache_of_all_experts_misses_only_first_uses():
    experts, documents = draw_routing(200, num_experts=5, top_k=2, num_documents=6)
    found = measure_cache(experts, documents, num_experts=5, capacity=5, permutations=0)
    first_uses = sum(len(np.unique(each[each >= 0])) for each in (experts[documents == d] for d in range(6)))
    assert found.recent.value == found.optimal.value == pytest.approx(1 - first_uses / (experts >= 0).sum())
    assert found.segments.value == 1


def test_order_is_tested_against_tokens_in_random_order():
    p_values = []
    for seed in range(700):
        experts, documents = plant_sets(SETS, num_documents=40, tokens_per_document=20, concentration=20, seed=seed)
        found = measure_cache(experts, documents, num_experts=6, capacity=3, segment=7, permutations=19, seed=seed)
        p_values.append([found.recent.p_value, found.segments.p_value])
    rejected = (np.array(p_values) <= 0.05).mean(axis=0)
    assert ((rejected >= 0.03) & (rejected <= 0.07)).all()
    experts, documents = plant_sets(SETS, num_documents=8, tokens_per_document=20, persistence=0.5)
    found = measure_cache(experts, documents, num_experts=6, capacity=3, segment=7, permutations=19)
    assert found.recent.p_value == found.segments.p_value == 0.05
    assert found.recent.null_mean < found.recent.value < found.optimal.value


def test_intervals_cover():
    how = {"num_experts": 6, "capacity": 3, "segment": 7, "permutations": 0}
    plant = {"tokens_per_document": 20, "persistence": 0.4, "concentration": 20.0}
    names, held = ("recent", "optimal", "segments"), []
    large = measure_cache(*plant_sets(SETS, num_documents=20_000, seed=10**6, **plant), **how)
    for seed in range(600):
        found = measure_cache(*plant_sets(SETS, num_documents=50, seed=seed, **plant), **how)
        held.append([getattr(found, n).ci_low <= getattr(large, n).value <= getattr(found, n).ci_high for n in names])
    assert ((np.mean(held, axis=0) >= 0.92) & (np.mean(held, axis=0) <= 0.98)).all()


def test_wrong_arguments_raise_and_no_tokens_give_nothing():
    with pytest.raises(
        MeasurementError, match="capacity: expected a number from 2, the experts of a token, to 4, got 1"
    ):
        measure_cache([[0, 1]], [0], num_experts=4, capacity=1)
    for option in ("capacity", "segment"):
        with pytest.raises(MeasurementError, match=f"{option}: expected a whole number, got 2.5"):
            measure_cache([[0]], [0], num_experts=4, **{option: 2.5})
    with pytest.raises(MeasurementError, match="segment: expected at least 1 token, got 0"):
        measure_cache([[0, 1]], [0], num_experts=4, segment=0)
    nothing = measure_cache([[-1, -1]], [0], num_experts=4, permutations=0)
    assert np.isnan([nothing.recent.value, nothing.optimal.value, nothing.segments.value]).all()
