import numpy as np
import pytest

from planted import plant_channel, plant_document_labels, plant_noise
from planted.streams import PlantedRun
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import RESULT_COLUMNS, compare_traces, measure_layer, measure_repeats, measure_saturation

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])


@pytest.fixture(scope="module")
def planted():
    return plant_channel(SHARES, CHANNEL, num_documents=60, tokens_per_document=30, concentration=20, seed=1)


@pytest.fixture(scope="module")
def noise():
    return plant_noise(SHARES, CHANNEL[0], num_documents=60, tokens_per_document=30, seed=2)


@pytest.fixture(scope="module")
def upos(planted):
    return Annotation("upos", "token", ("a", "b", "c"), planted.codes)


def run(experts, documents, **options):
    return PlantedRun(documents, {3: experts, 5: experts}, num_experts=4, **options)


def cell(frame, metric, layer=3, label_set="upos"):
    rows = frame[frame["metric"] == metric]
    rows = rows[rows["layer"].isna() if layer is None else rows["layer"] == layer]
    return rows[rows["label_set"].isna() if label_set is None else rows["label_set"] == label_set].iloc[0]


def test_values_are_the_differences_of_what_each_side_measures(planted, noise, upos):
    frame = compare_traces(
        run(planted.experts, planted.documents), run(noise.experts, planted.documents), [upos], margin=0.1
    )
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert set(frame["run"]) == {"planted − planted"}
    assert set(frame["routing"]) == {"learned"}
    sides = [
        measure_layer(
            planted.codes, experts, planted.documents, level="token", num_labels=3, num_experts=4, permutations=0
        )
        for experts in (planted.experts, noise.experts)
    ]
    for metric in ("mutual_information", "uncertainty_coefficient"):
        row = cell(frame, f"difference of {metric}")
        one, other = (getattr(side, metric).value for side in sides)
        assert row["value"] == pytest.approx(one - other)
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert row["p_value"] < 1e-6  # noise is independent of the labels
    repeats = [
        measure_repeats(experts, planted.documents, num_experts=4, permutations=0)[0]
        for experts in (planted.experts, noise.experts)
    ]
    row = cell(frame, "difference of first_expert_repeats", label_set=None)
    assert row["value"] == pytest.approx(repeats[0].first.value - repeats[1].first.value)
    row = cell(frame, "saturation", label_set=None)
    expected = measure_saturation(planted.experts, noise.experts, planted.documents, num_experts=4)
    assert (row["value"], row["null_mean"]) == (expected.value, expected.null_mean)


def test_the_mean_over_layers_is_one_number(planted, noise, upos):
    first = PlantedRun(planted.documents, {0: planted.experts, 1: noise.experts}, num_experts=4)
    second = PlantedRun(planted.documents, {0: noise.experts, 1: noise.experts}, num_experts=4)
    frame = compare_traces(first, second, [upos])
    per_layer = [cell(frame, "difference of mutual_information", layer)["value"] for layer in (0, 1)]
    mean = cell(frame, "mean difference of mutual_information", None)
    assert mean["value"] == pytest.approx(np.mean(per_layer))
    assert per_layer[1] == 0
    assert mean["router"] != mean["router"]  # missing: it is of no single router


def test_a_side_compared_with_itself_is_equivalent(planted, upos):
    own = run(planted.experts, planted.documents)
    frame = compare_traces(own, run(planted.experts, planted.documents), [upos], margin=0.01)
    assert (frame.loc[frame["metric"].str.contains("difference"), "value"] == 0).all()
    assert (frame.loc[frame["metric"].str.startswith("equivalence"), "p_value"] == 0).all()
    assert (frame.loc[frame["metric"] == "saturation", "value"] == 1).all()


def test_a_model_against_its_random_routers(planted, noise, upos):
    both = run(planted.experts, planted.documents, random_routers={3: noise.experts, 5: noise.experts})
    frame = compare_traces(both, annotations=[upos])
    assert set(frame["routing"]) == {"learned − random"}
    assert "saturation" not in set(frame["metric"])  # their expert indices are unrelated
    apart = compare_traces(both, run(noise.experts, planted.documents), [upos])
    for column in ("value", "ci_low", "ci_high", "p_value"):
        own = cell(frame, "difference of mutual_information")
        assert own[column] == pytest.approx(cell(apart, "difference of mutual_information")[column])
    with pytest.raises(MeasurementError, match="expected random routers to compare with, got none"):
        compare_traces(run(planted.experts, planted.documents))


def test_with_two_tokenizers_labels_of_documents_are_left(planted, upos):
    theirs = plant_document_labels(SHARES, CHANNEL, num_documents=60, tokens_per_document=20, seed=4)
    finer = plant_document_labels(SHARES, CHANNEL, num_documents=60, tokens_per_document=35, seed=5)
    theme = Annotation("theme", "document", ("a", "b", "c"), theirs.codes)
    one, two = run(theirs.experts, theirs.documents), run(finer.experts, finer.documents)
    frame = compare_traces(one, two, [upos, theme])
    assert set(frame["label_set"]) == {"theme"}
    assert not frame["metric"].str.contains("saturation|repeats|load").any()
    with pytest.raises(MeasurementError, match="only labels of documents can be compared"):
        compare_traces(one, two, [upos])


def test_what_cannot_be_compared_raises(planted, noise, upos):
    own = run(planted.experts, planted.documents)
    fewer = plant_noise(SHARES, CHANNEL[0], num_documents=59, tokens_per_document=30)
    with pytest.raises(MeasurementError, match="traces of one corpus, got 60 and 59 documents"):
        compare_traces(own, run(fewer.experts, fewer.documents, digest="other"))
    other = run(noise.experts, planted.documents, digest="other", ids=[f"x{row}" for row in range(60)])
    with pytest.raises(MeasurementError, match="expected traces of one corpus, got different documents"):
        compare_traces(own, other)
    elsewhere = PlantedRun(planted.documents, {8: planted.experts}, num_experts=4)
    with pytest.raises(MeasurementError, match="same layers, got layers 3, 5 and 8"):
        compare_traces(own, elsewhere)
    short = Annotation("upos", "token", ("a", "b", "c"), planted.codes[1:])
    with pytest.raises(MeasurementError, match="labels of the 1800 tokens of the trace, got 1799"):
        compare_traces(own, own, [short])


def test_models_of_different_experts_have_no_saturation(planted, upos):
    wider = PlantedRun(planted.documents, {3: planted.experts, 5: planted.experts}, num_experts=9)
    frame = compare_traces(run(planted.experts, planted.documents), wider, [upos])
    assert "saturation" not in set(frame["metric"])
    assert cell(frame, "difference of mutual_information")["value"] == pytest.approx(0, abs=1e-12)


def test_layers_that_routed_different_tokens_share_their_blocks(planted, noise, upos):
    """Tokens without an expert in one layer change neither the blocks of its differences nor those of the mean."""
    dropped = planted.experts.copy()
    dropped[planted.documents < 7] = -1
    first = PlantedRun(planted.documents, {0: planted.experts, 1: dropped}, num_experts=4)
    frame = compare_traces(first, PlantedRun(planted.documents, {0: noise.experts, 1: dropped}, num_experts=4), [upos])
    rows = frame[frame["metric"] == "difference of load_entropy"].set_index("layer")
    assert rows["n_tokens"].tolist() == [1800, (60 - 7) * 30]
    assert rows["n_documents"].tolist() == [60, 53]
    theme = Annotation("theme", "document", ("a", "b"), (np.arange(60) % 2).astype(np.int32))
    both = compare_traces(first, PlantedRun(planted.documents, {0: noise.experts, 1: dropped}, num_experts=4), [theme])
    mean = cell(both, "mean difference of mutual_information", None, "theme")
    own = [cell(both, "difference of mutual_information", layer, "theme")["value"] for layer in (0, 1)]
    assert mean["value"] == pytest.approx(np.mean(own))


def test_a_trace_without_tokens_raises(planted):
    nothing = PlantedRun(np.zeros(0, np.int32), {3: np.zeros((0, 1), np.int16)}, num_experts=4)
    with pytest.raises(MeasurementError, match=r"expected tokens in both, got none|traces of one corpus"):
        compare_traces(nothing, nothing)
