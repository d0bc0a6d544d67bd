import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from planted import PlantedTrace, plant_document_labels
from planted.paths import PlantedPaths, WordTrace, plant_paths
from planted.stored import store_trace
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure.estimators.probes import probe_paths
from specialize.measure.estimators.word_baseline import Baseline
from specialize.measure.results.schema import RESULT_COLUMNS
from specialize.measure.runs.probes import path_features, probe_trace
from specialize.measure.runs.word_forms import WordForms
from specialize.trace import open_trace

LABELS = ("A", "B", "C", "D")


def annotate(planted: PlantedPaths, name: str = "upos") -> Annotation:
    return Annotation(name, "token", LABELS, planted.codes)


def row(frame, metric, label, routing="learned"):
    found = frame[(frame["metric"] == metric) & (frame["label"] == label) & (frame["routing"] == routing)]
    assert len(found) == 1
    return found.iloc[0]


def covers(found, truth):
    return found["ci_low"] <= truth <= found["ci_high"]


def test_planted_accuracies_are_recovered():
    planted = plant_paths(num_documents=60, tokens_per_document=60, noise=0.2, ambiguity=0.4)
    rng = np.random.default_rng(1)
    random_routers = {layer: rng.integers(0, 4, (3600, 1)).astype(np.int16) for layer in range(3)}
    frame = probe_trace(
        WordTrace(planted, random_routers=random_routers), annotate(planted), run_name="r", permutations=1
    )
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert set(frame["unit"]) == {"share of tokens"}
    assert set(frame["n_tokens"]) == {3600}
    by_path, by_word = 0.8 + 0.2 / 4, 0.6 + 0.4 / 4
    assert covers(row(frame, "probe_accuracy", "linear"), by_path)
    assert row(frame, "probe_accuracy", "linear")["ci_kind"].endswith("(Student t, without refitting)")
    assert row(frame, "selectivity", "linear")["ci_kind"].endswith("without refitting, for one control task)")
    assert covers(row(frame, "probe_accuracy", "mlp"), by_path)
    assert covers(row(frame, "baseline_accuracy", "word form"), by_word)
    assert covers(row(frame, "probe_beyond_word_form", "linear"), by_path - by_word)
    assert row(frame, "baseline_accuracy", "majority")["value"] == pytest.approx(0.25, abs=0.02)
    assert row(frame, "probe_accuracy", "linear", "random")["value"] == pytest.approx(0.25, abs=0.03)
    assert row(frame, "selectivity", "linear", "random")["value"] < 0.1
    linear, control = row(frame, "probe_accuracy", "linear"), row(frame, "control_accuracy", "linear")
    selectivity = row(frame, "selectivity", "linear")
    assert selectivity["value"] == pytest.approx(linear["value"] - control["value"])
    assert selectivity["ci_low"] > 0.2
    assert frame["p_value"].isna().all()  # labels of tokens may not be permuted freely


def test_a_path_that_depends_only_on_the_word_has_no_selectivity():
    planted = plant_paths(num_documents=40, tokens_per_document=60, noise=0.0, ambiguity=0.0)
    of_words = {0: planted.words[:, None].astype(np.int16)}
    planted = PlantedPaths(planted.codes, planted.words, of_words, planted.documents, 40)
    frame = probe_trace(WordTrace(planted), annotate(planted), mlp=False)
    for metric, label in [
        ("probe_accuracy", "linear"),
        ("baseline_accuracy", "word form"),
        ("control_accuracy", "linear"),
    ]:
        assert row(frame, metric, label)["value"] == 1.0
    assert row(frame, "selectivity", "linear")["value"] == 0.0
    assert row(frame, "probe_beyond_word_form", "linear")["value"] == 0.0


def test_the_word_form_baseline_is_the_most_frequent_label_of_other_documents():
    planted = plant_paths(num_documents=6, tokens_per_document=15, noise=0.5, ambiguity=0.5)
    sample = np.flatnonzero(np.random.default_rng(2).random(90) < 0.6)
    measured = probe_paths(
        planted.codes[sample],
        path_features([planted.routings[0][sample]], [4]),
        planted.documents[sample],
        baseline=Baseline(planted.words, planted.codes, planted.documents, sample),
        folds=6,  # each document by itself
        mlp=False,
    )
    words, majority = [], []
    for token in sample:
        other = planted.documents != planted.documents[token]
        same = other & (planted.words == planted.words[token])
        times = np.bincount(planted.codes[same if same.any() else other], minlength=4)
        words.append(times.argmax())
        sampled = planted.codes[sample][other[sample]]
        majority.append(np.bincount(sampled).argmax())
    sizes = np.bincount(planted.documents[sample])

    def corrected(predicted):  # over blocks of unequal size the jackknife moves a share a little
        right = np.asarray(predicted) == planted.codes[sample]
        hits = np.bincount(planted.documents[sample], weights=right)
        without = (hits.sum() - hits) / (sizes.sum() - sizes)
        return 6 * accuracy_score(planted.codes[sample], predicted) - 5 * without.mean()

    assert measured.word_form.value == pytest.approx(corrected(words), abs=1e-12)
    assert measured.majority.value == pytest.approx(corrected(majority), abs=1e-12)


def test_word_forms_of_text_and_of_token_ids():
    planted = plant_paths(num_documents=5, tokens_per_document=20, noise=0.1, ambiguity=0.3)
    with WordForms(WordTrace(planted)) as forms:
        assert forms.kind == "word form"
        numbers = forms.numbers[:]
    pairs = set(zip(numbers.tolist(), planted.words.tolist(), strict=True))
    assert len(pairs) == len(np.unique(planted.words)) == len(np.unique(numbers))
    ids = WordForms(WordTrace(planted, with_text=False))
    assert ids.kind == "token id"
    np.testing.assert_array_equal(ids.numbers, planted.words)
    frame = probe_trace(WordTrace(planted, with_text=False), annotate(planted), mlp=False)
    assert "token id" in set(frame["label"])
    unknown = PlantedTrace(planted.documents, planted.routings, num_experts=4)
    assert WordForms(unknown).kind is None
    metrics = set(probe_trace(unknown, annotate(planted), mlp=False)["metric"])
    assert metrics == {"probe_accuracy", "baseline_accuracy"}


def test_dropped_slots_and_rules():
    experts = np.array([[0, 2], [1, -1], [-1, -1]])
    dense = path_features([experts, experts], [3, 3]).toarray()
    np.testing.assert_array_equal(dense[:, :3], [[1, 0, 1], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_array_equal(dense[:, 3:], dense[:, :3])
    weights = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 1.0]])
    by_gate = path_features([experts], [3], weights=[weights], rule="gate").toarray()
    np.testing.assert_array_equal(by_gate, [[1.5, 0, 0.5], [0, 2, 0], [0, 0, 0]])
    first = path_features([experts], [3], rule="first").toarray()
    np.testing.assert_array_equal(first, [[1, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_the_sample_is_capped_and_seeded():
    planted = plant_paths(num_documents=30, tokens_per_document=40, noise=0.2, ambiguity=0.3)
    trace, annotation = WordTrace(planted), annotate(planted)
    frame = probe_trace(trace, annotation, max_tokens=500, mlp=False, seed=3)
    assert set(frame["n_tokens"]) == {500}
    again = probe_trace(trace, annotation, max_tokens=500, mlp=False, seed=3)
    np.testing.assert_array_equal(frame["value"], again["value"])
    assert not np.array_equal(
        frame["value"], probe_trace(trace, annotation, max_tokens=500, mlp=False, seed=4)["value"]
    )


SHARES = np.full(4, 0.25)


def documents_of(strength, seed=0, num_documents=80):
    channel = (1 - strength) / 6 + strength * np.eye(6)[:4]
    planted = plant_document_labels(SHARES, channel, num_documents=num_documents, tokens_per_document=20, seed=seed)
    trace = PlantedTrace(planted.documents, {0: planted.experts, 1: planted.experts}, num_experts=6)
    return trace, Annotation("topic", "document", LABELS, planted.codes)


def test_labels_of_documents_are_tested_against_permuted_ones():
    frame = probe_trace(*documents_of(0.7), permutations=19, mlp=False)
    assert set(frame["unit"]) == {"share of documents"}
    linear = row(frame, "probe_accuracy", "linear")
    assert linear["p_value"] == pytest.approx(1 / 20)
    assert linear["value"] > 0.8 > 0.4 > linear["null_mean"]
    assert set(frame["label"]) == {"linear", "majority"}
    assert linear["n_documents"] == 80


def test_the_permuted_labels_reject_five_percent_of_noise():
    p_values = []
    for seed in range(60):
        trace, annotation = documents_of(0.0, seed, num_documents=30)
        frame = probe_trace(trace, annotation, permutations=19, folds=2, mlp=False, seed=seed)
        p_values.append(row(frame, "probe_accuracy", "linear")["p_value"])
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15
    assert 0.3 <= np.mean(np.array(p_values) <= 0.5) <= 0.7


def test_misfits_are_named():
    planted = plant_paths(num_documents=4, tokens_per_document=5, noise=0.1, ambiguity=0.1)
    features = path_features([planted.routings[0]], [4])
    same = np.zeros(20, dtype=int)
    with pytest.raises(MeasurementError, match="at least two documents and two labels, got 1 and"):
        probe_paths(planted.codes, features, same)
    with pytest.raises(MeasurementError, match="got 4 and 1"):
        probe_paths(same, features, planted.documents)
    with pytest.raises(MeasurementError, match="folds must be at least 2, got 1"):
        probe_paths(planted.codes, features, planted.documents, folds=1)
    with pytest.raises(MeasurementError, match="cannot be permuted freely"):
        probe_paths(planted.codes, features, planted.documents, permutations=5)
    with pytest.raises(MeasurementError, match="got 19, 20 and 20"):
        probe_paths(planted.codes[1:], features, planted.documents)
    with pytest.raises(MeasurementError, match="experts must be below 2, got 3"):
        path_features([planted.routings[0]], [2])
    with pytest.raises(MeasurementError, match="layers with the same tokens, got lengths 20, 19"):
        path_features([planted.routings[0], planted.routings[1][1:]], [4, 4])
    with pytest.raises(MeasurementError, match="labels of the 20 tokens"):
        probe_trace(WordTrace(planted), Annotation("upos", "token", LABELS, planted.codes[1:]))
    none = Annotation("upos", "token", LABELS, np.full(20, -1, dtype=np.int32))
    with pytest.raises(MeasurementError, match="got 0 and 0"):
        probe_trace(WordTrace(planted), none)


@pytest.fixture
def labels_alone(tmp_path):
    """A run imported without text, with labels of documents only."""
    trace, annotation = documents_of(0.7)
    routings = {layer: trace.experts(layer) for layer in (0, 1)}
    labels = {"genre": [LABELS[code] for code in annotation.codes]}
    store_trace(tmp_path / "run", trace.tokens()["document"].to_numpy(), routings, num_experts=6, labels=labels)
    return tmp_path / "run", trace, annotation


def test_labels_of_documents_are_measured_without_text(call, labels_alone):
    from specialize.measure import measure_specialization, read_results

    run, planted, annotation = labels_alone
    trace = open_trace(run)  # whose groups are those of its documents
    assert (trace.num_tokens, trace.num_documents) == (planted.num_tokens, planted.num_documents)
    code, _, err = call("topics", run, "--labels-only", "--permutations", 99)
    assert code == 0, err
    frame = read_results(run / "topics", "genre")
    expected = measure_specialization(trace, annotation, run_name="run", permutations=99)
    frame = frame[frame["metric"].isin(expected["metric"])]
    for column in ("value", "ci_low", "null_mean", "p_value"):
        np.testing.assert_allclose(frame[column].astype(float), expected[column].astype(float), rtol=1e-9)
    assert frame.loc[frame["metric"] == "uncertainty_coefficient", "p_value"].max() == pytest.approx(1 / 100)


def test_the_command(call, labels_alone):
    run, _, _ = labels_alone
    code, out, err = call("probe", run)
    assert (code, out) == (2, "")
    assert "expected labels to predict, found none" in err.splitlines()[-1]
    assert not (run / "probe").exists()
    assert call("topics", run, "--labels-only", "--permutations", 9)[0] == 0
    code, out, err = call("probe", run, "--permutations", 9, "--no-mlp", "--json")
    assert code == 0, err
    first = json.loads(out)[0]
    assert (first["metric"], first["label"], first["label_set"]) == ("probe_accuracy", "linear", "genre")
    assert first["p_value"] == pytest.approx(0.1)
    assert {path.name for path in (run / "probe").iterdir()} == {"genre.csv", "genre.parquet"}
    code, out, _ = call("probe", run, "--label-set", "genre", "--permutations", 2, "--no-mlp")
    assert code == 0
    assert "probe accuracy" in out
    code, out, err = call("probe", run, "--label-set", "gerne")
    assert (code, out) == (2, "")
    assert "Did you mean 'genre'" in err
