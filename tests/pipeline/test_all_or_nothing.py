"""A stage of several label sets writes the results of all of them or of none; what it leaves out, it names."""

import numpy as np
import pandas as pd
import pytest

import specialize
from listening import Listener
from planted.stored import store_trace
from specialize.annotation import Annotation
from specialize.annotators.store import list_annotations, save_annotation
from specialize.errors import AnnotationError, MeasurementError, TraceError
from specialize.measure.runs import details
from specialize.trace import open_trace

DOCUMENTS = 20
TOKENS = 8 * DOCUMENTS


@pytest.fixture
def run(tmp_path):
    """A run of twenty documents, with three columns: two label sets and one that is none."""
    experts = np.random.default_rng(0).permuted(np.tile(np.arange(4), (TOKENS, 1)), axis=1)[:, :2]
    store_trace(
        tmp_path / "run",
        np.repeat(np.arange(DOCUMENTS), 8),
        {1: experts, 2: experts[::-1]},
        num_experts=4,
        labels={
            "genre": [f"g{row % 2}" for row in range(DOCUMENTS)],
            "kind": [f"k{row // 10}" for row in range(DOCUMENTS)],
            "person": [str(row) for row in range(DOCUMENTS)],
        },
        known={"token_id": np.arange(TOKENS) % 40},
    )
    return tmp_path / "run"


@pytest.fixture
def fail_second(monkeypatch):
    """The details of the second label set that is measured cannot be measured."""
    calls, real = [], details.measure_details

    def once(trace, annotation, **how):
        if calls:
            raise MeasurementError("the second one cannot be measured")
        calls.append(annotation.name)
        return real(trace, annotation, **how)

    monkeypatch.setattr(details, "measure_details", once)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TABLE = pd.DataFrame(
    {"id": [str(row) for row in range(DOCUMENTS)], "mine": list("ab") * 10, "other": ["x"] * 10 + ["y"] * 10}
)


@pytest.mark.parametrize(
    "stage",
    [
        lambda run: specialize.topics(run, fit=False, permutations=9),
        lambda run: specialize.annotate(run, TABLE, permutations=9),
    ],
)
def test_nothing_is_written_where_a_later_label_set_fails(run, fail_second, stage):
    before = files(run)
    with pytest.raises(MeasurementError, match="the second one"):
        stage(run)
    assert files(run) == before


def test_results_of_tags_are_written_together_and_the_tags_are_kept(run, fail_second):
    before = files(run)
    with pytest.raises(MeasurementError, match="the second one"):
        specialize.syntax(run, tags=["position", "frequency"], permutations=9)
    assert {path.name for path in files(run).keys() - before.keys()} == {"position.arrow", "frequency.arrow"}


def test_tags_of_which_none_is_left_are_an_error_before_anything_is_written(run):
    before = files(run)
    with pytest.raises(MeasurementError, match="'position': expected labelled tokens, got none"):
        specialize.syntax(run, tags=["position", "frequency"], skip_positions=8)
    assert files(run) == before


def test_classes_that_cannot_be_made_are_an_error_before_text_is_tagged(run, monkeypatch):
    pytest.importorskip("spacy")
    monkeypatch.setattr("specialize.pipeline.syntax._tag_words", lambda *_, **__: pytest.fail("tagged"))
    with pytest.raises(AnnotationError):
        specialize.syntax(run, tags=["upos", "class"])  # the run has no texts


def test_probe_writes_all_label_sets_or_none(run):
    for name, codes in (("genre", np.arange(DOCUMENTS) % 2), ("same", np.zeros(DOCUMENTS))):
        save_annotation(open_trace(run), Annotation(name, "document", ("a", "b"), codes.astype(np.int32)))
    before = files(run)
    with pytest.raises(MeasurementError, match="at least two documents and two labels"):
        specialize.probe(run, label_sets=["genre", "same"], permutations=2, mlp=False)
    assert files(run) == before


@pytest.mark.parametrize(
    "stage",
    [
        lambda run: specialize.syntax(run, tags=["position"], rule="gate"),
        lambda run: specialize.topics(run, rule="gate"),
        lambda run: specialize.annotate(run, TABLE, rule="gate"),
        lambda run: specialize.routing(run, rule="gate"),
        lambda run: specialize.probe(run, rule="gate"),
        lambda run: specialize.compare(run, run, rule="gate"),
        lambda run: specialize.run("no-model", "no-corpus", run.parent / "new", rule="gate", weights=False),
    ],
)
def test_gate_weights_that_the_trace_lacks_are_missed_first(run, stage):
    before = files(run.parent)
    with pytest.raises((TraceError, MeasurementError), match=r"rule gate: expected .*gate weights"):
        stage(run)
    assert files(run.parent) == before


def test_columns_of_the_users_table_follow_the_rules_of_the_corpus(run):
    table = TABLE.assign(score=np.linspace(0, 1, DOCUMENTS), rare=["one"] + ["all"] * (DOCUMENTS - 1), same="x")
    listener = Listener()
    frame = specialize.annotate(run, table, permutations=9, reporter=listener)
    assert list(frame["label_set"].unique()) == ["mine", "other"]
    assert list_annotations(open_trace(run)) == ("mine", "other")
    assert listener.notes[0] == (
        "columns that are not measured as labels: score (20 documents for 20 values, fewer than 5 each); "
        "rare (all but 1 of 20 documents have one value; 5 others are needed); same (a single value)"
    )
    before = files(run)
    with pytest.raises(AnnotationError, match=r"the data frame: expected .*, got none: score \(20 .*; same \("):
        specialize.annotate(run, table[["id", "score", "same"]])
    assert files(run) == before


def test_labels_of_tokens_may_have_more_values(run):
    tokens = pd.DataFrame({"token": range(TOKENS), "many": [row % 32 for row in range(TOKENS)], "score": range(TOKENS)})
    listener = Listener()
    frame = specialize.annotate(run, tokens, permutations=9, reporter=listener)
    assert list(frame["label_set"].unique()) == ["many"]
    assert listener.notes[0].endswith("as labels: score (160 tokens for 160 values, fewer than 5 each)")


@pytest.mark.parametrize("stage", ["routing", "compare"])
def test_columns_that_are_not_measured_are_named_once(run, stage):
    listener = Listener()
    if stage == "routing":
        specialize.routing(run, permutations=9, reporter=listener)
    else:
        specialize.compare(run, run, reporter=listener)
    reason = "person (20 documents for 20 values, fewer than 5 each)"
    assert [note for note in listener.notes if "not measured" in note] == [
        f"columns that are not measured as labels: {reason}"
    ]
    save_annotation(open_trace(run), Annotation("person", "document", ("a", "b"), np.arange(20, dtype=np.int32) % 2))
    listener = Listener()
    specialize.routing(run, permutations=9, reporter=listener)
    assert not any("not measured" in note for note in listener.notes)  # it is: the run has labels of this name
