import json
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from plot.planted_frames import planted_frame
from report.planted_runs import make_run
from specialize.errors import TraceError
from specialize.report import summary_records, summary_table


def show(table, width=200):
    output = StringIO()
    Console(file=output, width=width, force_terminal=False, color_system=None).print(table)
    return output.getvalue()


def test_a_row_for_each_run_layer_and_router(pair_runs):
    table = summary_table(pair_runs)
    assert table.row_count == 4 + 4 + 4  # learned and shadow of one run, learned of the other
    text = show(table)
    assert "19.08 [17.88, 20.28]" in text
    assert "shadow router" in text
    assert "null 0.20, p = 0.005" in text
    assert "toy-sequence (non-causal)" in text
    for heading in ("U(POS) [95 %]", "U(topic) [95 %]", "U(“topic”) [95 %]"):
        assert heading in text


def test_two_label_sets_fit_a_terminal_of_80_columns(tmp_path):
    topics = planted_frame("a-run-name", label_set="bertopic", labels=["a", "b"], strengths=(0.4,))
    run = make_run(tmp_path / "run", syntax=planted_frame("a-run-name", strengths=(0.4,)), topics={"bertopic": topics})
    text = show(summary_table([run]), width=80)
    assert "…" not in text
    assert len([line for line in text.splitlines() if "[" in line]) == 2  # heading and the one layer


def test_records_are_the_frame(pair_runs):
    records = summary_records(pair_runs)
    json.dumps(records, allow_nan=False)
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
    assert {record["routing_unit"] for record in own} == {"token"}
    largest = [record for record in records if record["layer"] is None]
    assert {record["metric"] for record in largest} == {"max_uncertainty_coefficient"}


def test_a_run_without_results_says_so(tmp_path, pair_runs):
    fresh = make_run(tmp_path / "fresh")
    assert summary_records([fresh]) == []
    assert "not measured" in show(summary_table([fresh, pair_runs[0]]))
    assert "fresh" in show(summary_table([fresh]))


def test_markup_and_escape_sequences_in_names_are_text(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("[red]x[/red]\x1b[31m", strengths=(0.2,)))
    text = show(summary_table([run]))
    assert "[red]x[/red] [31m" in text
    assert "\x1b" not in text


def test_not_a_run(tmp_path):
    with pytest.raises(TraceError, match=r"expected a run folder with manifest\.json"):
        summary_table([tmp_path])
