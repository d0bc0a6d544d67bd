import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from planted import PlantedTrace, plant_channel, plant_document_labels, plant_noise
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import RESULT_COLUMNS, measure_layer, measure_specialization

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
LABELS = ("NOUN", "VERB", "ADJ", "X")  # X never occurs


@pytest.fixture(scope="module")
def planted():
    return plant_channel(SHARES, CHANNEL, num_documents=40, tokens_per_document=30)


@pytest.fixture(scope="module")
def trace(planted):
    noise = plant_noise(SHARES, CHANNEL[0], num_documents=40, tokens_per_document=30)
    return PlantedTrace(planted.documents, {3: noise.experts, 7: planted.experts}, num_experts=3)


@pytest.fixture(scope="module")
def annotation(planted):
    return Annotation("upos", "token", LABELS, planted.codes)


@pytest.fixture(scope="module")
def frame(trace, annotation):
    return measure_specialization(trace, annotation, permutations=149)


def test_frame_has_the_schema(frame):
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert {str(frame[c].dtype) for c in ("layer", "expert", "n_permutations", "n_tokens", "n_documents")} == {"Int64"}
    assert set(frame["run"]) == {"planted"}
    assert set(frame["label_set"]) == {"upos"}
    assert set(frame["routing"]) == {"learned"}
    assert frame[["metric", "unit", "value", "n_tokens", "n_documents"]].notna().all().all()
    assert not frame.duplicated(["layer", "expert", "label", "metric"]).any()


def test_rows_a_layer(frame):
    rows = frame[frame["layer"] == 7].groupby("metric").size()
    assert rows.to_dict() == {
        "mutual_information": 1,
        "uncertainty_coefficient": 1,
        "label_entropy": 1,
        "load_entropy": 1,
        "load": 3,
        "specific_information": 3,
        "lift": 9,  # the label that does not occur has no rows
        "top_expert_share": 4,  # one of them over all labels
        "top_expert_share_above_uniform": 4,
        "top_expert_share_above_load": 4,
    }
    assert set(frame["label"].dropna()) == {"NOUN", "VERB", "ADJ"}
    units = frame.groupby("metric")["unit"].first()
    assert units["uncertainty_coefficient"] == units["max_uncertainty_coefficient"] == "share of H(label)"
    assert units["lift"] == "ratio"


def test_rows_hold_what_the_layer_measured(frame, planted):
    measured = measure_layer(
        planted.codes,
        planted.experts,
        planted.documents,
        level="token",
        num_labels=4,
        num_experts=3,
        permutations=149,
    )
    layer = frame[frame["layer"] == 7].set_index("metric")
    row = layer.loc["mutual_information"]
    for column in ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value", "ci_kind"):
        assert row[column] == getattr(measured.mutual_information, column)
    lift = layer.loc["lift"].set_index(["label", "expert"])
    for label, name in enumerate(LABELS[:3]):
        for expert in range(3):
            assert lift.loc[(name, expert), "value"] == measured.lift[label, expert].value
            assert lift.loc[(name, expert), "p_value"] == measured.lift[label, expert].p_value
    load = layer.loc["load"].set_index("expert")
    assert load["value"].sum() == pytest.approx(1.0)
    assert load["p_value"].isna().all()


def test_the_planted_layer_stands_out(frame, planted):
    information = frame[frame["metric"] == "mutual_information"].set_index("layer")
    assert information.loc[7, "ci_low"] < planted.information < information.loc[7, "ci_high"]
    assert information.loc[7, "p_value"] == pytest.approx(1 / 150)
    assert information.loc[3, "ci_low"] < 0 < information.loc[3, "ci_high"]


def test_the_largest_over_layers_is_one_row(frame):
    (largest,) = frame[frame["metric"] == "max_uncertainty_coefficient"].to_dict("records")
    layers = frame[frame["metric"] == "uncertainty_coefficient"]
    assert largest["value"] == layers["value"].max()
    assert largest["null_mean"] > layers["null_mean"].max()
    assert largest["p_value"] == pytest.approx(1 / 150)
    assert pd.isna(largest["layer"])
    assert pd.isna(largest["ci_low"])
    assert pd.isna(largest["ci_kind"])


def test_random_routers_are_measured_like_the_models_own(planted, annotation, frame):
    noise = plant_noise(SHARES, CHANNEL[0], num_documents=40, tokens_per_document=30)
    own = {3: noise.experts, 7: planted.experts}
    swapped = {3: planted.experts, 7: noise.experts}
    both = measure_specialization(
        PlantedTrace(planted.documents, own, num_experts=3, random_routers=swapped), annotation, permutations=149
    )
    alone = both[~both["metric"].isin(["uncertainty_coefficient_among_random_routers", "random_router_draws"])]
    learned, control = (alone[alone["routing"] == routing].reset_index(drop=True) for routing in ("learned", "random"))
    pd.testing.assert_frame_equal(learned, frame)
    turned = control.assign(
        routing="learned",
        layer=control["layer"].replace({3: 7, 7: 3}),
        router=control["router"].replace({"layers.3": "layers.7", "layers.7": "layers.3"}),
    )
    keys = ["layer", "metric", "expert", "label"]
    pd.testing.assert_frame_equal(
        turned.sort_values(keys, ignore_index=True), frame.sort_values(keys, ignore_index=True), check_exact=False
    )


def test_q_values_are_within_a_metric(frame):
    for metric in ("lift", "specific_information", "uncertainty_coefficient"):
        rows = frame[frame["metric"] == metric]
        expected = false_discovery_control(rows["p_value"].to_numpy())
        np.testing.assert_allclose(rows["q_value"], expected)
    assert frame.loc[frame["p_value"].isna(), "q_value"].isna().all()


def test_documents_and_sequences_are_measured_alike():
    planted = plant_document_labels(SHARES, CHANNEL, num_documents=300, tokens_per_document=20, seed=1)
    by_sequence = plant_document_labels(
        SHARES, CHANNEL, num_documents=300, tokens_per_document=20, by_sequence=True, seed=1
    )
    np.testing.assert_array_equal(planted.codes, by_sequence.codes)
    trace = PlantedTrace(planted.documents, {0: planted.experts, 1: by_sequence.experts}, num_experts=3)
    annotation = Annotation("topic", "document", ("a", "b", "c"), planted.codes)
    frame = measure_specialization(trace, annotation, run_name="mine", permutations=149)
    rows = frame[frame["metric"] == "mutual_information"]
    assert ((rows["ci_low"] < planted.information) & (planted.information < rows["ci_high"])).all()
    assert (rows["p_value"] == 1 / 150).all()
    assert (rows["n_documents"] == 300).all()
    assert set(frame["run"]) == {"mine"}


def test_the_same_seed_gives_the_same_frame(trace, annotation, frame):
    pd.testing.assert_frame_equal(measure_specialization(trace, annotation, permutations=149), frame)
    other = measure_specialization(trace, annotation, permutations=149, seed=1)
    assert not other["null_mean"].equals(frame["null_mean"])
    pd.testing.assert_series_equal(other["value"], frame["value"])


def test_equal_gate_weights_are_the_selection_rule(planted, annotation):
    first = planted.experts[:, 0]
    experts = np.stack([first, (first + 1 + np.arange(len(first)) % 2) % 3], axis=1)
    equal = {0: np.full(experts.shape, 0.3, dtype=np.float32)}
    trace = PlantedTrace(planted.documents, {0: experts}, num_experts=3, weights=equal)
    selection, gate = (
        measure_specialization(trace, annotation, permutations=9, rule=rule) for rule in ("selection", "gate")
    )
    pd.testing.assert_frame_equal(gate, selection)


def test_progress_counts_layers(trace, annotation):
    calls = []
    measure_specialization(trace, annotation, permutations=0, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_a_single_label_is_no_error(trace, planted):
    frame = measure_specialization(
        trace, Annotation("one", "token", ("a",), np.zeros_like(planted.codes)), permutations=9
    )
    coefficients = frame[frame["metric"].str.endswith("uncertainty_coefficient")]
    assert len(coefficients) == 3
    assert coefficients[["value", "p_value", "q_value"]].isna().all().all()
    information = frame[frame["metric"] == "mutual_information"]
    np.testing.assert_allclose(information["value"], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("level", "codes", "message"),
    [
        ("token", np.zeros(10, dtype=np.int32), "labels of the 1200 tokens of the trace, got 10"),
        ("document", np.zeros(1200, dtype=np.int32), "labels of the 40 documents of the trace, got 1200"),
        ("token", np.full(1200, -1, dtype=np.int32), "expected labelled tokens, got none"),
    ],
)
def test_annotations_that_do_not_fit(trace, level, codes, message):
    with pytest.raises(MeasurementError, match=message):
        measure_specialization(trace, Annotation("upos", level, ("a", "b"), codes))


def test_a_trace_without_layers(planted, annotation):
    with pytest.raises(MeasurementError, match="and MoE layers"):
        measure_specialization(PlantedTrace(planted.documents, {}, num_experts=3), annotation)


@pytest.mark.parametrize(
    ("room", "absent"),
    [("specialize", "numba"), ("specialize.measure", "torch"), ("specialize.measure", "spacy")],
)
def test_importing_stays_light(room, absent):
    check = f"import sys, {room}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
