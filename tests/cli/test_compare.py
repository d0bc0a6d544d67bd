"""`specialize routing` and `specialize compare` on runs that came without text."""

import json

import numpy as np
import pytest

from planted import plant_document_labels
from planted.stored import store_trace
from specialize.measure import read_results

LABELS = ("law", "music", "sport")
CHANNEL = np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one corpus and one of another."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed, documents in (("a", 0, 60), ("b", 1, 60), ("other", 2, 50)):
        planted = plant_document_labels(
            np.full(3, 1 / 3), CHANNEL, num_documents=documents, tokens_per_document=12, seed=seed
        )
        genre = [LABELS[code] for code in plant_document_labels(
            np.full(3, 1 / 3), CHANNEL, num_documents=documents, tokens_per_document=12, seed=0
        ).codes]  # fmt: skip
        store_trace(
            folder / name, planted.documents, {0: planted.experts, 1: planted.experts}, num_experts=4,
            labels={"genre": genre},
        )  # fmt: skip
    return folder


def strict(text):
    """Parse JSON that holds no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_routing(runs, call):
    code, out, err = call("routing", runs / "a", "--permutations", 9, "--json")
    assert code == 0, err
    rows = strict(out)
    assert {"load", "dead_experts", "first_expert_repeats", "flow_uncertainty_coefficient"} <= {
        row["metric"] for row in rows
    }
    assert not {"coactivation", "transition"} & {row["metric"] for row in rows}  # many: they are in the files
    assert {row["label"] for row in rows if row["metric"] == "any_expert_repeats"} == {None, *LABELS}
    assert "transition" in set(read_results(runs / "a" / "routing", "routing")["metric"])
    assert {row["label"] for row in rows if row["metric"] == "committee_size"} == set(LABELS)
    assert {row["label"] for row in rows if row["metric"] == "lru_hit_rate"} == {"1"}
    code, out, err = call("routing", runs / "a", "--permutations", 2, "--label", "genre", "--cache-size", 2)
    assert code == 0
    assert "load entropy" in out
    assert "experts in the cache: 2" in out
    assert "labels permuted over documents" in out
    assert "the overlap of occurrences of a token id is left out: the trace has no token ids" in err


def test_compare(runs, call):
    code, out, err = call("compare", runs / "a", runs / "b", "--margin", 0.05, "--json")
    assert code == 0, err
    rows = strict(out)
    mean = [row for row in rows if row["metric"] == "mean difference of mutual_information"]
    assert [(row["label_set"], row["layer"], row["run"]) for row in mean] == [("genre", None, "a − b")]
    assert mean[0]["value"] > 0  # b's routing follows another order of the labels
    assert {row["metric"] for row in rows} >= {"saturation", "equivalence of load_entropy"}
    assert len(read_results(runs / "a" / "compare", "against-b")) == len(rows)
    code, out, _ = call("compare", runs / "a", runs / "b", "-o", runs / "elsewhere")
    assert code == 0
    assert "a − b: differences, with 95 % intervals" in out
    assert "I(expert; label), bits" in out
    assert (runs / "elsewhere" / "against-b.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["routing", "nowhere"], "expected a run folder, found none"),
        (
            ["routing", "a", "--label", "gerne"],
            "labels: expected labels of documents, genre, got 'gerne'. Did you mean",
        ),
        (
            ["routing", "a", "--cache-size", "5"],
            "capacity: expected a number from 1, the experts of a token, to 4, got 5",
        ),
        (["compare", "a", "nowhere"], "expected a run folder, found none"),
        (["compare", "a", "other"], "traces of one corpus, got 60 and 50 documents"),
        (["compare", "a", "b", "--against-random"], "expected RUN_B or --against-random, got both"),
        (["compare", "a", "--against-random"], "expected random routers to compare with, got none"),
        (["compare", "a", "b", "--margin", "0"], "margin: expected a number above 0, got 0"),
        (["compare", "a", "b", "--margin", "nan"], "margin: expected a number above 0, got nan"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(runs, call, monkeypatch, arguments, problem):
    monkeypatch.chdir(runs)
    before = sorted(path for path in runs.rglob("*"))
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert problem in err
    assert len([line for line in err.splitlines() if line.startswith("specialize:")]) == 1
    assert sorted(path for path in runs.rglob("*")) == before
