"""The section on experts that are switched off: sentences, tables and figures say what was planted."""

import re

import numpy as np
import pandas as pd
import pytest

from house.pages import strip_tags
from plot.planted_frames import planted_frame
from plot.planted_function import planted_effects, planted_experts
from reporting.planted_runs import make_ablated, make_run
from specialize.errors import MeasurementError
from specialize.reporting import plan_function, summarise, write_report
from specialize.reporting.ablations import list_ablations
from specialize.reporting.function_tables import function_tables
from specialize.reporting.function_words import describe_function
from specialize.reporting.reading import read_runs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_ablated(tmp_path_factory.mktemp("ablated") / "toy")


@pytest.fixture(scope="module")
def run(path):
    return read_runs([path])[0]


@pytest.fixture(scope="module")
def pages(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    html = write_report([path], folder / "html", formats=())
    markdown = write_report([path], folder / "md", formats=(), page_format="md")
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def ablated(folder, **frames):
    return read_runs(
        [make_run(folder / "run", ablation={name.replace("__", "."): each for name, each in frames.items()})]
    )[0]


def texts(table):
    return [[cell.text for cell in row] for row in table.body]


def test_files_are_read_by_mode_and_label_set(run):
    found = {ablation.mode: ablation for ablation in list_ablations(run)}
    assert list(found) == ["drop", "reroute"]
    assert list(found["drop"].label_sets) == ["upos", "next_upos", "bertopic"]
    assert list(found["reroute"].label_sets) == ["upos"]
    assert found["reroute"].experts is not None


def test_a_label_set_whose_name_has_a_dot_is_of_the_mode_drop(tmp_path):
    run = ablated(
        tmp_path, **{"my.genre": planted_effects(label_set="my.genre"), "my.genre__replace": planted_effects()}
    )
    assert [(each.mode, list(each.label_sets)) for each in list_ablations(run)] == [
        ("drop", ["my.genre"]), ("replace", ["my.genre"])
    ]  # fmt: skip


def test_sentences_state_the_planted_agreement_and_sets(run):
    said = [sentence.replace("\u00a0", " ") for sentence in describe_function(run)]
    assert said[0].startswith(
        "In toy, 32 experts were switched off one at a time (mode drop: its gate weight is set to "
    )
    assert "largest in layer 0 (0.300 bits) and smallest in layer 3 (0.075 bits)" in said[0]
    assert said[1] == (
        "Part of speech: lift and per-use effect have a rank correlation of 0.10 (95 % interval 0.04 to 0.16; "
        "p ≤ 0.005), the mean over the layers, which is above chance; corrected for noise it is 0.12. With the total "
        "effect it is 0.50 (95 % interval 0.44 to 0.56; p ≤ 0.005). For 2 of 17 labels (expected by chance: 0.8), the "
        "experts that lead the label are more selective for it than all 20 random sets of about the same load."
    )
    assert "Part of speech of the next token: lift and per-use effect have a rank correlation of −0.02" in said[2]
    assert "p = 0.400), the mean over the layers, which is not distinguishable from chance" in said[2]
    assert "For 0 of 17 labels" in said[2]
    assert "For 3 of 12 labels (expected by chance: 0.6)" in said[3]
    assert "mode reroute: the next best expert" in said[4]
    assert len(said) == 6


@pytest.mark.parametrize(
    ("p_value", "ends", "judged"),
    [
        (0.005, (0.04, 0.16), "which is above chance"),
        (0.4, (-0.05, 0.25), "which is not distinguishable from chance"),
        (0.4, (0.04, 0.16), "for which test and interval disagree"),
        (0.005, (-0.05, 0.25), "for which test and interval disagree"),
        (np.nan, (0.04, 0.16), "which was not tested"),
    ],
)
def test_what_is_said_of_an_agreement_rests_on_test_and_interval(tmp_path, p_value, ends, judged):
    frame = planted_effects()
    rows = frame["metric"] == "per_use_agreement"
    frame.loc[rows, "p_value"] = p_value
    frame.loc[rows, ["ci_low", "ci_high"]] = ends
    assert judged in describe_function(ablated(tmp_path, upos=frame))[1]


def test_an_interval_that_holds_the_mean_under_the_null_is_not_above_chance(tmp_path):
    frame = planted_effects()
    frame.loc[frame["metric"] == "per_use_agreement", "null_mean"] = 0.08
    assert "for which test and interval disagree" in describe_function(ablated(tmp_path, upos=frame))[1]


def test_an_agreement_below_chance_is_called_so(tmp_path):
    frame = planted_effects(agreement=-0.3)
    frame.loc[frame["metric"] == "per_use_agreement", "p_value"] = 0.005
    assert "which is below chance" in describe_function(ablated(tmp_path, upos=frame))[1]


def test_tables_hold_the_effects_of_layers(run):
    table = function_tables(run)[0]
    rows = texts(table)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [row[4] for row in rows] == ["0.300", "0.150", "0.100", "0.075"]
    assert [row[5] for row in rows] == ["0.010", "0.010", "0.010", "0"]  # nothing follows the last layer
    assert [row[2] for row in rows] == [f"{0.25 * 0.3 / (1 + layer) + 0.01 * (layer < 3):.3f}" for layer in range(4)]


def test_tables_hold_agreements_and_scores(run):
    tables = {table.caption: texts(table) for table in function_tables(run)}
    own = tables["toy: rank correlation of lift and effect, part of speech (mode drop)"]
    assert own[-1] == ["mean", "0.10", "≤ 0.005", "0.12", "0.50", "≤ 0.005", "0.62"]
    assert [row[1] for row in own[:-1]] == ["0.07", "0.09", "0.11", "0.13"]
    scores = tables["toy: rank correlation of scores of experts and their effect over all tokens (mode drop)"]
    assert scores[-1] == ["mean", "0.60", "0.50", "0.40", "0.50", "0.20", "0.50"]
    assert any("(mode reroute)" in caption for caption in tables)


def test_tables_hold_the_leading_sets(run):
    table = next(each for each in function_tables(run) if "selectivity" in each.caption)
    first = table.body[0]
    assert [cell.text for cell in first] == ["NOUN", "0.330", "0.020", "0.310", "≤ 0.048"]
    assert [cell.below for cell in first[1:4]] == ["[0.300, 0.360]", "−0.050 to 0.120", "[0.290, 0.330]"]
    assert [row[0].text for row in table.body if "strong" in row[1].kind] == ["NOUN", "PUNCT"]


def test_figures_are_those_of_the_first_mode(run):
    names = [spec.name for spec in plan_function.plan_function([run])]
    assert names == [
        "effects-1-toy-upos", "effects-1-toy-bertopic", "agreement-1-toy-upos", "agreement-1-toy-next-upos",
        "agreement-1-toy-bertopic", "sets-1-toy-upos", "sets-1-toy-next-upos", "sets-1-toy-bertopic", "removal-1-toy",
    ]  # fmt: skip
    assert all("mode drop" in spec.caption for spec in plan_function.plan_function([run]))


def test_of_very_many_cells_a_sample_is_drawn_that_the_caption_names(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_function, "_MOST_POINTS", 50)
    run = ablated(tmp_path, upos=planted_effects())
    spec = next(spec for spec in plan_function.plan_function([run]) if spec.kind == "agreement")
    cells = spec.frame[spec.frame["expert"].notna()]
    assert len(cells[["layer", "expert", "label"]].drop_duplicates()) == 50
    assert (cells["metric"].value_counts() == 50).all()
    assert f"a random sample of 50 of {4 * 8 * 17}. " in spec.caption
    spec.function(spec.frame, **spec.arguments)


def test_both_pages_have_the_section(run, pages):
    html, markdown = pages
    read = re.sub(r"\s+", " ", strip_tags(html))
    for sentence in describe_function(run):
        assert re.sub(r"\s+", " ", sentence) in read
        assert re.sub(r"\s+", " ", sentence.replace("[", r"\[").replace("]", r"\]")) in re.sub(r"\s+", " ", markdown)
    for page in (read, markdown):
        for table in function_tables(run):
            assert table.caption in page
        assert "Association is not function" not in page
        assert "toy: effects of switching experts off are those on the loss of this model and these documents" in page
    section = html[html.index('<section id="function">') :].partition("</section>")[0]
    assert section.count("<svg") == 9
    assert '<a href="#function">Function</a>' in html
    assert len(re.findall(r"!\[[^\]]*\]\(figures/(?:effects|agreement|sets|removal)", markdown)) == 9
    assert "Experts switched off" in read.partition("Methods")[2]


def test_without_an_ablation_the_section_says_so_and_association_is_not_function(tmp_path):
    one = make_run(tmp_path / "one", syntax=planted_frame("one", strengths=(0.2,)))
    page = write_report([one], tmp_path / "out", formats=())
    text = re.sub(r"\s+", " ", strip_tags(page.read_text(encoding="utf-8")))
    assert "No expert has been switched off yet." in text
    assert "Association is not function: which tokens" in text
    assert "specialize ablate" not in text  # the manifest does not say how the texts were cut


def test_of_two_runs_the_one_without_an_ablation_is_named(path, tmp_path):
    one = make_run(tmp_path / "one", syntax=planted_frame("one", strengths=(0.2,)))
    page = write_report([path, one], tmp_path / "out", formats=(), page_format="md").read_text(encoding="utf-8")
    assert "one: association is not function" in page
    assert "toy: effects of switching experts off" in page


def test_a_run_that_can_be_ablated_names_the_command(tmp_path):
    from planted.manifests import edit_manifest

    one = make_run(tmp_path / "one", syntax=planted_frame("one", strengths=(0.2,)))
    settings = {"context_length": 256, "weights_digest": "0" * 64}
    edit_manifest(one, lambda manifest: manifest | {"settings": settings})
    page = write_report([one], tmp_path / "out", formats=()).read_text(encoding="utf-8")
    assert f"specialize ablate MODEL {one}" in strip_tags(page)


def test_parts_that_were_not_measured_are_left_out(tmp_path):
    frame = planted_experts()
    removals = frame[frame["metric"] == "removal_effect"]
    run = ablated(tmp_path, experts=removals)
    assert function_tables(run) == []
    assert describe_function(run) == [
        "In run, sets of experts were switched off (mode drop: its gate weight is set to 0). All numbers are changes "
        "of this model’s loss of the next token on these documents."
    ]
    assert [spec.kind for spec in plan_function.plan_function([run])] == ["removal"]


def test_experts_that_no_token_uses_were_switched_off_too(tmp_path):
    frame = planted_experts()
    unused = (frame["metric"] == "per_use_effect") & (frame["expert"] > 3)
    [said] = describe_function(ablated(tmp_path, experts=frame[~unused]))
    assert said.startswith("In run, 32 experts were switched off one at a time")


def test_numbers_that_are_missing_are_dashes_or_left_out(tmp_path):
    upos, experts = planted_effects(), planted_experts()
    for frame in (upos, experts):
        frame.loc[:, ["value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value"]] = np.nan
    make_run(tmp_path / "run", ablation={"upos": upos, "experts": experts})
    for page_format in ("html", "md"):
        page = write_report([tmp_path / "run"], tmp_path / page_format, formats=(), page_format=page_format)
        assert "nan" not in re.sub(r"base64,\S+|[a-z]nan|nan[a-z]", "", strip_tags(page.read_text(encoding="utf-8")))


def test_the_summary_has_a_line_for_each_label_set(path):
    lines = [line.replace("\u00a0", " ") for line in summarise([path]).agreements]
    assert lines[0] == (
        "toy, part of speech: rank correlation of lift and per-use effect 0.10 [0.04, 0.16], p ≤ 0.005 (mode drop)"
    )
    assert len(lines) == 4


def test_a_damaged_file_is_one_line(call, tmp_path):
    run = make_run(
        tmp_path / "run", syntax=planted_frame("run", strengths=(0.2,)), ablation={"upos": planted_effects()}
    )
    stored = run / "ablation" / "upos.parquet"
    stored.write_bytes(stored.read_bytes()[:500])
    code, out, err = call("report", run, "-o", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ablation/upos.parquet: expected" in err
    assert not (tmp_path / "out").exists()
    said = []
    assert summarise([run], leave_out=said.append).agreements == []
    assert len(said) == 1


def test_effects_of_another_trace_are_an_error(tmp_path):
    other = make_run(tmp_path / "other", num_layers=3, ablation={"upos": planted_effects()})
    run = make_run(tmp_path / "run")
    (run / "ablation").mkdir()
    (run / "ablation" / "upos.parquet").write_bytes((other / "ablation" / "upos.parquet").read_bytes())
    with pytest.raises(MeasurementError, match=r"got those of another trace.*ablation/upos.parquet"):
        read_runs([run])


def test_what_lies_beside_the_results_is_not_read(tmp_path):
    run = make_run(tmp_path / "run", ablation={"upos": planted_effects()})
    (run / "ablation" / "plan.json").write_text("{}")
    (run / "ablation" / "changes").mkdir()
    pd.DataFrame({"x": [1]}).to_parquet(run / "ablation" / "changes" / "0.parquet")
    assert list(read_runs([run])[0].ablation) == ["upos"]
