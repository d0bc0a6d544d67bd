"""The report without figures, as a terminal prints it."""

import pandas as pd

from planted.manifests import edit_manifest
from plot.planted_frames import planted_frame
from reporting.own_text import strip_libraries
from reporting.planted_runs import make_run
from specialize.reporting import summarise, write_report
from specialize.reporting.wording import conclude, list_notes


def texts(table):
    return [[cell.text for cell in row] for row in table.body]


def test_the_table_of_verdicts_says_what_the_verdicts_say(pair_runs):
    summary = summarise(pair_runs)
    table = summary.answer_table()
    answers = [answer for own in summary.answers.values() for answer in own]
    assert len(table.body) == len(answers) == 6
    for row, answer in zip(table.body, answers, strict=True):
        assert row[-1].text == conclude(answer.verdict)
        assert row[-1].below == "; ".join(list_notes(answer.verdict))
    assert texts(table)[0][:4] == ["toy-token", "part of speech", "19.1\u00a0%", "17.9 to 20.3"]
    assert texts(table)[3][0] == "toy-sequence (non-causal)"


def test_every_layer_is_listed_with_its_random_router(pair_runs):
    table = summarise(pair_runs).layer_table("upos")
    frame = pd.read_parquet(pair_runs[0] / "syntax" / "upos.parquet")
    rows = frame[frame["metric"] == "uncertainty_coefficient"]
    assert table.caption == "U(part of speech | expert), in % of H(POS)"
    assert [cell.text for cell in table.head[0]] == ["run", "layer", "router", "U [95\u00a0%]", "null mean", "p"]
    assert [row[:3] for row in texts(table)[:3]] == [
        ["toy-token", "0", "learned"], ["toy-token", "0", "random"], ["toy-token", "1", "learned"]
    ]  # fmt: skip
    assert len(table.body) == 8 + 4
    shown = [row[3].split()[0] for row in texts(table)[:8:2]]
    assert shown == [f"{100 * value:.2f}" for value in rows[rows["routing"] == "learned"]["value"]]


def test_a_single_run_without_control_needs_neither_name(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2,)))
    table = summarise([run]).layer_table("upos")
    assert [cell.text for cell in table.head[0]][:2] == ["layer", "U [95\u00a0%]"]


def test_results_in_the_old_name_of_random_routers_are_read(tmp_path):
    frame = planted_frame("run", strengths=(0.2, 0.5), control=0.5)
    new = make_run(tmp_path / "new" / "run", syntax=frame)
    old = make_run(tmp_path / "old" / "run")
    (old / "syntax").mkdir()
    renamed = frame.assign(routing=frame["routing"].replace("random", "shadow"))
    renamed.to_parquet(old / "syntax" / "upos.parquet", index=False)
    edit_manifest(
        old,
        lambda manifest: manifest | {"routers": [router | {"routing": routing} for routing in ("learned", "shadow")
                                                 for router in manifest["routers"]]},
    )  # fmt: skip
    assert summarise([old]).as_dicts() == summarise([new]).as_dicts()
    page = write_report([old], tmp_path / "out", formats=()).read_text(encoding="utf-8")
    assert page.count("model.layers.0.mlp.router") == 1
    assert "shadow" not in strip_libraries(page)
