import numpy as np
import pytest

from planted import PlantedTrace, plant_channel
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import measure_layer, measure_tagger_error
from specialize.measure.runs.tagger import share_labels

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])


@pytest.fixture(scope="module")
def planted():
    return plant_channel(SHARES, CHANNEL, num_documents=200, tokens_per_document=40, concentration=40, seed=3)


def confuse(codes, share, seed=0):
    """Take each label for the next one, with a known probability."""
    wrong = np.random.default_rng(seed).random(len(codes)) < share
    return np.where(wrong, (codes + 1) % 3, codes).astype(np.int32)


def test_a_known_error_is_recovered(planted):
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=4)
    # labels are matched by name, whatever their order
    gold = Annotation("gold_upos", "token", ("a", "b", "c"), planted.codes)
    tagged = confuse(planted.codes, 0.2)
    predicted = Annotation("upos", "token", ("c", "b", "a"), (2 - tagged).astype(np.int32))
    frame = measure_tagger_error(trace, predicted, gold)
    assert set(frame["label_set"]) == {"upos against gold_upos"}
    accuracy = frame[frame["metric"] == "tagger_accuracy"].iloc[0]
    assert accuracy["value"] == (tagged == planted.codes).mean()
    sides = [
        measure_layer(
            codes, planted.experts, planted.documents, level="token", num_labels=3, num_experts=4, permutations=0
        )
        for codes in (tagged, planted.codes)
    ]
    difference = frame[frame["metric"] == "difference of uncertainty_coefficient"].iloc[0]
    apart = sides[0].uncertainty_coefficient.value - sides[1].uncertainty_coefficient.value
    assert difference["value"] == pytest.approx(apart)
    assert difference["ci_high"] < 0  # errors weaken the association


def test_accuracy_by_tag_is_covered():
    precision = 0.8 * SHARES / (0.8 * SHARES + 0.2 * np.roll(SHARES, 1))
    truth = {("tagger_recall", label): 0.8 for label in "abc"} | {("tagger_accuracy", "all"): 0.8}
    truth |= {("tagger_precision", label): share for label, share in zip("abc", precision, strict=True)}
    held = []
    for seed in range(40):
        drawn = plant_channel(SHARES, CHANNEL, num_documents=100, tokens_per_document=20, seed=seed)
        trace = PlantedTrace(drawn.documents, {}, num_experts=4)
        gold, tagged = (
            Annotation("upos", "token", ("a", "b", "c"), codes)
            for codes in (drawn.codes, confuse(drawn.codes, 0.2, seed=1000 + seed))
        )
        frame = measure_tagger_error(trace, tagged, gold)
        rows = frame.assign(label=frame["label"].fillna("all")).set_index(["metric", "label"])
        held += [rows.loc[key, "ci_low"] < share < rows.loc[key, "ci_high"] for key, share in truth.items()]
    assert 0.90 <= np.mean(held) <= 0.98


def test_a_perfect_tagger_changes_nothing(planted):
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=4)
    gold = Annotation("gold_upos", "token", ("a", "b", "c"), planted.codes)
    some = np.where(np.arange(len(planted.codes)) % 3 == 0, -1, planted.codes).astype(np.int32)
    frame = measure_tagger_error(trace, Annotation("upos", "token", ("a", "b", "c"), some), gold)
    assert (frame.loc[frame["metric"].str.startswith("tagger"), "value"] == 1).all()
    assert (frame.loc[frame["metric"].str.startswith("difference"), "value"] == 0).all()
    assert (frame["n_tokens"] == (some >= 0).sum()).all()


def test_other_label_sets_are_recognised(planted):
    gold = Annotation("gold_dep", "token", ("a", "b"), np.zeros(10, np.int32))
    assert share_labels(Annotation("dep", "token", ("x", "a"), np.array([1] * 9 + [0], np.int32)), gold)
    assert not share_labels(Annotation("dep", "token", ("x", "a"), np.array([1] * 8 + [0, 0], np.int32)), gold)
    assert not share_labels(Annotation("dep", "token", ("a",), np.full(10, -1, np.int32)), gold)
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=4)
    with pytest.raises(MeasurementError, match="labels of the 8000 tokens of the trace, got 10 labels of tokens"):
        measure_tagger_error(trace, gold, gold)
    nothing = Annotation("upos", "token", ("a",), np.full(8000, -1, np.int32))
    with pytest.raises(MeasurementError, match="expected tokens labelled in both upos and upos, got none"):
        measure_tagger_error(trace, nothing, nothing)
