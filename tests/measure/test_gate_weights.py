"""The gate rule in measures of whole traces, against values computed by hand from unequal gate weights."""

import numpy as np
import pandas as pd
import pytest

from planted.streams import PlantedRun
from planted.words import PlantedText
from specialize.annotation import Annotation
from specialize.measure import compare_traces, measure_details, measure_specialization, probe_trace

DOCUMENTS = np.repeat(np.arange(20, dtype=np.int32), 30)
SHAPE = (3, 5)
LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def planted():
    """Labels, words, experts [tokens, 2] and gate weights: the heavier expert is more informative about the label."""
    rng = np.random.default_rng(0)
    codes, words = rng.integers(0, 3, 600).astype(np.int32), rng.integers(0, 4, 600).astype(np.int32)
    first = np.where(rng.random(600) < 0.6, codes, rng.integers(0, 5, 600))
    experts = np.stack([first, (first + rng.integers(1, 5, 600)) % 5], axis=1).astype(np.int16)
    experts[::17, 1] = -1  # empty slots
    weights = np.stack([rng.uniform(0.5, 0.8, 600), rng.uniform(0.05, 0.3, 600)], axis=1).astype(np.float32)
    return codes, words, experts, weights


def tabulate(codes, experts, weights):
    """Mass [label, expert], token by token: the weights of a token's experts divided by their sum."""
    table = np.zeros(SHAPE)
    for label, chosen, gates in zip(codes, experts, weights.astype(float), strict=True):
        present = chosen >= 0
        if label >= 0:
            table[label, chosen[present]] += gates[present] / gates[present].sum()
    return table


def information(table):
    """I(label; expert) in bits."""
    shares = table / table.sum()
    independent = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    some = shares > 0
    return (shares[some] * np.log2(shares[some] / independent[some])).sum()


def coefficient(table):
    """I(label; expert) / H(label)."""
    labels = table.sum(axis=1) / table.sum()
    return information(table) / -(labels * np.log2(labels)).sum()


def jackknife(statistic):
    """Bias-corrected value of a statistic of a mask of tokens, deleting one document at a time."""
    without_one = [statistic(document != DOCUMENTS) for document in range(20)]
    return 20 * statistic(np.ones(600, dtype=bool)) - 19 * np.mean(without_one)


def by_hand(statistic, codes, experts, weights):
    return jackknife(lambda kept: statistic(tabulate(codes[kept], experts[kept], weights[kept])))


def value_of(frame, metric):
    (value,) = frame.loc[frame["metric"] == metric, "value"]
    return value


def swapped(weights):
    """The weights of the two slots of each token, exchanged."""
    return weights[:, ::-1].copy()


def test_specialization(planted):
    codes, _, experts, weights = planted
    values = []
    for given in (weights, swapped(weights)):
        trace = PlantedRun(DOCUMENTS, {0: experts}, num_experts=5, weights={0: given})
        frame = measure_specialization(trace, Annotation("upos", "token", LABELS, codes), rule="gate", permutations=0)
        values.append(value_of(frame, "mutual_information"))
        assert values[-1] == pytest.approx(by_hand(information, codes, experts, given))
        assert value_of(frame, "uncertainty_coefficient") == pytest.approx(by_hand(coefficient, codes, experts, given))
        load = tabulate(codes, experts, given).sum(axis=0) / 600
        np.testing.assert_allclose(frame.loc[frame["metric"] == "load", "value"], load)
    assert values[0] > 2 * values[1]


def test_details(planted):
    codes, words, experts, weights = planted
    position = np.tile(np.arange(30), 20)
    tokens = pd.DataFrame({"document": DOCUMENTS, "sequence": DOCUMENTS, "position": position, "token_id": words})
    following = np.where(position == 29, -1, np.roll(codes, -1))
    later = np.where(position == 0, -1, codes)
    values = []
    for given in (weights, swapped(weights)):

        def within_words(kept, given=given):
            tables = [tabulate(codes[own], experts[own], given[own]) for own in (kept & (words == w) for w in range(4))]
            return sum(table.sum() * information(table) for table in tables) / kept.sum()

        trace = PlantedText(tokens, {0: experts}, num_experts=5, weights={0: given})
        frame = measure_details(trace, Annotation("upos", "token", LABELS, codes), rule="gate", permutations=0)
        values.append(value_of(frame, "conditional_information"))
        assert values[-1] == pytest.approx(jackknife(within_words))
        assert value_of(frame, "ambiguous_mutual_information") == pytest.approx(
            by_hand(information, codes, experts, given)
        )
        assert value_of(frame, "next_token_mutual_information") == pytest.approx(
            by_hand(information, following, experts, given)
        )
        assert value_of(frame, "uncertainty_coefficient_without_first") == pytest.approx(
            by_hand(coefficient, later, experts, given)
        )
    assert values[0] > 2 * values[1]


def test_comparison(planted):
    codes, _, experts, weights = planted
    other = np.roll(experts, 1, axis=0)
    values = []
    for given in (weights, swapped(weights)):
        sides = [
            PlantedRun(DOCUMENTS, {0: chosen}, num_experts=5, weights={0: gates})
            for chosen, gates in ((experts, given), (other, weights))
        ]
        frame = compare_traces(*sides, [Annotation("upos", "token", LABELS, codes)], rule="gate")
        values.append(value_of(frame, "difference of mutual_information"))
        for metric, statistic in (("mutual_information", information), ("uncertainty_coefficient", coefficient)):
            expected = by_hand(statistic, codes, experts, given) - by_hand(statistic, codes, other, weights)
            assert value_of(frame, f"difference of {metric}") == pytest.approx(expected)
    assert values[0] > 2 * values[1] > 0


def test_probe():
    """Each token has both experts; the label is the one with the larger weight, with 10 % noise."""
    rng = np.random.default_rng(1)
    heavier = rng.integers(0, 2, 600)
    codes = np.where(rng.random(600) < 0.1, 1 - heavier, heavier).astype(np.int32)
    experts = np.stack([heavier, 1 - heavier], axis=1).astype(np.int16)
    weights = np.tile(np.array([0.8, 0.2], dtype=np.float32), (600, 1))
    some = rng.random(600) < 0.5
    accuracies = []
    for given in (weights, np.where(some[:, None], swapped(weights), weights)):
        trace = PlantedRun(DOCUMENTS, {0: experts}, num_experts=2, weights={0: given})
        frame = probe_trace(trace, Annotation("upos", "token", ("a", "b"), codes), rule="gate", mlp=False)
        accuracies.append(value_of(frame, "probe_accuracy"))
    assert accuracies[0] == pytest.approx((codes == heavier).mean())
    assert accuracies[1] < 0.65  # exchanging the weights of half of the tokens leaves chance, 0.5
