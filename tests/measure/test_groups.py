"""The order of a corpus does not matter, and documents that belong together stay together."""

import numpy as np
import pytest

from planted import plant_document_labels
from planted.manifests import edit_manifest
from planted.stored import store_trace
from specialize.annotators import annotate_column, label_columns
from specialize.measure import measure_specialization
from specialize.trace import open_trace

LABELS = 4
CHANNEL = 0.04 + 0.6 * np.roll(np.eye(10)[:LABELS], 1, axis=1)
CHANNEL /= CHANNEL.sum(axis=1, keepdims=True)


def store(run, order, *, copies=1, books=None):
    """A corpus of 200 documents, 50 of each label, of 20 tokens each, in an order; the text is that of its number."""
    parts = [
        plant_document_labels(np.eye(LABELS)[label], CHANNEL, num_documents=50, tokens_per_document=20, seed=label)
        for label in range(LABELS)
    ]
    experts = np.concatenate([part.experts.reshape(50, 20) for part in parts])
    order = np.tile(order, copies)
    labels = {"topic": [f"t{row // 50}" for row in order]}
    if books is not None:
        labels["book"] = [f"b{books[row]}" for row in order]
    store_trace(
        run,
        np.repeat(np.arange(len(order)), 20),
        {0: experts[order].reshape(-1, 1)},
        num_experts=10,
        labels=labels,
        texts=[f"Text {row}." for row in order],
    )
    if books is not None:
        edit_manifest(run, lambda manifest: manifest | {"corpus": {"source": "c", "group": "book"}})
    return open_trace(run)


def measure(trace):
    frame = measure_specialization(trace, annotate_column(trace.documents(), "topic"), permutations=0)
    return frame[frame["expert"].isna()].set_index("metric")


def test_a_sorted_a_shuffled_and_a_reversed_corpus_give_the_same_numbers(tmp_path):
    orders = {
        "sorted": np.arange(200),
        "shuffled": np.random.default_rng(0).permutation(200),
        "reversed": np.arange(200)[::-1],
    }
    first, *others = (measure(store(tmp_path / name, order)) for name, order in orders.items())
    for name in ("value", "ci_low", "ci_high"):
        for other in others:
            np.testing.assert_allclose(other[name].astype(float), first[name].astype(float), atol=1e-10)
    entropy = first.loc["label_entropy"]
    assert entropy["value"] <= 2  # log2 of four labels, which are equally frequent
    assert entropy["ci_low"] <= 2 == entropy["ci_high"]


def test_copies_of_documents_do_not_move_the_value_towards_the_plug_in(tmp_path):
    """Each document twice is no more evidence: value and interval are those of one copy, as are the blocks."""
    once = measure(store(tmp_path / "once", np.arange(200)))
    trace = store(tmp_path / "twice", np.arange(200), copies=2)
    assert len(set(trace.groups)) == 200
    twice = measure(trace)
    for name in ("value", "ci_low", "ci_high"):
        assert twice.loc["mutual_information", name] == pytest.approx(once.loc["mutual_information", name], abs=1e-10)


def test_a_column_says_which_documents_belong_together(tmp_path):
    books = np.arange(200) % 25
    trace = store(tmp_path / "run", np.arange(200), books=books)
    np.testing.assert_array_equal(trace.groups[:, None] == trace.groups, books[:, None] == books)
    kind = measure(trace).loc["mutual_information", "ci_kind"]
    assert kind.startswith(
        "unreliable, too little data (25 groups, at least 30 needed): 95 % jackknife over 25 document"
    )
    assert label_columns(trace.documents(), group=trace.group_column) == ("topic",)
    moved = store(tmp_path / "moved", np.arange(200)[::-1], books=books)
    np.testing.assert_array_equal(moved.groups, trace.groups[::-1])  # numbers of what a document is, not of its place


def test_documents_without_a_text_are_groups_of_their_own(tmp_path):
    store_trace(tmp_path / "run", np.arange(5), {0: np.zeros((5, 1), int)}, num_experts=2)
    assert len(set(open_trace(tmp_path / "run").groups)) == 5
