from itertools import combinations

import numpy as np
import pytest

from planted.usage import draw_routing
from specialize.errors import MeasurementError
from specialize.measure import measure_same_token
from specialize.measure.base.blocks import block_tokens

WORDS = 12


def plant_words(by_word, *, num_documents=40, tokens=25, num_experts=6, seed=0):
    """Words and one expert a token; a share `by_word` of tokens goes to the word's own expert, the others to any."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, WORDS, num_documents * tokens)
    mixes = rng.dirichlet(np.full(num_experts, 30.0), size=num_documents).repeat(tokens, axis=0)
    drawn = (rng.random((len(words), 1)) > np.cumsum(mixes, axis=1)[:, :-1]).sum(axis=1)
    experts = np.where(rng.random(len(words)) < by_word, words % num_experts, drawn)
    return words, experts[:, None], np.repeat(np.arange(num_documents), tokens)


def test_overlap_by_hand():
    found = measure_same_token(
        [7, 7, 8, 7, 9], [[0, 1], [0, 1], [2, 3], [0, 2], [0, 1]], [0, 1, 1, 1, 1], num_experts=4, permutations=0
    )
    assert found.same.value == pytest.approx((1 + 0.5) / 2)  # token 0 with tokens 1 and 3; 8 and 9 are in one document
    assert found.any.value == pytest.approx(0.75)
    assert found.same.n_tokens == 3


def test_planted_overlap_is_covered():
    """Two tokens of a word: both at its expert, or one or both elsewhere, where documents are uniform on average."""
    same = 0.5**2 + (1 - 0.5**2) / 6
    held = []
    for seed in range(200):
        found = measure_same_token(*plant_words(0.5, seed=seed), num_experts=6, permutations=0)
        held.append(
            [
                found.same.ci_low <= same <= found.same.ci_high,
                found.difference.ci_low <= same - 1 / 6 <= found.difference.ci_high,
            ]
        )
    assert ((np.mean(held, axis=0) >= 0.92) & (np.mean(held, axis=0) <= 0.985)).all()
    found = measure_same_token(*plant_words(0.5), num_experts=6, permutations=39)
    assert found.same.p_value == found.difference.p_value == 1 / 40
    assert found.same.null_mean == pytest.approx(found.any.value, abs=0.02)
    assert found.difference.null_mean == pytest.approx(0, abs=0.02)


def test_five_percent_of_null_data_sets_are_rejected():
    p_values = [
        measure_same_token(
            *plant_words(0.0, num_documents=8, tokens=20, seed=seed), num_experts=6, permutations=19, seed=seed
        ).same.p_value
        for seed in range(800)
    ]
    assert 0.03 <= (np.array(p_values) <= 0.05).mean() <= 0.07


def brute_force(words, experts, groups, rows):
    """Return the mean overlaps of pairs of one word, weighted by tokens, and of any pairs of the same tokens."""
    sets = [set(row) - {-1} for row in experts.tolist()]

    def overlaps(tokens):
        return [
            len(sets[one] & sets[other]) / experts.shape[1]
            for one, other in combinations(tokens, 2)
            if groups[one] != groups[other]
        ]

    by_word = {}
    for row in rows:
        if sets[row] and words[row] >= 0:
            by_word.setdefault(words[row], []).append(row)
    repeated = [tokens for tokens in by_word.values() if overlaps(tokens)]
    total = sum(len(tokens) * np.mean(overlaps(tokens)) for tokens in repeated)
    counted = [row for tokens in repeated for row in tokens]
    return total / len(counted), np.mean(overlaps(counted)), counted


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("paired", [False, True])
def test_overlaps_and_errors_are_those_of_all_pairs(seed, paired):
    experts, documents = draw_routing(90, num_experts=5, top_k=2, num_documents=10, seed=seed)
    words = np.random.default_rng(seed).integers(-1, 12, 90)
    groups = np.arange(10) // 2 if paired else None
    found = measure_same_token(words, experts, documents, num_experts=5, groups=groups, permutations=0)
    of_token = documents if groups is None else groups[documents]
    same, anyone, counted = brute_force(words, experts, of_token, range(90))
    assert (found.same.value, found.any.value) == pytest.approx((same, anyone))
    assert found.same.n_tokens == len(counted)
    rows = np.sort(counted)
    blocks = block_tokens(documents[rows], groups=groups).token_blocks
    left = np.array(
        [brute_force(words, experts, of_token, rows[blocks != block])[0] for block in range(blocks.max() + 1)]
    )
    error = ((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()) ** 0.5
    reach = {10: 2.26215716, 5: 2.77644511}[len(left)]  # t of 9 and of 4 degrees
    assert found.same.ci_high - found.same.value == pytest.approx(reach * error)


def test_wrong_arguments_raise():
    with pytest.raises(MeasurementError, match="a token id that occurs in two documents, got none"):
        measure_same_token([1, 2], [[0], [1]], [0, 1], num_experts=2)
    with pytest.raises(MeasurementError, match="a token id that occurs in two documents, got none"):
        measure_same_token([-1, -1], [[0], [1]], [0, 1], num_experts=2)
    with pytest.raises(MeasurementError, match=r"must be of one length, got 1, \[2, 1\] and 2"):
        measure_same_token([1], [[0], [1]], [0, 1], num_experts=2)
