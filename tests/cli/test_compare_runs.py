"""What `routing` and `compare` write and say where runs have random routers, two tokenizers or labels of their own."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from planted import plant_document_labels
from specialize.annotation import Annotation
from specialize.annotators.store import save_annotation
from specialize.measure import RESULT_COLUMNS, read_results
from specialize.trace import open_trace
from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import Shard, TraceWriter

SHARES = np.full(3, 1 / 3)
CHANNEL = np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])


def store(run, *, tokens=10, random_routers=True, seed=0):
    """Write a trace without text: layer 0 has two routers, each with a control beside it."""
    planted = plant_document_labels(SHARES, CHANNEL, num_documents=45, tokens_per_document=tokens, seed=seed)
    routings = ("learned", "random") if random_routers else ("learned",)
    routers = [
        RouterSpec(0, f"layers.0.{name}", 4, 1, routing=routing) for routing in routings for name in ("up", "down")
    ]
    rng = np.random.default_rng(seed)
    experts = [planted.experts, planted.experts[::-1], *rng.integers(0, 4, (2, *planted.experts.shape))][: len(routers)]
    columns = {
        "id": [str(row) for row in range(45)],
        "text": [None] * 45,
        "genre": [f"g{row % 3}" for row in range(45)],
    }
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    fields = {
        "document": planted.documents,
        "sequence": planted.documents,
        "position": np.arange(len(planted.documents)) % tokens,
        "phase": np.zeros(len(planted.documents), dtype=np.uint8),
        **dict.fromkeys(("token_id", "char_start", "char_end"), np.full(len(planted.documents), UNKNOWN)),
    }
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch(list(columns.values()), schema=schema)])
        writer.describe(routers=[router.as_dict() for router in routers], contents=[])
        writer.write_shard(Shard(fields, [{"experts": each} for each in experts]))
        writer.finish()


def label(run, name, labels, step=1):
    trace = open_trace(run)
    size = trace.num_tokens if name == "upos" else trace.num_documents
    level = "token" if name == "upos" else "document"
    codes = (np.arange(size) // step % len(labels)).astype(np.int32)
    save_annotation(trace, Annotation(name, level, labels, codes))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """a and b have the same tokens, finer has others; mine is labelled differently in a and b."""
    folder = tmp_path_factory.mktemp("runs")
    store(folder / "a")
    store(folder / "b", seed=1)
    store(folder / "finer", tokens=14, random_routers=False)
    for run in ("a", "b", "finer"):
        label(folder / run, "upos", ("noun", "verb"))
    label(folder / "a", "mine", ("x", "y"))
    label(folder / "b", "mine", ("x", "y"), step=2)
    return folder


def strict(text):
    """Parse JSON that holds no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def assert_files_agree(folder, name):
    """The CSV holds the rows of the Parquet file."""
    csv, parquet = pd.read_csv(folder / f"{name}.csv"), read_results(folder, name)
    assert list(csv.columns) == list(RESULT_COLUMNS)
    assert len(csv) == len(parquet) > 0
    for column in ("value", "ci_low", "p_value", "q_value"):
        np.testing.assert_allclose(csv[column], parquet[column])
    for column in ("routing", "router", "metric"):
        assert csv[column].fillna("").tolist() == parquet[column].fillna("").tolist()


def test_routing_files_agree_and_shadows_come_last(runs, call):
    code, out, err = call("routing", runs / "a", "--permutations", 5, "--json")
    assert code == 0, err
    assert_files_agree(runs / "a" / "routing", "routing")
    routings = [row["routing"] for row in strict(out)]
    assert routings == sorted(routings)
    assert set(routings) == {"learned", "random"}
    _, table, _ = call("routing", runs / "a", "--permutations", 1)
    load, repeats, predicted, of_labels = table.split("\n\n")
    assert of_labels.startswith("Labels of documents")
    for each in (load, repeats, predicted):
        assert [line.split()[:3] for line in each.splitlines() if "layers.0" in line] == [
            ["0", f"layers.0.{name}", routing] for routing in ("learned", "random") for name in ("up", "down")
        ]


def test_without_a_second_run_shadows_are_compared(runs, call):
    """Naming the option changes nothing."""
    answers = [call("compare", runs / "a", *option, "--json") for option in ([], ["--against-random"])]
    assert answers[0][:2] == answers[1][:2]
    code, out, _ = answers[0]
    rows = strict(out)
    assert code == 0
    assert {(row["routing"], row["run"]) for row in rows} == {("learned − random", "a")}
    assert {row["label_set"] for row in rows} == {None, "genre", "mine", "upos"}
    assert "saturation" not in {row["metric"] for row in rows}
    assert_files_agree(runs / "a" / "compare", "against-random")


def test_the_table_tells_routers_of_one_layer_apart(runs, call):
    _, table, _ = call("compare", runs / "a", runs / "b")
    agreement, least, differences = table.split("\n\n")
    assert [line.split()[-2:] for line in least.splitlines()[2:] if "upos" in line]
    assert "saturation" in agreement
    routers = [["0", f"layers.0.{name}", routing] for routing in ("learned", "random") for name in ("up", "down")]
    assert [line.split()[:3] for line in agreement.splitlines() if "layers.0" in line] == routers
    rows = [line.split() for line in differences.splitlines()]
    assert [row[:3] for row in rows if row[:1] == ["0"] and "entropy," in row] == routers
    assert [row[1] for row in rows if row[0] == "mean" and "entropy," in row] == ["learned", "random"]
    assert_files_agree(runs / "a" / "compare", "against-b")


def test_labels_that_differ_between_runs_are_left_out_and_named(runs, call):
    _, out, err = call("compare", runs / "a", runs / "b", "--json")
    assert "mine is left out: the runs label it differently" in err
    assert {row["label_set"] for row in strict(out)} == {None, "genre", "upos", "position"}


def test_of_two_tokenizers_labels_of_documents_are_compared(runs, call):
    code, out, err = call("compare", runs / "a", runs / "finer", "--margin", 0.5, "--json")
    assert code == 0
    assert "upos is left out: the runs have different tokens" in err
    rows = strict(out)
    assert {row["label_set"] for row in rows} == {"genre"}
    assert {row["metric"].removeprefix("mean ") for row in rows} == {
        f"{kind} of {metric}"
        for kind in ("difference", "equivalence")
        for metric in ("mutual_information", "uncertainty_coefficient", "signature_difference")
    }


@pytest.mark.parametrize("command", [("routing", "a"), ("compare", "a", "b")])
def test_results_that_cannot_be_written_are_one_line(runs, call, monkeypatch, tmp_path, command):
    """A file lies where the folder of the results should be."""
    monkeypatch.chdir(tmp_path)
    for run in ("a", "b"):
        store(tmp_path / run)
    (tmp_path / "a" / command[0]).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    assert len([line for line in err.splitlines() if line.startswith("specialize:")]) == 1
    assert "could not be written" in err
    assert (tmp_path / "a" / command[0]).read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_with_nothing_in_common_are_one_line(runs, call, tmp_path):
    """Two tokenizers, and labels of which no document has any."""
    for name, tokens in (("one", 10), ("two", 12)):
        store(tmp_path / name, tokens=tokens, random_routers=False)
        trace = open_trace(tmp_path / name)
        save_annotation(trace, Annotation("genre", "document", ("x",), np.full(45, -1, dtype=np.int32)))
    code, out, err = call("compare", tmp_path / "one", tmp_path / "two")
    assert (code, out) == (2, "")
    assert "expected labels of documents that both sides routed, got none" in err.splitlines()[-1]
    assert not (tmp_path / "one" / "compare").exists()
