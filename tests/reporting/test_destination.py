"""A report is written to a folder of its own, or beside runs, but not among other things."""

import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs" / "run", syntax=planted_frame("run", strengths=(0.2,)))


@pytest.mark.parametrize("page_format", ["html", "md"])
def test_a_folder_of_other_things_stays_as_it_is(call, run, tmp_path, page_format):
    folder = tmp_path / "work"
    (folder / "figures").mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    code, out, err = call("report", run, "-o", folder, "--format", page_format)
    assert (code, out) == (2, "")
    assert f"{folder}: expected a new or empty folder for the report" in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in folder.rglob("*")) == ["figures", "thesis.tex"]


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_a_page_that_is_no_report_is_not_replaced(call, run, name):
    (run.parent / name).write_text("mine")
    code, _, err = call("report", run, "-o", run.parent)
    assert code == 2
    assert f"{run.parent / name}: expected a report that may be replaced, got something else" in err
    assert (run.parent / name).read_text() == "mine"
    assert not (run.parent / "figures").exists()


def test_a_report_is_written_to_new_and_empty_folders_beside_runs_and_again(call, run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").write_text("")
    for folder in (tmp_path / "new" / "er", tmp_path / "empty", run, run.parent):
        for page_format in ("html", "md", "html"):
            code, _, err = call("report", run, "-o", folder, "--format", page_format, "--figure-format", "png")
            assert code == 0, err
    (tmp_path / "empty" / "notes.txt").write_text("on the report")
    assert call("report", run, "-o", tmp_path / "empty", "--figure-format", "png")[0] == 0
