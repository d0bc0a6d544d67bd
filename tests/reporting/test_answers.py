"""The first screen: verdicts from the results of a run, and bars of the same numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.reporting.answers import answer_runs
from specialize.reporting.findings import read_records
from specialize.reporting.reading import read_runs
from specialize.reporting.verdict import judge_runs


def answer_of(folder, *, words=None, p_within=0.01, **planted):
    frame = planted_frame("run", **planted)
    if words is not None:
        best = frame[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "learned")]
        row = best.loc[[best["value"].idxmax()]].assign(p_value=p_within, null_mean=0.001)
        within, whole = (
            row.assign(metric=name, value=value)
            for name, value in zip(("conditional_information", "ambiguous_mutual_information"), words, strict=True)
        )
        frame = pd.concat([frame, within, whole], ignore_index=True)
    runs = read_runs([make_run(folder / "run", syntax=frame)])
    (answer,) = answer_runs(runs, judge_runs(runs, read_records(runs)))["run"]
    return answer


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"p_value": 0.4}, "unclear: test and interval disagree"),
        ({"p_value": 0.4, "null": 0.6}, "not distinguishable from chance"),
        ({"null": 0.6}, "unclear: test and interval disagree"),
        ({}, "above chance"),
        ({"control": 0.5}, "above chance and above random routers"),
        ({"control": 1.0}, "above chance, but not clearly above random routers"),
        ({"control": 1.6}, "above chance, but below random routers"),
        ({"control": 0.5, "draws": 1}, "above chance and above random routers"),
        ({"control": 0.5, "draws": 0}, "above chance"),  # an earlier version did not compare with it
        ({"p_value": float("nan")}, "not tested against chance"),
        ({"words": (0.01, 0.5)}, "above chance; mostly explained by token identity"),
        ({"words": (0.4, 0.5)}, "above chance"),
        ({"words": (0.4, 0.5), "p_within": 0.3}, "above chance; mostly explained by token identity"),
    ],
)
def test_verdicts(tmp_path, planted, verdict):
    answer = answer_of(tmp_path, **({"strengths": (0.2, 0.5), "seed": 0} | planted))
    assert answer.conclusion == verdict
    assert answer.about == "part of speech"


def test_value_interval_and_controls_are_the_frames(tmp_path):
    frame = planted_frame("run", strengths=(0.2, 0.5), control=0.5)
    answer = answer_of(tmp_path, strengths=(0.2, 0.5), control=0.5)
    rows = frame[frame["metric"] == "uncertainty_coefficient"]
    best = rows.loc[rows["value"].idxmax()]
    among = frame[(frame["metric"] == "uncertainty_coefficient_among_random_routers") & (frame["layer"] == 1)].iloc[0]
    control, low, high = (100 * among[name] for name in ("null_mean", "null_low", "null_high"))
    assert answer.value == f"{100 * best['value']:.1f}\u00a0%"
    assert answer.interval == f"{100 * best['ci_low']:.1f} to {100 * best['ci_high']:.1f}"
    assert answer.notes[0] == "layer 1; null mean 0.20\u00a0%; p\u00a0=\u00a00.005"
    apart = 100 * best["value"] - control
    assert [note.replace("\u00a0", " ") for note in answer.notes[1:3]] == [
        f"5 random routers: mean {control:.2f} %, {low:.2f} to {high:.2f} %",
        f"learned − random: {apart:.1f} percentage points (95 % interval {apart - 1:.1f} to {apart + 1:.1f}); above 5 "
        "of 5 (p = 0.167, the smallest that 5 random routers allow)",
    ]
    longest = 0.3  # of 0.01, 0.02, 0.05, 0.1, 0.2, 0.3 … the next after the largest value
    assert 0.2 < best["ci_high"] < longest
    assert answer.bar.value == pytest.approx(100 * best["value"] / longest, abs=0.01)
    assert answer.bar.low == pytest.approx(100 * best["ci_low"] / longest, abs=0.01)
    assert answer.bar.null == pytest.approx(100 * 0.002 / longest, abs=0.01)
    assert answer.bar.control == pytest.approx(control / longest, abs=0.01)


def test_bars_of_all_runs_are_on_one_scale(pair_runs):
    runs = read_runs(pair_runs)
    found = answer_runs(runs, judge_runs(runs, read_records(runs)))
    assert {name: [answer.about for answer in own] for name, own in found.items()} == {
        "toy-token": ["part of speech", "fitted topic", "known label “topic”"],
        "toy-sequence": ["fitted topic", "known label “topic”", "part of speech"],
    }  # the strongest first
    ratios = {
        round(answer.bar.value / float(answer.value.removesuffix("\u00a0%")), 1)
        for own in found.values()
        for answer in own
        if answer.bar.value > 5
    }
    assert len(ratios) == 1
    assert 50 < max(answer.bar.high for own in found.values() for answer in own) <= 100


def test_curves_are_the_values_of_the_layers(pair_runs):
    runs = read_runs(pair_runs)
    records = read_records(runs)
    for name, own in answer_runs(runs, judge_runs(runs, records), records).items():
        for answer in own:
            layers = [
                record
                for record in records
                if (record.run, record.label_set) == (name, answer.verdict.label_set) and record.layer is not None
            ]
            learned = [record.value for record in layers if record.routing == "learned"]
            line = re.search(r'class="line" points="([^"]*)"', answer.sparkline)
            heights = [36 - float(point.split(",")[1]) for point in line[1].split()]
            assert len(heights) == len(learned)
            drawn, values = np.array(heights) - 2, np.array(learned)
            scale = drawn.sum() / values.sum()
            assert np.allclose(drawn, scale * values, atol=0.1)  # heights have one decimal
            assert all(f"{record.layer}: " in answer.sparkline for record in layers)


def test_a_run_without_results_has_no_answers(tmp_path):
    runs = read_runs([make_run(tmp_path / "run")])
    assert answer_runs(runs, judge_runs(runs, read_records(runs))) == {"run": []}
