"""Import, export and affinity as a user gives them; where ESFT's dumps are, its published figures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from planted.dumps import NUM_EXPERTS, TOP_K, plant_routing, write_esft
from specialize.trace import open_trace

DUMPS = Path(__file__).parents[3] / "shared" / "dumps" / "esft"


@pytest.fixture
def dump(tmp_path):
    return write_esft(tmp_path / "dump", plant_routing())


def test_import_export_and_affinity(call, dump, tmp_path):
    run = tmp_path / "run"
    code, out, err = call("import", "esft", dump, "-o", run, "--layers", "9-11", "--json")
    assert code == 0
    assert "importing" in err
    assert f"{NUM_EXPERTS} experts, inferred from the largest id" in err
    assert json.loads(out) == {
        "run": str(run), "documents": 3, "tokens": 10, "layers": 3, "num_experts": NUM_EXPERTS, "top_k": TOP_K,
        "contents": ["weights"],
    }  # fmt: skip
    assert open_trace(run).manifest["command"].startswith("specialize import esft ")
    code, out, _ = call("export", run, "--to", "parquet")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == [
        ["file", "rows"],
        ["documents.parquet", "3"],
        ["routing.parquet", str(10 * 3 * TOP_K)],
        ["tokens.parquet", "10"],
    ]
    assert out.splitlines()[-1] == str(run / "parquet")
    code, out, _ = call("export", run, "-o", tmp_path / "out", "--json")
    assert json.loads(out)["files"].keys() == {"documents.parquet", "routing.parquet", "tokens.parquet"}
    code, out, _ = call("affinity", run, "--top-p", "0.5", "--by", "gate")
    assert code == 0
    assert "Experts that reach 0.5 by mean gate weight" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["9", "10", "11"]


def test_routing_without_weights_or_texts(call, tmp_path):
    np.save(tmp_path / "a.npy", plant_routing().experts[0])
    run = tmp_path / "run"
    code, out, _ = call("import", "vllm", tmp_path / "a.npy", "-o", run)
    assert code == 0
    facts = dict(re.split(r"  +", line.rstrip()) for line in out.splitlines()[:-1])
    assert (facts["documents"], facts["tokens"], facts["besides expert ids"]) == ("1", "5", "nothing")
    assert out.splitlines()[-1] == str(run)
    code, out, _ = call("affinity", run, "--json")
    assert json.loads(out)["layers"]["2"]["gate_scores"] is None
    expect_one_line(call("affinity", run, "--by", "gate"), "expected gate weights of the chosen experts")
    expect_one_line(call("syntax", run), "expected a text for each of the 1 documents, 1 have none")
    expect_one_line(call("topics", run), "expected a text for each of the 1 documents, 1 have none")


def test_texts_without_places(call, tmp_path):
    np.save(tmp_path / "a.npy", plant_routing().experts[0])
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "Some words."}')
    call("import", "vllm", tmp_path / "a.npy", "-o", tmp_path / "run", "--documents", tmp_path / "documents.jsonl")
    expect_one_line(call("syntax", tmp_path / "run"), "expected tokens with their positions in the text")


def expect_one_line(result: tuple[int, str, str], pattern: str) -> None:
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("specialize: ")]
    assert lines == err.splitlines()[-1:]
    assert re.search(pattern, lines[0])


def test_mistakes_are_one_line_and_exit_code_2(call, dump, tmp_path):
    run = tmp_path / "run"
    expect_one_line(call("import", "esf", dump, "-o", run), "got 'esf'. Did you mean 'esft'")
    expect_one_line(call("import", "esft", tmp_path / "no", "-o", run), "found no such file or folder")
    expect_one_line(call("import", "esft", dump, "-o", run, "--layers", "1-x"), "layers: expected numbers such as")
    expect_one_line(call("import", "esft", dump, "-o", run, "--layers", "9,9"), "every layer once")
    expect_one_line(call("import", "esft", dump, "-o", run, "--layers", "12"), r"layers among 9 to 11 .* got 12")
    expect_one_line(call("import", "esft", dump, "-o", run, "--num-experts", "3"), r"expert id from 0 to 2, got")
    expect_one_line(call("import", "esft", dump, "-o", run, "--top-k", "3"), r"a multiple of k = 3, got 10")
    expect_one_line(call("import", "esft", dump, "-o", dump), "expected a new or empty folder")
    inside_a_file = next(dump.iterdir()) / "run"
    expect_one_line(call("import", "esft", dump, "-o", inside_a_file), "could not be created .*choose another folder")
    expect_one_line(call("export", tmp_path / "no"), "expected a run folder")
    expect_one_line(call("affinity", tmp_path / "no"), "expected a run folder")
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    assert call("export", dump, "--to", "excel")[0] == 2


def test_inputs_with_names_are_labelled_and_scored_apart(call, dump, tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    code, _, err = call("import", "esft", f"a={dump}", f"b={dump}", "-o", run, "--label", "task")
    assert code == 0, err
    assert open_trace(run).documents()["task"].tolist() == ["a"] * 3 + ["b"] * 3
    call("import", "esft", dump, "-o", alone)
    expected = json.loads(call("affinity", alone, "--json")[1])["layers"]
    found = json.loads(call("affinity", run, "--label", "task", "--json")[1])
    assert (found["label"], found["values"]) == ("task", {"a": expected, "b": expected})
    code, out, _ = call("affinity", run, "--label", "task")
    assert [line.split()[:2] for line in out.splitlines()[1:4]] == [["layer", "task"], ["9", "a"], ["9", "b"]]
    expect_one_line(call("affinity", run, "--label", "tasks"), r"label: .* \(task\), got 'tasks'. Did you mean 'task'")


def test_mistakes_in_names_of_inputs_are_one_line(call, dump, tmp_path):
    run = tmp_path / "run"
    expect_one_line(call("import", "esft", dump, dump, "-o", run), "expected NAME=PATH for each of several inputs")
    expect_one_line(call("import", "esft", f"a={dump}", f"a={dump}", "-o", run), "another name for each input, got 'a'")
    expect_one_line(call("import", "esft", dump, "-o", run, "--label", "task"), "label: expected inputs with names")
    (tmp_path / "a=b").symlink_to(dump)
    assert call("import", "esft", tmp_path / "a=b", "-o", run)[0] == 0


@pytest.mark.skipif(not DUMPS.is_dir(), reason=f"ESFT's dumps are not in {DUMPS}")
def test_the_published_selections_of_esft_from_one_labelled_run(call, tmp_path):
    tasks = sorted(folder.name for folder in DUMPS.iterdir() if folder.is_dir())
    inputs = [f"{task}={DUMPS / task}" for task in tasks]
    assert call("import", "esft", *inputs, "-o", tmp_path / "run", "--label", "task")[0] == 0
    values = json.loads(call("affinity", tmp_path / "run", "--label", "task", "--top-p", "0.2", "--json")[1])["values"]
    for task in tasks:
        published = json.loads((DUMPS / task / "expert_config.json").read_text())["experts"]
        assert {layer: each["selected"] for layer, each in values[task].items()} == published


@pytest.mark.skipif(not DUMPS.is_dir(), reason=f"ESFT's dumps are not in {DUMPS}")
@pytest.mark.parametrize("task", ["intent", "law", "summary"])
def test_the_published_scores_and_selections_of_esft(call, tmp_path, task):
    run = tmp_path / task
    assert call("import", "esft", DUMPS / task, "-o", run)[0] == 0
    layers = json.loads(call("affinity", run, "--top-p", "0.2", "--json")[1])["layers"]
    published = json.loads((DUMPS / task / "summary.json").read_text())
    selections = json.loads((DUMPS / task / "expert_config.json").read_text())["experts"]
    assert list(layers) == [str(layer) for layer in range(1, 27)]
    assert {layer: each["selected"] for layer, each in layers.items()} == selections
    for kind in ("token_scores", "gate_scores"):
        for layer, scores in published[kind].items():
            assert layers[layer][kind].keys() == scores.keys()
            difference = max(abs(layers[layer][kind][expert] - score) for expert, score in scores.items())
            assert difference < 5.1e-5  # published with four decimals; gate weights are stored in half precision
