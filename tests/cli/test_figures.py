"""Figures alone, of everything that a run was measured by."""

import json

import pandas as pd
import pytest


@pytest.fixture
def run(traced, call, checkpoint, corpus):
    folder = traced(checkpoint, corpus, "--text-column", "body")
    for command in (
        ["syntax", folder, "--tags", "case,class", "--permutations", 9],
        ["topics", folder, "--labels-only", "--permutations", 9],
        ["routing", folder, "--permutations", 9],
        ["vocabulary", folder, "--permutations", 9, "--min-count", 4],
    ):
        code, _, err = call(*command)
        assert code == 0, err
    return folder


def test_every_figure_with_its_numbers(tmp_path, call, run):
    code, out, err = call("figures", run, "-o", tmp_path / "figures", "--format", "svg", "--json")
    assert code == 0, err
    kinds = {path.stem.split("-")[0] for path in (tmp_path / "figures").glob("*.svg")}
    assert kinds >= {"profile", "heatmap", "forest", "tokens", "load", "coactivation", "flow", "repeats"}
    assert sorted(json.loads(out)) == sorted(str(path) for path in (tmp_path / "figures").glob("*.svg"))
    for path in (tmp_path / "figures").glob("*.svg"):
        told = json.loads(path.with_suffix(".json").read_text())
        numbers = pd.DataFrame(told["numbers"]["rows"], columns=told["numbers"]["columns"])
        drawn = pd.read_csv(path.with_suffix(".csv"))
        value = "share" if path.stem.startswith("tokens") else "value"
        pd.testing.assert_series_equal(numbers[value], drawn[value], check_dtype=False)
        assert told["command"].startswith("specialize figures")


def test_only_what_is_named(tmp_path, call, run):
    options = ["--only", "load-*", "--only", "profile-case", "--format", "png"]
    code, out, err = call("figures", run, "-o", tmp_path / "some", *options)
    assert code == 0, err
    assert [line.split()[:2] for line in out.splitlines()[1:-1]] == [["profile-case", "png"], ["load-1-run", "png"]]
    assert out.splitlines()[-1] == str(tmp_path / "some")
    assert {path.stem for path in (tmp_path / "some").glob("*.png")} == {"load-1-run", "profile-case"}
    assert not list((tmp_path / "some").glob("*.pdf"))


def test_mistakes_are_one_line(tmp_path, call, run):
    code, _, err = call("figures", run, "-o", tmp_path / "none", "--only", "profile-cas")
    assert code == 2
    assert "Did you mean 'profile-case'" in err
    code, _, err = call("figures", run, "-o", tmp_path / "none", "--format", "gif")
    assert code == 2
    assert "expected one of pdf, png, svg, got 'gif'" in err
    assert not (tmp_path / "none").exists()
