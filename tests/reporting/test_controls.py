"""Tables of controls, of differences between runs, and of routing."""

import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.errors import MeasurementError, SpecializeError
from specialize.measure.results.files import write_results
from specialize.reporting import write_report
from specialize.reporting.controls import control_tables
from specialize.reporting.differences import compare_in_words, difference_tables
from specialize.reporting.findings import read_records
from specialize.reporting.reading import read_runs
from specialize.reporting.routing_tables import routing_tables
from specialize.reporting.verdict import judge_runs


def texts(table):
    return [[cell.text for cell in row] for row in table.body]


def rows_of(metrics, **common):
    return pd.DataFrame([common | {"metric": metric, "value": value} for metric, value in metrics.items()])


def make_controlled(folder):
    frame = planted_frame("run", strengths=(0.2, 0.5), control=0.5)
    common = {"run": "run", "routing": "learned", "layer": 1, "label_set": "upos", "p_value": 0.02, "null_mean": 0.003}
    metrics = {
        "conditional_information": 0.02, "ambiguous_mutual_information": 0.5,
        "next_token_uncertainty_coefficient": 0.07, "uncertainty_coefficient_without_first": 0.19,
    }  # fmt: skip
    run = make_run(folder / "run", syntax=pd.concat([frame, rows_of(metrics, **common)], ignore_index=True))
    tagger = rows_of(
        {"tagger_accuracy": 0.931}, run="run", label_set="upos against gold_upos", ci_low=0.92, ci_high=0.94
    )
    moved = rows_of(
        {"difference of uncertainty_coefficient": 0.0052}, run="run", routing="learned", layer=1,
        label_set="upos against gold_upos", ci_low=0.004, ci_high=0.006,
    )  # fmt: skip
    write_results(pd.concat([tagger, moved], ignore_index=True), run / "syntax" / "tagger", "upos")
    return run


def test_controls_are_the_numbers_of_the_frames(tmp_path):
    runs = read_runs([make_controlled(tmp_path)])
    records = read_records(runs)
    chance, random, word, tagger = control_tables(runs[0], judge_runs(runs, records)["run"])
    best, control = (
        100 * max(r.value for r in records if r.routing == routing and r.layer is not None)
        for routing in ("learned", "random")
    )
    assert texts(chance) == [["part of speech", "1", f"{best:.2f}", "0.20", "0.005", "0.005", "7.00", "19.00"]]
    # the random routers lie evenly around the first
    assert texts(random) == [
        ["part of speech", "1", f"{best:.2f}", f"{control:.2f}", "5 of 5", "0.167", f"{best - control:.2f}", "0.002"]
    ]
    assert [cell.below for cell in random.body[0][3:7]] == [
        f"{0.94 * control:.2f} to {1.06 * control:.2f}",
        "",
        "smallest possible",
        f"[{best - control - 1:.2f}, {best - control + 1:.2f}]",
    ]
    assert texts(word) == [["part of speech", "1", "0.500", "0.020", "0.003", "0.020", "3\u00a0%"]]
    assert texts(tagger) == [
        ["tagging accuracy", "93.10", "[92.00, 94.00]"],
        ["U(predicted tags) − U(gold tags), layer 1", "0.52", "[0.40, 0.60]"],
    ]


def test_what_was_not_measured_has_no_table(tmp_path):
    runs = read_runs([make_run(tmp_path / "bare"), make_run(tmp_path / "run", syntax=planted_frame("run"))])
    records = read_records(runs)
    verdicts = judge_runs(runs, records)
    assert control_tables(runs[0], verdicts["bare"]) == []
    (only,) = control_tables(runs[1], verdicts["run"])
    assert texts(only)[0][6:] == ["–", "–"]
    assert routing_tables(runs[0]) == difference_tables(runs) == []


def test_a_comparison_beside_a_run_is_reported_with_its_sign(tmp_path):
    paths = [
        make_run(tmp_path / name, syntax=planted_frame(name, strengths=(strength,)))
        for name, strength in (("low", 0.2), ("high", 0.5))
    ]
    unpaired = compare_in_words(runs := read_runs(paths), read_records(runs))
    assert "their 95\u00a0% intervals do not overlap" in unpaired[0]
    frame = rows_of(
        {"mean difference of uncertainty_coefficient": -0.11, "mean difference of load_entropy": 0.25},
        run="low − high", routing="learned", ci_low=-0.13, ci_high=-0.1, p_value=0.0001, unit="share of H(label)",
    )  # fmt: skip
    frame.loc[0, "label_set"], frame.loc[1, "unit"] = "upos", "bits"
    write_results(frame, paths[0] / "compare", "against-high")
    runs = read_runs(paths)
    (sentence,) = compare_in_words(runs, read_records(runs))
    assert sentence.startswith("Part of speech: routing explains the largest share of H(POS) in high")
    assert "the difference, paired by documents and averaged over the layers, is 11.0 percentage points" in sentence
    assert "interval 10.0 to 13.0, p\u00a0<\u00a00.001" in sentence
    (table,) = difference_tables(runs)
    assert texts(table) == [
        ["U(part of speech), percentage points", "−11.00", "[−13.00, −10.00]", "< 0.001"],
        ["entropy of the load, bits", "0.25", "[−0.13, −0.10]", "< 0.001"],
    ]


def test_routing_has_load_and_where_measured_repeats_and_flow(tmp_path):
    frame = planted_frame("run", strengths=(0.2, 0.5))
    run = make_run(tmp_path / "run", syntax=frame)
    (load,) = routing_tables(read_runs([run])[0])
    shares = frame[(frame["metric"] == "load") & (frame["layer"] == 0)]["value"]
    assert texts(load)[0][3:] == [f"{8 * shares.max():.2f}", f"{8 * shares.min():.2f}", "0"]
    measured = [frame[frame["metric"].isin(["load", "load_entropy"])]]
    for layer in (0, 1):
        measured.append(rows_of({"first_expert_repeats": 0.3 + layer / 10}, run="run", routing="learned", layer=layer,
                                ci_low=0.28, ci_high=0.42, null_mean=0.2))  # fmt: skip
    measured.append(rows_of({"flow_uncertainty_coefficient": 0.15}, run="run", routing="learned", layer=0,
                            label_set="next_router", label="next", null_mean=0.001))  # fmt: skip
    measured.append(rows_of({"next_layer_recall": 0.4}, run="run", routing="learned", layer=0,
                            label_set="next_router", label="next", null_mean=0.1))  # fmt: skip
    for layer in (0, 1):
        measured.append(rows_of({"lru_hit_rate": 0.6, "optimal_hit_rate": 0.7}, run="run", routing="learned",
                                layer=layer, label_set="cache_size", label="4", null_mean=0.5))  # fmt: skip
    measured.append(rows_of({"common_committee_size": 3.0, "signature_difference": 0.04}, run="run", routing="learned",
                            layer=0, label_set="genre", null_mean=0.01, ci_low=0.02, ci_high=0.05))  # fmt: skip
    write_results(pd.concat(measured, ignore_index=True), run / "routing", "routing")
    _, more, predicted, labels = routing_tables(read_runs([run])[0])
    assert texts(labels) == [["0", "3", "0.0", "4.00", "1.00"]]
    assert labels.body[0][3].below == "[2.00, 5.00]"
    assert texts(predicted) == [
        ["0", "40.00", "10.00", "60.00", "50.00", "70.00"],
        ["1", "–", "–", "60.00", "50.00", "70.00"],
    ]
    assert "a cache (size 4)" in predicted.caption
    assert texts(more) == [["0", "30.00", "20.00", "15.00", "0.10"], ["1", "40.00", "20.00", "–", "–"]]
    assert more.body[0][1].below == "[28.00, 42.00]"


def test_gold_tags_stand_for_syntax_where_there_are_any(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2, 0.5)))
    write_results(planted_frame("run", label_set="gold_upos", strengths=(0.2, 0.5)), run / "syntax", "gold_upos")
    (read,) = read_runs([run])
    assert read.main_syntax == ["gold_upos"]
    assert read.label_sets == ["upos", "gold_upos"]


def test_user_errors_are_explained(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecializeError, match="folder that can be made"):
        write_report([run], tmp_path / "file" / "below", formats=())
    (run / "vocabulary").mkdir()
    (run / "vocabulary" / "top_tokens.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MeasurementError, match="got no 'routing'; run `specialize vocabulary` again"):
        read_runs([run])
