"""The tables that end `syntax`, `topics`, `run` and `demo`, and the same numbers for programs."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_pair, make_run
from specialize.cli import summary, tables
from specialize.errors import TraceError
from specialize.reporting import summarise


@pytest.fixture(scope="module")
def pair_runs(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def show(monkeypatch):
    """Print a summary to a terminal of the width asked for; gives its lines."""

    def render(runs, width=120):
        screen = io.StringIO()
        console = Console(file=screen, width=width, color_system=None, markup=False, emoji=False, highlight=False)
        for module in (summary, tables):
            monkeypatch.setattr(module, "out", console)
        summary.print_summary(runs, as_json=False)
        return screen.getvalue().splitlines()

    return render


def test_a_row_for_each_run_layer_and_router(pair_runs, show):
    lines = show(pair_runs)
    layers = [line for line in lines if "[" in line and "%" not in line and "more" not in line and "chance" not in line]
    assert len(layers) == 3 * (4 + 4) + 2 * 4  # learned routers of three label sets, random routers of two
    (best,) = [line for line in lines if "19.08 [17.88, 20.28]" in line]
    assert best.split() == ["toy-token", "1", "learned", "19.08", "[17.88,", "20.28]", "0.20", "0.005"]
    assert any(line.startswith("U(known label “topic” | expert)") for line in lines)


def test_the_answers_come_last(pair_runs, show):
    lines = show(pair_runs)
    answers = lines[next(i for i, line in enumerate(lines) if line.startswith("Summary: ")) :]
    verdicts = [line for line in answers if "chance" in line]
    assert len(verdicts) == 6
    first = " ".join(verdicts[0].replace("\u00a0", " ").split())
    assert first == "toy-token part of speech 19.1 % 17.9 to 20.3 0.006 above chance and above random routers"
    assert "toy-sequence (non-causal)" in verdicts[3]
    assert "not distinguishable from chance" in verdicts[5]  # the weakest association of the second run


def test_it_fits_a_terminal_of_80_columns(pair_runs, show):
    lines = show(pair_runs, width=80)
    assert max(map(len, lines)) <= 80 or all(line.startswith("U(") for line in lines if len(line) > 80)
    assert not any("…" in line for line in lines)
    assert any("19.08 [17.88, 20.28]" in line for line in lines)


def test_one_run_is_not_named_in_each_row(tmp_path, show):
    run = make_run(tmp_path / "run", syntax=planted_frame("a-run-name", strengths=(0.4, 0.2)))
    lines = show([run])
    assert not any("a-run-name" in line or "learned" in line for line in lines)
    assert [line.split()[0] for line in lines if "[" in line][1:3] == ["0", "1"]


def test_records_are_the_frame(pair_runs, capsys):
    summary.print_summary(pair_runs, as_json=True)
    records = json.loads(capsys.readouterr().out)
    frame = pd.read_parquet(pair_runs[0] / "syntax" / "upos.parquet")
    expected = frame[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "learned")]
    own = [
        record for record in records
        if record["run"] == "toy-token" and record["label_set"] == "upos" and record["routing"] == "learned"
        and record["layer"] is not None
    ]  # fmt: skip
    assert [record["layer"] for record in own] == [0, 1, 2, 3]
    for key in ("value", "ci_low", "ci_high", "null_mean", "p_value"):
        assert [record[key] for record in own] == expected[key].tolist()
    assert {record["causal"] for record in records if record["run"] == "toy-sequence"} == {False}
    assert {(record["routing_unit"], record["level"]) for record in own} == {("token", "token")}
    assert {record["level"] for record in records if record["label_set"] != "upos"} == {"document"}
    largest = [record for record in records if record["layer"] is None]
    assert {record["metric"] for record in largest} == {"max_uncertainty_coefficient"}


def test_a_run_without_results(tmp_path, capsys):
    fresh = make_run(tmp_path / "fresh")
    summary.print_summary([fresh], as_json=False)
    assert capsys.readouterr().out == "nothing was measured on fresh yet\n"
    assert summarise([fresh]).as_dicts() == []


def test_not_a_run(tmp_path):
    with pytest.raises(TraceError, match=r"expected a run folder with a manifest\.json"):
        summarise([tmp_path])
