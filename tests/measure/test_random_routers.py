"""The learned router among random routers: differences and places against a count by hand."""

import numpy as np
import pytest
from scipy.stats import entropy, ttest_1samp

from planted import PlantedTrace, plant_channel, plant_document_labels
from specialize.annotation import Annotation
from specialize.measure import compare_traces, measure_specialization

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
ADDED = ["difference of uncertainty_coefficient", "uncertainty_coefficient_among_random_routers", "random_router_draws"]
DOCUMENTS = 20


def blur(experts, share, seed):
    """Replace a share of the choices by chance."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(experts.shape) < share, rng.integers(0, 3, experts.shape), experts).astype(np.int16)


def plant(level, blurs, own=0.3):
    """Return a trace of one layer, whose routers follow the labels up to their blur, and the labels."""
    make = plant_channel if level == "token" else plant_document_labels
    planted = make(SHARES, CHANNEL, num_documents=DOCUMENTS, tokens_per_document=12, seed=3)
    drawn = [{4: blur(planted.experts, share, seed)} for seed, share in enumerate(blurs, 1)]
    routings = {4: blur(planted.experts, own, 0)}
    trace = PlantedTrace(
        planted.documents, routings, num_experts=3, random_routers=drawn[0] if drawn else None, more_draws=drawn[1:]
    )
    return trace, Annotation("kind", level, ("a", "b", "c"), planted.codes)


def coefficient(level, codes, experts, documents, kept):
    """U from the definition, over the kept documents."""
    table = np.zeros((3, 3))
    if level == "token":
        inside = kept[documents]
        np.add.at(table, (codes[inside], experts[inside, 0]), 1)
    else:
        for document in np.flatnonzero(kept):
            own = experts[documents == document, 0]
            table[codes[document]] += np.bincount(own, minlength=3) / len(own)
    of_label = entropy(table.sum(axis=1), base=2)
    return (of_label + entropy(table.sum(axis=0), base=2) - entropy(table.ravel(), base=2)) / of_label


def pseudo(level, codes, experts, documents):
    """Pseudo-values of U, one document left out after the other."""
    everything = np.ones(DOCUMENTS, dtype=bool)
    whole = coefficient(level, codes, experts, documents, everything)
    rest = [coefficient(level, codes, experts, documents, np.arange(DOCUMENTS) != out) for out in range(DOCUMENTS)]
    return DOCUMENTS * whole - (DOCUMENTS - 1) * np.array(rest)


@pytest.mark.parametrize("level", ["token", "document"])
def test_rows_are_those_of_a_count_by_hand(level):
    trace, annotation = plant(level, [0.2, 0.6, 0.5, 0.9])
    frame = measure_specialization(trace, annotation, permutations=3)
    rows = frame[frame["metric"].isin(ADDED)].set_index("metric")
    assert rows["layer"].tolist() == [4] * 3
    codes, documents = annotation.codes, trace.tokens()["document"].to_numpy()
    routings = [trace.experts(4), *(trace.experts(4, routing="random", draw=draw) for draw in range(4))]
    learned, *drawn = (pseudo(level, codes, experts, documents) for experts in routings)

    apart = learned - np.mean(drawn, axis=0)
    test = ttest_1samp(apart, 0)
    expected = (apart.mean(), *test.confidence_interval(0.95), test.pvalue)
    difference = rows.loc[ADDED[0]]
    np.testing.assert_allclose(difference[["value", "ci_low", "ci_high", "p_value"]].astype(float), expected, rtol=1e-8)
    assert (difference["routing"], difference["unit"]) == ("learned − random", "share of H(label)")

    among, values = rows.loc[ADDED[1]], np.mean(drawn, axis=1)
    whole = frame[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "learned")].iloc[0]
    np.testing.assert_allclose(
        among[["value", "ci_low", "ci_high"]].astype(float), whole[["value", "ci_low", "ci_high"]].astype(float)
    )
    np.testing.assert_allclose(
        among[["null_mean", "null_low", "null_high"]].astype(float), [values.mean(), values.min(), values.max()]
    )
    assert among["p_value"] == (1 + np.sum(values >= learned.mean())) / 5
    assert values.min() < learned.mean() < values.max()  # one draw is above it
    assert rows.loc[ADDED[2], "value"] == 4
    assert set(rows["n_tokens"]) == {240}
    assert set(rows["n_documents"]) == {DOCUMENTS}


def test_one_random_router_is_a_distribution_of_one_and_none_gives_no_rows():
    trace, annotation = plant("token", [0.6])
    frame = measure_specialization(trace, annotation, permutations=1)
    among = frame[frame["metric"] == ADDED[1]].iloc[0]
    alone = frame[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "random")].iloc[0]
    np.testing.assert_allclose(among[["null_mean", "null_low", "null_high"]].astype(float), alone["value"])
    assert among["p_value"] == 0.5
    frame = measure_specialization(*plant("token", []), permutations=1)
    assert not frame["metric"].isin(ADDED).any()


def test_comparing_with_random_routers_is_comparing_with_all_of_them():
    """The same row from both, except that one says nothing of a mean over layers."""
    trace, annotation = plant("token", [0.2, 0.6, 0.5])
    frames = measure_specialization(trace, annotation, permutations=1), compare_traces(trace, annotations=[annotation])
    own, other = (frame[(frame["metric"] == ADDED[0]) & (frame["layer"] == 4)].iloc[0] for frame in frames)
    numbers = ["value", "ci_low", "ci_high", "p_value"]
    np.testing.assert_allclose(own[numbers].astype(float), other[numbers].astype(float))
    assert own[["routing", "unit", "ci_kind"]].tolist() == other[["routing", "unit", "ci_kind"]].tolist()


def test_by_gate_weights_the_first_random_router_is_measured_because_it_alone_has_them():
    trace, annotation = plant("token", [0.6, 0.5, 0.2])
    frame = measure_specialization(trace, annotation, permutations=1, rule="gate")
    rows = frame[frame["metric"].isin(ADDED)].set_index("metric")
    alone = frame[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "random")].iloc[0]
    assert rows.loc[ADDED[2], "value"] == 1
    assert rows.loc[ADDED[1], "null_mean"] == pytest.approx(alone["value"])
