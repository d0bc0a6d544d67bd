"""The study of real models: its own computations, on made routing, and its tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analyses.real_models import gpt_oss, turns, variants
from analyses.real_models.by_hand import explained_share

from specialize.measure import measure_layer, uncertainty_coefficient

RESULTS = Path(gpt_oss.__file__).parent / "results"


def test_the_share_by_hand_is_that_of_the_package():
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(200), 30)
    codes = rng.integers(0, 5, len(documents))
    experts = np.stack([(codes + rng.integers(0, 3, len(codes))) % 8, rng.integers(0, 8, len(codes))], axis=1)
    codes[::7] = -1
    found = measure_layer(codes, experts, documents, level="token", num_labels=5, num_experts=8, permutations=0)
    by_hand = explained_share(codes, experts, documents, np.ones(len(codes)))
    assert by_hand == pytest.approx(found.uncertainty_coefficient.value, abs=1e-3)


def test_usual_tags_by_hand():
    ids = np.array([0, 0, 0, 1, 1, 2, 2])
    tags = np.array([1, 1, 0, 2, -1, -1, -1])
    usual, consistent = variants._usual_tags(ids, tags, 3)
    assert usual[:5].tolist() == [1, 1, 1, 2, 2]
    assert consistent.tolist() == [False, False, False, True, False, False, False]


def test_subjects_are_groups_and_documents_without_one_are_on_their_own():
    numbers = variants._number(np.array([0, 1, 0, -1, -1]))
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 4


def test_a_planted_correlation_of_curves_is_found():
    """Two labels that share a layer's experts: the more one explains, the less the other."""
    rng = np.random.default_rng(0)
    strengths = np.linspace(0.1, 0.9, 9)
    tables = np.zeros((2, len(strengths), 40, 2, 2))
    for layer, strength in enumerate(strengths):
        for side, own in enumerate((strength, 1 - strength)):
            joint = np.array([[1 + own, 1 - own], [1 - own, 1 + own]]) / 4
            tables[side, layer] = rng.multinomial(500, joint.ravel(), size=40).reshape(40, 2, 2)
    found = turns.estimate_correlation(*tables)
    true = [uncertainty_coefficient(np.array([[1 + own, 1 - own], [1 - own, 1 + own]])) for own in strengths]
    assert found.ci_low < np.corrcoef(true, true[::-1])[0, 1] < found.ci_high
    assert found.ci_high < 0


def test_both_curves_by_hand_are_those_of_the_table():
    """To a tenth of a percentage point, at every layer."""
    table = pd.read_csv(RESULTS / "gpt_oss_by_hand.csv")
    assert len(table) == 2 * 24
    assert (100 * (table["by_hand"] - table["value"])).abs().max() < 0.1
