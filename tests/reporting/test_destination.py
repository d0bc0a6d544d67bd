"""Reports and figures are written to a folder of their own, or beside runs, but not among other things."""

import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.plot import style
from specialize.reporting import write_report
from specialize.reporting.destination import check_destination, check_folder


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


@pytest.mark.parametrize("name", ["thesis.tex", "data.json"])
def test_figures_of_others_stay_as_they_are(call, run, tmp_path, name):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / name).write_text("{}")
    (folder / "profile-upos.pdf").write_text("mine")
    for command, output in (("figures", folder), ("report", tmp_path)):
        (tmp_path / "report.md").unlink(missing_ok=True)
        code, out, err = call(command, run, "-o", output)
        assert (code, out) == (2, "")
        assert f"{folder}: expected a new or empty folder for the figures" in err or output == tmp_path
        assert err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "profile-upos.pdf"])
    assert (folder / "profile-upos.pdf").read_text() == "mine"


def test_figures_are_written_to_new_and_empty_folders_beside_runs_and_again(call, run, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "er", tmp_path / "empty", run, run.parent, tmp_path / "empty"):
        code, _, err = call("figures", run, "-o", folder, "--format", "svg", "--only", "load-*")
        assert code == 0, err
        assert (folder / "load-1-run.svg").is_file()


def test_an_interrupted_report_is_written_again(run, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(style, "render_figure", stop)
    with pytest.raises(KeyboardInterrupt):
        write_report([run], tmp_path / "out", formats=("svg",))
    assert not list((tmp_path / "out").glob("report.*"))
    check_destination(tmp_path / "out" / "report.html")
    check_folder(tmp_path / "out" / "figures", "the figures")


def test_a_report_is_written_to_new_and_empty_folders_beside_runs_and_again(call, run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").write_text("")
    for folder in (tmp_path / "new" / "er", tmp_path / "empty", run, run.parent):
        check_destination(folder / "report.html")
    for page_format in ("md", "html"):
        code, _, err = call("report", run, "-o", tmp_path / "empty", "--format", page_format, "--figure-format", "svg")
        assert code == 0, err
        (tmp_path / "empty" / "notes.txt").write_text("on the report")
    check_destination(tmp_path / "empty" / "report.html")
    check_folder(tmp_path / "empty", "the figures")
