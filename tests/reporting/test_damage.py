"""Results that are damaged or of other types are one line, whichever command reads them; nothing is written."""

import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.measure.results.files import write_results
from specialize.reporting import write_report


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
