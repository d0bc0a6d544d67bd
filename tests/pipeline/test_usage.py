"""A run of usage, without tokens, gives the values of the tokens that were counted, and explains what needs tokens."""

import numpy as np
import pandas as pd
import pytest

import specialize
from listening import Listener
from specialize.errors import AnnotationError, TraceError

DOCUMENTS, LAYERS, EXPERTS, TOP_K = 40, 2, 6, 2
KEY = ["label_set", "label", "layer", "router", "expert", "metric"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same routing as tokens and as counts; labels that the second layer follows, and groups of documents."""
    folder = tmp_path_factory.mktemp("usage")
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(DOCUMENTS), rng.integers(5, 20, DOCUMENTS))
    field = rng.integers(0, 3, DOCUMENTS)
    logits = rng.normal(size=(len(document), LAYERS, EXPERTS))
    logits[:, 1] += np.eye(EXPERTS)[field[document]]
    experts = np.argsort(-logits, axis=2)[:, :, :TOP_K]
    counts = np.zeros((DOCUMENTS, LAYERS, EXPERTS), np.int64)
    for layer, slot in np.ndindex(LAYERS, TOP_K):
        np.add.at(counts[:, layer], (document, experts[:, layer, slot]), 1)
    np.savez(folder / "tokens.npz", experts=experts, document=document)
    np.savez(folder / "usage.npz", usage=counts)
    table = pd.DataFrame({"id": [f"d{n}" for n in range(DOCUMENTS)], "field": np.array(["a", "b", "c"])[field]})
    table.assign(group=rng.integers(0, 20, DOCUMENTS)).to_csv(folder / "d.csv", index=False)
    how = {"documents": folder / "d.csv", "num_experts": EXPERTS}
    tokens = specialize.import_trace("arrays", folder / "tokens.npz", folder / "tokens", **how)
    return tokens, specialize.import_trace("usage", folder / "usage.npz", folder / "usage", **how)


def check_equal(usage, tokens):
    """The rows of a run of usage are those of its tokens, but for rounding in the order of additions."""
    usage, tokens = (frame.sort_values(KEY, ignore_index=True).drop(columns="run") for frame in (usage, tokens))
    assert len(usage)
    pd.testing.assert_frame_equal(usage, tokens, check_exact=False, rtol=1e-9, atol=1e-9)


def test_labels_of_documents(runs):
    tokens, usage = (specialize.topics(run, labels=["field"], fit=False, permutations=30) for run in runs)
    assert "domain_specialization" in set(usage["metric"])
    check_equal(usage, tokens)


def test_labels_of_the_user(runs):
    table = pd.DataFrame({"id": [f"d{n}" for n in range(DOCUMENTS)], "half": ["u", "v"] * (DOCUMENTS // 2)})
    tokens, usage = (specialize.annotate(run, table, permutations=30) for run in runs)
    check_equal(usage, tokens)
    with pytest.raises(AnnotationError, match=r"expected labels of documents, .* has no tokens; got labels of tokens"):
        specialize.annotate(runs[1], pd.DataFrame({"token": [0], "half": ["u"]}))


def test_load_and_experts_of_labels_are_measured_of_routing(runs):
    listener = Listener()
    tokens = specialize.routing(runs[0], permutations=5)
    usage = specialize.routing(runs[1], permutations=5, reporter=listener)
    of_load = {"load", "load_entropy", "load_variation", "load_peak", "dead_experts"}
    of_labels = {
        *("committee_size", "common_committee_size", "common_committee_load", "common_committee_mass"),
        *("label_overlap", "signature_within", "signature_between", "signature_difference"),
    }
    assert set(usage["metric"]) == of_load | of_labels
    tokens = tokens[tokens["metric"].isin(usage["metric"].unique())]
    check_equal(usage, tokens)
    assert any("repeats, co-activation, flow and caches need them" in note for note in listener.notes)


def test_runs_are_compared(runs, tmp_path):
    tokens, usage = runs
    frame = specialize.compare(usage, tokens)
    assert set(frame["metric"]) == {
        f"{mean}difference of {metric}"
        for mean in ("", "mean ")
        for metric in ("mutual_information", "uncertainty_coefficient", "signature_difference")
    }
    np.testing.assert_allclose(frame["value"], 0, atol=1e-9)
    other = specialize.import_trace(
        "usage", tokens.path.parent / "usage.npz", tmp_path / "b", documents=tokens.path.parent / "d.csv"
    )
    assert "difference of load_entropy" in set(specialize.compare(usage, other)["metric"])
    assert "saturation" not in set(specialize.compare(usage, other)["metric"])


@pytest.mark.parametrize(
    ("stage", "how", "what"),
    [
        (specialize.syntax, {}, "syntax"),
        (specialize.vocabulary, {}, "vocabulary"),
        (specialize.probe, {}, "probe"),
        (specialize.affinity, {}, "affinity"),
        (specialize.export, {}, "export"),
        (specialize.topics, {"window": 8}, "topics of windows"),
        (specialize.topics, {"rule": "gate"}, "rule gate"),
        (specialize.routing, {"rule": "first"}, "rule first"),
    ],
)
def test_what_needs_tokens_says_so(runs, stage, how, what):
    with pytest.raises(TraceError, match=f"usage: {what}: expected the experts of each token, got usage by document"):
        stage(runs[1], **how)


def test_the_report_of_a_run_without_tokens(runs, tmp_path):
    usage = runs[1]
    specialize.topics(usage, labels=["field"], fit=False, permutations=30)
    specialize.routing(usage, permutations=5)
    page = specialize.report(usage, tmp_path / "page").read_text(encoding="utf-8")
    assert "usage of experts by document and no tokens, and so no parts of speech" in page
    assert "specialize syntax" not in page
