import numpy as np
import pytest
from scipy.stats import false_discovery_control

from planted import PlantedTrace, plant_noise
from planted.streams import PlantedRun, SetDistribution, plant_sets
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import (
    RESULT_COLUMNS,
    measure_balance,
    measure_coactivation,
    measure_flow,
    measure_repeats,
    measure_routing,
)

SETS = SetDistribution(np.array([[0, 1], [1, 2], [2, 0], [3, 2]], dtype=np.int16), np.array([0.4, 0.3, 0.2, 0.1]), 4)


@pytest.fixture(scope="module")
def planted():
    layers = [plant_sets(SETS, num_documents=30, tokens_per_document=20, persistence=0.5, seed=s) for s in (0, 1, 2)]
    documents = layers[0][1]
    one, two, control = (experts for experts, _ in layers)
    return PlantedRun(documents, {2: one, 4: two}, num_experts=4, random_routers={2: control, 4: control})


@pytest.fixture(scope="module")
def theme():
    return Annotation("theme", "document", ("a", "b", "never"), (np.arange(30) % 2).astype(np.int32))


@pytest.fixture(scope="module")
def frame(planted, theme):
    return measure_routing(planted, [theme], permutations=39)


def test_rows_of_a_layer(frame):
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert frame["routing"].drop_duplicates().tolist() == ["learned", "random"]
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == 2)]
    repeats = {f"{which}_expert_repeats{end}": 3 for which in ("first", "any") for end in ("", "_chance")}
    assert rows.groupby("metric").size().to_dict() == {
        "load": 4,
        "load_entropy": 1,
        "load_variation": 1,
        "load_peak": 1,
        "dead_experts": 1,
        **repeats,  # over all documents, and for two labels that occur
        "coactivation": 12,
        "flow_mutual_information": 1,
        "flow_uncertainty_coefficient": 1,
        "transition": 16,
    }
    assert set(rows.loc[rows["metric"] == "first_expert_repeats", "label"].dropna()) == {"a", "b"}
    last = frame[(frame["routing"] == "learned") & (frame["layer"] == 4)]
    assert not last["metric"].str.contains("flow|transition").any()  # nothing follows it
    assert not frame.duplicated(["routing", "router", "metric", "label_set", "label", "expert"]).any()


def test_rows_hold_what_the_arrays_gave(frame, planted):
    documents = planted.tokens()["document"].to_numpy()
    one, two = planted.experts(2), planted.experts(4)
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == 2)].set_index("metric")
    balance = measure_balance(one, documents, num_experts=4)
    assert rows.loc["load_peak", "value"] == balance.peak.value
    (repeats,) = measure_repeats(one, documents, num_experts=4, permutations=39)
    whole = rows.loc["any_expert_repeats"]
    whole = whole[whole["label"].isna()].iloc[0]
    assert (whole["value"], whole["ci_low"], whole["p_value"]) == (
        repeats.shared.value,
        repeats.shared.ci_low,
        repeats.shared.p_value,
    )
    pairs = rows.loc["coactivation"]
    own = pairs[(pairs["expert"] == 1) & (pairs["label"] == "2")].iloc[0]
    expected = measure_coactivation(one, documents, num_experts=4)
    assert (own["value"], own["null_mean"]) == (expected.value[1, 2], expected.null_mean[1, 2])
    flow = measure_flow(one, two, documents, num_experts=4, num_following=4, permutations=39)
    steps = rows.loc["transition"]
    step = steps[(steps["expert"] == 3) & (steps["label"] == "0")].iloc[0]
    assert step["value"] == flow.transitions.value[0, 3]
    assert rows.loc["flow_mutual_information", "label"] == "layers.4"
    tested = frame[(frame["routing"] == "learned") & (frame["metric"] == "first_expert_repeats")]
    np.testing.assert_allclose(tested["q_value"], false_discovery_control(tested["p_value"].to_numpy()))


def test_planted_persistence_is_recovered(frame):
    """Half of the tokens keep the set of the one before: repeats exceed those of a random order."""
    rows = frame[(frame["metric"] == "first_expert_repeats") & frame["label"].isna()]
    truth = 0.5 + 0.5 * SETS.first_repeat
    assert ((rows["ci_low"] < truth) & (truth < rows["ci_high"])).all()
    assert (rows["p_value"] == 1 / 40).all()


def test_many_experts_keep_their_most_frequent_partners():
    noise = plant_noise(np.ones(1), np.full(100, 0.01), num_documents=20, tokens_per_document=400)
    trace = PlantedTrace(noise.documents, {0: noise.experts, 1: noise.experts}, num_experts=noise.num_experts)
    frame = measure_routing(trace, permutations=3)
    steps = frame[frame["metric"] == "transition"]
    assert steps.groupby("expert").size().max() <= 64
    assert (steps.loc[steps["value"] == 1].groupby("expert").size() == 1).all()


def test_a_trace_without_tokens_or_layers_raises():
    with pytest.raises(MeasurementError, match="expected a trace with tokens and MoE layers"):
        measure_routing(PlantedTrace(np.zeros(3, np.int32), {}, num_experts=2))


def test_labels_that_do_not_match_raise(planted, theme):
    short = Annotation("theme", "document", theme.labels, theme.codes[1:])
    with pytest.raises(MeasurementError, match="labels of the 30 documents of the trace, got 29"):
        measure_routing(planted, [short])
