import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy, false_discovery_control

from planted import PlantedTrace, plant_noise
from planted.streams import PlantedRun, SetDistribution, plant_sets
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import (
    RESULT_COLUMNS,
    choice_entropy,
    measure_balance,
    measure_cache,
    measure_coactivation,
    measure_committee,
    measure_details,
    measure_flow,
    measure_label_overlap,
    measure_next_layer_recall,
    measure_repeats,
    measure_routing,
    measure_same_token,
    measure_signatures,
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
        "next_layer_recall": 1,
        "next_layer_recall_above_load": 1,
        "lru_hit_rate": 1,
        "optimal_hit_rate": 1,
        "segment_coverage": 1,
        "same_token_overlap": 1,
        "any_token_overlap": 1,
        "same_token_overlap_above_any": 1,
        "committee_size": 2,
        "common_committee_size": 1,
        "common_committee_mass": 2,
        "common_committee_load": int(rows.loc[rows["metric"] == "common_committee_size", "value"].iloc[0]),
        "label_overlap": 1,  # of two labels that occur
        "signature_within": 1,
        "signature_between": 1,
        "signature_difference": 1,
    }
    assert set(rows.loc[rows["metric"] == "first_expert_repeats", "label"].dropna()) == {"a", "b"}
    last = frame[(frame["routing"] == "learned") & (frame["layer"] == 4)]
    assert not last["metric"].str.contains("flow|transition|recall").any()  # nothing follows it
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


def test_rows_of_labels_caches_and_token_ids_hold_what_the_arrays_gave(frame, planted, theme):
    documents = planted.tokens()["document"].to_numpy()
    one = planted.experts(2)
    usage = np.zeros((30, 4))
    np.add.at(usage, (np.repeat(documents, 2), one.ravel()), 0.5)
    how = {"num_labels": 3, "permutations": 39}
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == 2)].set_index("metric")
    overlap = measure_label_overlap(usage, theme.codes, **how)
    found = rows.loc["label_overlap"]
    assert (found["label_set"], found["label"]) == ("theme", "a × b")
    assert (found["value"], found["ci_low"], found["p_value"]) == pytest.approx(
        (overlap.value[0, 1], overlap.ci_low[0, 1], overlap.p_value[0, 1])
    )
    committee = measure_committee(usage, theme.codes, **how)
    found = rows.loc["common_committee_size"]
    assert (found["value"], found["label_set"]) == (committee.common_size.value, "theme")
    assert rows.loc["common_committee_load", "expert"].tolist() == np.flatnonzero(committee.common_group).tolist()
    assert rows.loc["committee_size", "value"].tolist() == committee.sizes.value[:2].tolist()
    assert rows.loc["committee_size", "label"].tolist() == ["a", "b"]
    signatures = measure_signatures(usage, theme.codes, **how)
    assert rows.loc["signature_difference", "value"] == pytest.approx(signatures.difference.value)
    cached = measure_cache(one, documents, num_experts=4, permutations=39)
    found = rows.loc["lru_hit_rate"]
    assert (found["label_set"], found["label"], cached.capacity) == ("cache_size", "2", 2)
    assert (found["value"], found["p_value"]) == (cached.recent.value, cached.recent.p_value)
    same = measure_same_token(np.zeros(600, int), one, documents, num_experts=4, permutations=39)
    assert rows.loc["same_token_overlap", "value"] == same.same.value == same.any.value
    recall = measure_next_layer_recall(one, planted.experts(4), documents, num_experts=4, num_following=4)
    found = rows.loc["next_layer_recall"]
    assert (found["label_set"], found["label"]) == ("next_router", "layers.4")
    assert (found["value"], found["null_mean"]) == (recall.recall.value, recall.recall.null_mean)


def test_without_token_ids_or_routed_labels_their_rows_are_absent(planted):
    nothing = Annotation("none", "document", ("a",), np.full(30, -1, np.int32))
    trace = PlantedTrace(planted.tokens()["document"].to_numpy(), {2: planted.experts(2)}, num_experts=4)
    metrics = set(measure_routing(trace, [nothing], cache_size=3, permutations=3)["metric"])
    assert {"lru_hit_rate", "load"} < metrics
    assert not {"same_token_overlap", "label_overlap", "committee_size", "signature_within"} & metrics


def test_logits_and_losses_are_measured_where_they_were_recorded(planted, theme):
    rng = np.random.default_rng(0)
    documents = planted.tokens()["document"].to_numpy()
    logits, losses = rng.normal(size=(600, 4)).astype(np.float32), rng.normal(size=600).astype(np.float32)
    losses[19::20] = np.nan
    trace = PlantedTrace(documents, {2: planted.experts(2)}, num_experts=4, logits={2: logits}, losses=losses,
                         random_routers={2: planted.experts(4)})  # fmt: skip
    frame = measure_routing(trace, [theme], permutations=9)
    rows = frame[frame["metric"].isin(["choice_entropy", "choice_margin", "next_token_loss"])]
    assert (rows["routing"] == "learned").all()
    whole = rows[rows["expert"].isna()]
    assert whole.groupby("metric")["label"].apply(lambda labels: labels.fillna("all").tolist()).to_dict() == {
        "choice_entropy": ["all", "a", "b"],
        "choice_margin": ["all", "a", "b"],
        "next_token_loss": ["all", "a", "b"],
    }
    losses_of = rows[rows["metric"] == "next_token_loss"]
    by_expert = losses_of[losses_of["expert"].notna()].set_index("expert")
    for expert, row in by_expert.iterrows():
        used = (planted.experts(2) == expert).any(axis=1)
        assert row["value"] == pytest.approx(np.nanmean(losses[used]) / np.log(2))
        assert row["layer"] == 2
    assert set(by_expert.index) == set(range(4))
    rows = rows[rows["expert"].isna()]
    loss = rows[rows["metric"] == "next_token_loss"]
    assert loss["layer"].isna().all()
    assert loss["value"].iloc[0] == pytest.approx(np.nanmean(losses) / np.log(2))
    own = losses[documents % 2 == 1]
    assert loss["value"].iloc[2] == pytest.approx(np.nanmean(own) / np.log(2))
    spread = rows[rows["metric"] == "choice_entropy"]
    assert spread["value"].iloc[1] == pytest.approx(choice_entropy(logits)[documents % 2 == 0].mean())
    assert spread["p_value"].notna().tolist() == [False, True, True]


def test_logits_and_losses_are_measured_by_labels_of_tokens():
    rng = np.random.default_rng(4)
    documents = np.repeat(np.arange(10), 20)
    logits, losses = rng.normal(size=(200, 4)).astype(np.float32), rng.normal(size=200).astype(np.float32)
    losses[19::20] = np.nan
    codes = rng.integers(-1, 2, 200).astype(np.int32)
    experts = np.argsort(-logits)[:, :2].astype(np.int16)
    trace = PlantedTrace(documents, {0: experts}, num_experts=4, logits={0: logits}, losses=losses)
    frame = measure_details(trace, Annotation("upos", "token", ("a", "b"), codes), permutations=3)
    frame = frame.set_index(["metric", "label"])["value"]
    following = np.where(np.arange(200) % 20 == 19, -1, np.roll(codes, -1))
    for code, label in enumerate("ab"):
        assert frame["next_token_loss", label] == pytest.approx(np.nanmean(losses[codes == code]) / np.log(2))
        assert frame["predicted_token_loss", label] == pytest.approx(losses[following == code].mean() / np.log(2))
        shares = softmax(logits[codes == code].astype(float), axis=1)
        assert frame["choice_entropy", label] == pytest.approx(entropy(shares, base=2, axis=1).mean())


def test_many_labels_have_pairs_of_the_most_frequent_only(planted):
    codes = np.arange(30, dtype=np.int32) % 3
    many = Annotation("many", "document", tuple(f"label {code:02}" for code in range(70)), np.append(codes[:-1], 69))
    trace = PlantedTrace(planted.tokens()["document"].to_numpy(), {2: planted.experts(2)}, num_experts=4)
    frame = measure_routing(trace, [many], permutations=3)
    pairs = frame.loc[frame["metric"] == "label_overlap", "label"]
    assert pairs.tolist()[:2] == ["label 00 × label 01", "label 00 × label 02"]
    assert len(pairs) == 6


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
