"""More permutations are drawn where p lies near 0.05, and the p-value remains uniform under a true null."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom, binom

from planted import PlantedTrace, plant_channel, plant_noise
from specialize.annotation import Annotation
from specialize.measure import measure_layer, measure_specialization
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.sequential import count_more
from specialize.measure.estimators.layer import associate_layer
from specialize.measure.estimators.null_uncertainty import draw_null_uncertainty

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
LOAD = np.array([0.3, 0.3, 0.2, 0.2])
LABELS = ("a", "b", "c", "d")


@pytest.mark.parametrize("drawn", [50, 200, 1000])
def test_the_number_doubles_where_the_interval_of_p_contains_the_threshold(drawn):
    for extreme in range(drawn + 1):
        # the interval contains 0.05 unless one of the one-sided tests of 0.05 rejects
        near = min(binom.sf(extreme - 1, drawn, 0.05), binom.cdf(extreme, drawn, 0.05)) >= 0.005
        assert count_more(extreme, drawn, asked=drawn) == (drawn if near else 0)


def test_it_ends_at_sixteen_times_the_number_asked_for_and_at_4000():
    near = {drawn: count_more(round(0.05 * drawn), drawn, asked=100) for drawn in (100, 200, 400, 800, 1600)}
    assert near == {100: 100, 200: 200, 400: 400, 800: 800, 1600: 0}
    assert count_more(50, 1000, asked=1000) == 1000
    assert count_more(100, 2000, asked=1000) == 2000
    assert count_more(200, 4000, asked=1000) == 0
    assert count_more(250, 5000, asked=5000) == 0
    assert count_more(0, 0, asked=0) == 0


def test_the_p_value_remains_uniform_under_a_true_null():
    """The counts of exchangeable values are an urn, so that the probability of every p-value is known exactly."""
    alive, ended = np.full(201, 1 / 201), []
    while alive.any():
        drawn, after = len(alive) - 1, np.zeros(2 * len(alive) - 1)
        for extreme in np.flatnonzero(alive):
            if count_more(int(extreme), drawn, asked=200):
                more = betabinom.pmf(np.arange(drawn + 1), drawn, extreme + 1, drawn - extreme + 1)
                after[extreme : extreme + drawn + 1] += alive[extreme] * more
            else:
                ended.append(((1 + extreme) / (1 + drawn), drawn, alive[extreme]))
        alive = after
    p_values, drawn, shares = np.array(ended).T
    assert shares.sum() == pytest.approx(1)
    assert shares @ drawn == pytest.approx(315, abs=1)
    for alpha, least, most in ((0.05, 0.0495, 0.05), (0.01, 0.0095, 0.0103), (0.005, 0.0049, 0.005)):
        assert least <= shares[p_values <= alpha].sum() <= most


def plant_run(seed):
    """Two layers that know nothing of the labels."""
    planted = plant_noise(SHARES, LOAD, num_documents=30, tokens_per_document=25, seed=seed)
    other = plant_noise(SHARES, LOAD, num_documents=30, tokens_per_document=25, seed=seed + 500)
    trace = PlantedTrace(planted.documents, {0: planted.experts, 1: other.experts}, num_experts=4)
    return trace, Annotation("upos", "token", LABELS, planted.codes)


def largest(frame):
    return frame[frame["metric"] == "max_uncertainty_coefficient"].iloc[0]


def test_near_the_threshold_more_are_drawn_and_twice_the_same():
    for seed in range(60):
        trace, annotation = plant_run(seed)
        frame = measure_specialization(trace, annotation, permutations=100)
        row = largest(frame)
        others = frame[frame["p_value"].notna() & (frame["metric"] != "max_uncertainty_coefficient")]
        assert set(others["n_permutations"]) == {100}  # the other rows have the permutations asked for
        if row["n_permutations"] > 100:
            break
    assert row["n_permutations"] in (200, 400, 800, 1600)
    pd.testing.assert_frame_equal(frame, measure_specialization(trace, annotation, permutations=100))
    # the first 100 are those of the layers, and the others are not their copies
    layers = [
        measure_layer(
            annotation.codes, trace.experts(layer), trace.tokens()["document"], level="token", num_labels=4,
            num_experts=4, permutations=100,
        )
        for layer in (0, 1)
    ]  # fmt: skip
    first = np.max([layer.null_uncertainty for layer in layers], axis=0)
    extreme = row["p_value"] * (1 + row["n_permutations"]) - 1
    assert extreme == pytest.approx(round(extreme), abs=1e-9)
    assert extreme >= (first >= row["value"]).sum()
    assert row["null_mean"] != pytest.approx(first.mean(), rel=1e-6)


def test_clear_cases_stop_at_once():
    planted = plant_channel(SHARES, 0.5 * LOAD + 0.5 * np.eye(4), num_documents=30, tokens_per_document=25)
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=4)
    row = largest(measure_specialization(trace, Annotation("upos", "token", LABELS, planted.codes), permutations=150))
    assert (row["p_value"], row["n_permutations"]) == (pytest.approx(1 / 151), 150)


@pytest.mark.parametrize("level", ["token", "document"])
def test_the_null_alone_is_that_of_the_layer(level):
    planted = plant_noise(SHARES, LOAD, num_documents=30, tokens_per_document=25)
    codes = planted.codes if level == "token" else planted.codes[::25]
    layer = LayerInput.of(planted.experts, planted.documents, num_experts=4)
    arguments = {"level": level, "num_labels": 4, "permutations": 20, "num_blocks": 50, "seed": 3}
    np.testing.assert_allclose(
        draw_null_uncertainty(layer, codes, **arguments),
        associate_layer(layer, codes, **arguments).null_uncertainty,
        atol=1e-12,
    )
