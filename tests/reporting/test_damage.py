"""Results that are damaged or of other types are one line, whichever command reads them; nothing is written."""

import shutil

import pandas as pd
import pytest

from planted.manifests import edit_manifest
from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.errors import MeasurementError
from specialize.measure.results.files import write_both, write_results
from specialize.reporting import summarise, write_report
from specialize.reporting.reading import read_runs
from specialize.trace import open_trace
from specialize.trace.schema import shard_files


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2, 0.3)))


def change(column, value):
    def write(path):
        frame = pd.read_parquet(path)
        frame[column] = [value] * len(frame)
        frame.to_parquet(path)

    return write


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\0" * 300 + path.read_bytes()[400:]),
        change("value", "many"),
        change("layer", float("inf")),
        change("label", ["a", "b"]),
        change("metric", 5),
        change("p_value", "small"),
        lambda path: pd.DataFrame({"x": [1]}).to_parquet(path),
    ],
)
@pytest.mark.parametrize("command", ["report", "figures"])
def test_damaged_results_are_one_line(call, run, damage, command):
    damage(run / "syntax" / "upos.parquet")
    code, out, err = call(command, run, "-o", run.parent / "out")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "upos.parquet: expected" in err
    assert "again" in err
    assert not (run.parent / "out").exists()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("syntax/mine.csv", b""),
        ("syntax/mine.csv", b"\xff\xfe\0"),
        ("syntax/mine.csv", b"metric,value,layer\nload,x,0\n"),
        ("topics/topic_info.csv", b""),
        ("topics/topic_info.csv", b'a,"b\n'),
        ("topics/topic_quality.csv", b"\0\xff"),
        ("topics/topic_quality.csv", b"quantity\nnum_topics\n"),
        ("vocabulary/top_tokens.csv", b"routing,layer,router,token,expert,rank,text,share\nlearned,x,r,1,1,1,a,0.5\n"),
    ],
)
def test_damaged_tables_are_one_line(call, run, path, content):
    (run / path).parent.mkdir(exist_ok=True)
    (run / path).write_bytes(content)
    code, _, err = call("report", run, "-o", run.parent / "out")
    assert code == 2
    assert err.count("\n") == 1
    assert f"{path}: expected" in err
    assert not (run.parent / "out").exists()


OTHER = r"expected results of its trace, got those of another trace, or of this one before it was extended, in "


def test_results_of_another_trace_are_not_shown(call, run, tmp_path):
    frames = {name: planted_frame("other", label_set=name, strengths=(0.1,)) for name in "abcd"}
    other = make_run(tmp_path / "other", num_layers=3, syntax=planted_frame("other", strengths=(0.9,)), topics=frames)
    shutil.copy(other / "syntax" / "upos.parquet", run / "syntax" / "upos.parquet")
    shutil.copytree(other / "topics", run / "topics")
    for command in ("report", "figures"):
        code, out, err = call(command, run, "-o", tmp_path / "out")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{run}: {OTHER}syntax/upos.parquet, topics/a.parquet, topics/b.parquet and 2 more; measure again" in err
        assert not (tmp_path / "out").exists()
    said = []
    assert summarise([run], leave_out=said.append).label_sets == []
    assert len(said) == 5
    assert said[0] == f"left out: {run}: {OTHER}syntax/upos.parquet; measure again, or remove them"


def test_results_of_an_earlier_state_of_the_trace_are_not_shown(call, run):
    digests = [{"tokens": 1, "files": dict.fromkeys(shard_files(number), "1" * 64)} for number in (0, 1)]
    edit_manifest(run, lambda manifest: manifest | {"shards": digests})
    code, _, err = call("report", run, "-o", run.parent / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{OTHER}syntax/upos.parquet" in err


def test_a_comparison_with_an_earlier_state_of_the_other_run_is_not_shown(call, run, tmp_path):
    other = make_run(tmp_path / "other", num_layers=3)
    traces = [open_trace(path) for path in (run, other)]
    write_results(planted_frame("run − other"), run / "compare", "against-other", trace=traces[0], other=traces[1])
    read_runs([run, other])
    shutil.rmtree(other)
    make_run(other, num_layers=2)
    read_runs([run])
    code, _, err = call("report", run, other, "-o", run.parent / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{run}: {OTHER}compare/against-other.parquet" in err
    other.rename(tmp_path / "another")
    read_runs([run, tmp_path / "another"])


def test_results_in_another_place_are_not_shown(call, run):
    (run / "probe").mkdir()
    (run / "syntax" / "upos.parquet").rename(run / "probe" / "upos.parquet")
    code, _, err = call("report", run, "-o", run.parent / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "probe/upos.parquet: expected its own results, got those of syntax/upos; measure again" in err


def test_two_files_of_one_label_set_are_an_error(call, run):
    write_results(planted_frame("run", strengths=(0.9,)), run / "syntax", "upos-mine")
    code, _, err = call("report", run, "-o", run.parent / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "syntax: expected one file for each label set, got two for 'upos'; remove upos-mine or the other one" in err


def test_results_that_do_not_name_their_trace_are_shown_and_named(call, run):
    planted_frame("run", label_set="mine").to_csv(run / "syntax" / "mine.csv")
    write_results(planted_frame("run", label_set="ours"), run / "syntax", "ours")
    code, _, err = call("report", run, "-o", run.parent / "out", "--format", "md", "--figure-format", "png")
    assert code == 0
    assert f"{run}: results that do not name their trace, and are not checked: syntax/mine.csv, syntax/ours.parq" in err
    page = (run.parent / "out" / "report.md").read_text()
    assert "run: some results do not name the trace that was measured, so that it could not be checked: syntax/" in page


def test_the_tokens_that_read_like_missing_values_are_text(run):
    table = pd.DataFrame(
        {"routing": "learned", "layer": 0, "router": "r", "token": "input", "expert": 0, "rank": [1, 2, 3],
         "text": ["null", "NA", None], "share": 0.5}
    )  # fmt: skip
    write_both(table, run / "vocabulary", "top_tokens", text_columns=("text",), trace=open_trace(run))
    assert read_runs([run])[0].top_tokens["text"].tolist()[:2] == ["null", "NA"]


def test_a_comparison_of_labels_that_the_report_does_not_measure_is_shown(run):
    rows = [
        {"run": "run − other", "routing": "learned", "label_set": label_set, "value": value, "ci_low": value - 0.01,
         "ci_high": value + 0.01, "p_value": 0.01, "unit": "share of H(label)",
         "metric": "mean difference of uncertainty_coefficient"}
        for label_set, value in (("genre", 0.01), (None, 0.02), ("upos", 0.03), ("author", 0.04))
    ]  # fmt: skip
    write_results(pd.DataFrame(rows), run / "compare", "against-other")
    page = write_report([run], run.parent / "out", formats=(), page_format="md").read_text(encoding="utf-8")
    table = page[page.index("differences, paired by documents") :]
    shown = [line for line in table.splitlines() if line.startswith("| U")][:4]
    assert len(shown) == 4, table[:2000]
    assert [line.split("|")[2].strip(" *") for line in shown] == ["3.00", "1.00", "4.00", "2.00"]


@pytest.mark.parametrize("folder", ["syntax", "topics", "compare"])
def test_a_file_in_place_of_a_folder_of_results(tmp_path, folder):
    run = make_run(tmp_path / "run")
    (run / folder).write_text("")
    with pytest.raises(MeasurementError, match=f"{folder}: expected a folder of results, got something else"):
        write_report([run], tmp_path / "out", formats=())
    assert not (tmp_path / "out").exists()
