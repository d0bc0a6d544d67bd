"""The bare package: no torch, and yet what another tool recorded is imported, measured and reported."""

import numpy as np
import pytest

from house.pages import strip_tags
from install.fresh import ROOT, make_environment
from planted.dumps import LAYERS, NUM_EXPERTS, TOP_K, Planted, write_esft

DOCUMENTS, TOKENS = 30, 12
SCRIPT = """
import sys
from pathlib import Path

import specialize

assert not {"torch", "numpy", "pandas", "matplotlib"} & set(sys.modules)
import pandas as pd

dump, labels, run, page = map(Path, sys.argv[1:])
trace = specialize.import_trace("esft", dump, run)
assert isinstance(trace, specialize.RoutingTrace)
routing = specialize.routing(run)
labelled = specialize.annotate(trace, pd.read_csv(labels))
assert isinstance(routing, pd.DataFrame) and isinstance(labelled, pd.DataFrame)
assert specialize.report(run, page) == page / "report.html"
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("laptop"), ["specialize"])


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """A dump of ESFT, and a table with the label of every token, which is its first expert in every layer."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, NUM_EXPERTS, (DOCUMENTS, TOKENS, 1, 1))
    experts = np.concatenate([label, (label + 1) % NUM_EXPERTS], axis=3).repeat(LAYERS, axis=2)
    planted = Planted(list(experts), list(rng.random((DOCUMENTS, TOKENS, LAYERS, TOP_K)).round(4)))
    folder = tmp_path_factory.mktemp("dump")
    table = folder / "labels.csv"
    lines = [f"{token},{'abcdefg'[code]}\n" for token, code in enumerate(label.ravel())]
    table.write_text("token,letter\n" + "".join(lines), encoding="utf-8")
    return write_esft(folder / "esft", planted), table


@pytest.fixture(scope="module")
def from_python(laptop, dump, tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    laptop.run("-c", SCRIPT, *dump, folder / "run", folder / "page")
    return folder


@pytest.fixture(scope="module")
def from_shell(laptop, dump, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shell")
    esft, labels = dump
    run = folder / "run"
    for arguments in (
        ("import", "esft", esft, "-o", run),
        ("routing", run),
        ("annotate", run, "--from", labels),
        ("report", run, "-o", folder / "page"),
    ):
        laptop.run("-m", "specialize", *arguments)
    return folder


def test_importing_is_instant_and_there_is_no_torch(laptop):
    laptop.run("-c", "import specialize, sys; assert 'torch' not in sys.modules")
    for module in ("torch", "transformers", "tokenizers", "spacy", "bertopic"):
        assert f"No module named {module!r}" in laptop.run("-c", f"import {module}", fails=True).stderr


@pytest.mark.parametrize("way", ["from_python", "from_shell"])
def test_a_dump_is_imported_measured_and_reported(way, request):
    folder = request.getfixturevalue(way)
    page = (folder / "page" / "report.html").read_text(encoding="utf-8")
    assert "letter" in strip_tags(page)
    assert list((folder / "page" / "figures").glob("*.pdf"))


def test_both_ways_leave_the_same_tables(from_python, from_shell):
    tables = {
        folder: {
            str(path.relative_to(folder / "run")): path.read_bytes()
            for path in sorted((folder / "run").rglob("*"))
            if path.suffix in (".csv", ".parquet")
        }
        for folder in (from_python, from_shell)
    }
    assert tables[from_python] == tables[from_shell]
    assert any(name.startswith("routing/") for name in tables[from_python])


def test_what_needs_a_model_says_which_extra_brings_it(laptop, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Some words.", encoding="utf-8")
    for arguments in (
        ("trace", ROOT / "src/specialize/demo/checkpoints/token", corpus, "-o", tmp_path / "run"),
        ("train", ROOT / "analyses/demo_checkpoints/token.toml", "-o", tmp_path / "model"),
    ):
        done = laptop.run("-m", "specialize", *arguments, fails=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "pip install 'specialize[capture]'" in done.stderr
    done = laptop.run("-c", "import specialize; specialize.attach", fails=True)
    assert "pip install 'specialize[capture]'" in done.stderr.splitlines()[-1]
