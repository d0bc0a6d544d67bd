"""Figures alone, of everything that a run was measured by."""

import json

import pandas as pd
import pytest
from PIL import Image


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


def test_a_venue_sets_the_width_and_a_sheet_shows_all(tmp_path, call, run):
    options = ["--width", "icml", "--no-titles", "--sheet", "--format", "png", "--json"]
    code, out, err = call(
        "figures", run, "-o", tmp_path / "icml", "--only", "load-*", "--only", "profile-flow", *options
    )
    assert code == 0, err
    names = [path.rpartition("/")[2] for path in json.loads(out)]
    assert names[-2:] == ["sheet.pdf", "sheet.png"]
    assert len(names) == 4
    for name in names[:-2]:
        width, height = size_of(tmp_path / "icml" / name)
        assert width == round(3.25 * 300)  # dots
        told = json.loads((tmp_path / "icml" / name).with_suffix(".json").read_text())
        assert told["arguments"]["title"] is None
        assert told["inches"] == pytest.approx([3.25, height / 300], abs=0.01)
        assert "--width icml" in told["command"]
    assert sorted(size_of(tmp_path / "icml" / "sheet.png")) == [2481, 3507]  # A4
    page = (tmp_path / "icml" / "sheet.pdf").read_bytes()
    assert page.count(b"/Type /Page\n") + page.count(b"/Type /Page ") == 1
    again = ["--only", "load-*", "--format", "png"]
    assert call("figures", run, "-o", tmp_path / "icml", *again)[0] == 0  # a sheet does not make the folder unknown


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_mistakes_are_one_line(tmp_path, call, run):
    code, _, err = call("figures", run, "-o", tmp_path / "none", "--only", "profile-cas")
    assert code == 2
    assert "Did you mean 'profile-case'" in err
    code, _, err = call("figures", run, "-o", tmp_path / "none", "--format", "gif")
    assert code == 2
    assert "expected one of pdf, png, svg, got 'gif'" in err
    code, _, err = call("figures", run, "-o", tmp_path / "none", "--width", "iclm")
    assert code == 2
    assert "'iclm'" in err
    assert not (tmp_path / "none").exists()
