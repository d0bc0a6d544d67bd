"""What `specialize ablate` prints, and what it answers to mistakes: one line, exit status 2, and nothing is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import specialize
from tiny_olmoe import save_olmoe

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = ("--permutations", "9")


@pytest.fixture(scope="module")
def ablated(checkpoint, corpus, tmp_path_factory) -> Path:
    """A run with labels of documents, whose first layer was ablated."""
    run = tmp_path_factory.mktemp("ablated") / "run"
    specialize.trace_corpus(checkpoint, corpus, run, text_column="body", id_column="name")
    specialize.ablate(checkpoint, run, layers=[0], permutations=9)
    return run


@pytest.fixture
def run(ablated, tmp_path) -> Path:
    return Path(shutil.copytree(ablated, tmp_path / "run"))


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an error."""
    code, out, err = answer
    *before, line = err.strip().splitlines()
    assert (code, out) == (2, "")
    assert line.startswith("specialize: "), err
    assert not any("Traceback" in each for each in before)
    return line


def state(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


MISTAKES = {
    ("--layers", "99"): r"layers: expected layers with a router (0, 1), got 99",
    ("--layers", "x"): r"--layers: expected numbers such as 0,3, got 'x'",
    ("--layers", "0,"): r"--layers: expected numbers such as 0,3, got '0,'",
    ("--experts", "99"): r"experts: expected numbers from 0 to 3, got 99",
    ("--label", "nope"): r"label: expected a label set of the run (",
    ("--label", "theme=NOPE"): r"label: expected a label of theme (music, rivers), got 'NOPE'",
    ("--label", "teme=music"): r"Did you mean 'theme'?",
    ("--label", "theme", "--top", "4"): r"top: expected fewer than the 4 experts of a layer, got 4",
    ("--no-singles",): r"expected experts to switch off, got none",
    ("--ranking", "salience"): r"saliency",
    ("--batch-tokens", "100"): r"expected the batch size (--batch-tokens) of the conditions that are there",
    ("--documents", "3"): r"expected the documents of the conditions that are there",
    ("--label", "theme", "--mode", "reroute", "--top", "3"): r"expected at least k = 2 of the 4 experts to be left",
}


@pytest.mark.parametrize("options", MISTAKES, ids=" ".join)
def test_mistakes_are_one_line(options, run, checkpoint, call):
    before = state(run)
    assert MISTAKES[options] in refused(call("ablate", checkpoint, run, *options))
    assert state(run) == before


def test_another_model_is_one_line(run, call, tokenizer, dense_checkpoint, tmp_path):
    before = state(run)
    other = save_olmoe(tmp_path / "other", tokenizer, seed=1)
    assert "expected the model that was traced" in refused(call("ablate", other, run))
    assert "rout" in refused(call("ablate", dense_checkpoint, run))
    assert state(run) == before


def test_a_run_of_unknown_windows_is_one_line(checkpoint, call, tmp_path):
    """Recorded and imported runs do not say how their documents were cut, and runs of usage have no tokens."""
    np.savez(tmp_path / "arrays.npz", experts=np.arange(12).reshape(6, 2, 1) % 4, document=np.repeat([0, 1], 3))
    specialize.import_trace("arrays", tmp_path / "arrays.npz", tmp_path / "imported", num_experts=4)
    np.savez(tmp_path / "usage.npz", usage=np.arange(24).reshape(3, 2, 4))
    specialize.import_trace("usage", tmp_path / "usage.npz", tmp_path / "usage", num_experts=4)
    loaded = specialize.load_checkpoint(checkpoint)
    with torch.no_grad(), specialize.record(loaded.model, loaded.tokenizer, tmp_path / "recorded") as recording:
        loaded.model(**loaded.tokenizer("The river carries cold water to the sea .", return_tensors="pt"))
    assert recording.num_documents == 1
    for name in ("imported", "recorded"):
        line = refused(call("ablate", checkpoint, tmp_path / name))
        assert "expected a trace that `specialize trace` made, whose windows are known" in line
    assert "token" in refused(call("ablate", checkpoint, tmp_path / "usage"))


@pytest.mark.parametrize("name", ["plan.json", "baseline.arrow", "saliency.arrow", "changes/*.arrow"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_one_line_that_says_what_to_do(name, damage, run, checkpoint, call):
    path = next((run / "ablation").glob(name))
    whole = state(run)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] if damage == "cut" else bytes(byte ^ 255 for byte in content))
    before = state(run)
    line = refused(call("ablate", checkpoint, run, "--layers", "0", *FEW))
    assert str(path) in line
    assert "remove it and run the command again" in line
    assert state(run) == before
    path.unlink()
    if name == "plan.json" or damage == "changed":
        return
    code, _, err = call("ablate", checkpoint, run, "--layers", "0", *FEW)
    assert code == 0, err
    assert state(run) == whole


def test_tables_and_json(run, checkpoint, call):
    code, out, err = call("ablate", checkpoint, run, "--label", "theme", "--top", "1", "--random", "3", *FEW)
    assert code == 0, err
    assert "Rise of the loss with one expert switched off, in bits" in out
    assert "Experts that lead a label switched off" in out
    assert "Rank correlation with the effects of switching experts off" in out
    assert "conditions x" in err
    code, out, err = call("ablate", checkpoint, run, "--json", *FEW)
    assert code == 0, err
    rows = json.loads(out)
    assert {row["metric"] for row in rows} >= {"effect_selectivity", "per_use_agreement", "total_agreement"}
    assert {row["label"] for row in rows if row["metric"] == "effect_selectivity"} == {"music", "rivers"}
