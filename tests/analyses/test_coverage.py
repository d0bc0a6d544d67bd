"""The calibration of every quantity: known truths, tallies, resuming, and tables that agree with the results."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analyses.calibration import coverage
from analyses.calibration.coverage import DESIGNS, HERE, Tally, fill_readme, make_tables
from analyses.calibration.populations import Design, Population
from analyses.calibration.quantities import EXPECTED, measure, true_values
from numpy.testing import assert_allclose

ROOT = Path(__file__).parents[2]
RESULTS = HERE / "results"
# Measured by the same functions as a quantity of the calibration, on other labels or means of it.
SAME = {
    "next_token_mutual_information": "mutual_information",
    "next_token_uncertainty_coefficient": "uncertainty_coefficient",
    "uncertainty_coefficient_among_random_routers": "uncertainty_coefficient",  # p is a rank
    "uncertainty_coefficient_without_first": "uncertainty_coefficient",
    "difference of …": "difference of mutual_information",
    "mean difference of …": "difference of mutual_information",
    "equivalence of …": "equivalence of uncertainty_coefficient",
    "mean equivalence of …": "equivalence of uncertainty_coefficient",
    "saturation_to_previous": "saturation",
    "tagger_accuracy": "domain_specialization",
    "tagger_recall": "domain_specialization",
    "tagger_precision": "domain_specialization",
    "baseline_accuracy": "baseline_accuracy, majority",
    "choice_entropy": "mean by label",
    "choice_margin": "mean by label",
    "next_token_loss": "mean by label",
    "predicted_token_loss": "mean by label",
    "common_committee_load": "load",
    "common_committee_mass": "domain_specialization",
    "removal_effect": "effect",
    "first_expert_agreement": "mean by label",
    "mismatched_tokens": "mean by label",
    "mismatched_tokens_in_any_layer": "mean by label",
    "gate_weight_difference": "mean by label",
}
WITHOUT_INTERVAL = {
    "dead_experts", "skipped_positions", "random_router_draws", "committee_size", "common_committee_size",
    "effect_reliability", "lift_reliability", "saliency", "output_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return Design("small", 6, 2, 3, 40, 30, persistence=0.3, dropped=0.1, probes=True)


@pytest.mark.parametrize("level", ["token", "document"])
def test_truths_are_those_of_a_large_data_set(level):
    design = Design(f"large {level}", 6, 2, 3, 4000, 40, level=level, persistence=0.3, dropped=0.1)
    population = Population(design)
    truth = true_values(population, repeats=False)
    population.margin = truth["difference of uncertainty_coefficient"]
    for name, found in measure(population, population.draw(0), permutations=0, seed=0):
        if name in truth:
            error = np.asarray(found.ci_high - found.ci_low) / 4 + 1e-9
            assert np.nanmax(np.abs(found.value - truth[name]) / error) < 4.5, name


def test_the_gate_rule_has_its_own_truth():
    population = Population(Design("gate", 5, 3, 2, 3000, 40, rule="gate"))
    sample = population.draw(1)
    weights = sample.weights / sample.weights.sum(axis=1, keepdims=True)
    counted = np.zeros((2, 5))
    np.add.at(counted, (sample.codes[:, None], sample.experts), weights)
    assert_allclose(counted / counted.sum(), population.mass().sum(axis=1), atol=0.01)


def test_nothing_is_associated_under_the_null(small):
    population = Population(small)
    population.margin = 0.1
    sample = population.draw_null(3)
    assert not np.array_equal(sample.codes, population.draw(3).codes)
    found = dict(measure(population, sample, permutations=39, seed=0))
    for name in ("mutual_information", "conditional_information", "flow_mutual_information"):
        assert found[name].ci_low < 0.01


def test_tallies_by_hand():
    tally = Tally()
    tally.add([True, False, True], [True, True, False], bias=np.array([1.0, 2.0, np.nan]))
    tally.add([True, True, False], [True, True, False], bias=np.array([3.0, 2.0, np.nan]))
    tally.add([False, False, False], [False, False, False], bias=np.full(3, np.nan))
    found = tally.summarize()
    assert (found["datasets"], found["share"], found["lowest"]) == (2, 0.75, 0.5)
    assert found["error"] == pytest.approx(np.std([0.5, 1], ddof=1) / np.sqrt(2))
    assert_allclose(tally.mean("bias"), [2, 2, np.nan])


def test_verdicts():
    assert [coverage.judge_coverage(share, 0.95) for share in (0.919, 0.92, 0.98, 0.981)] == [
        "undercovers", "inside", "inside", "cautious",
    ]  # fmt: skip
    assert coverage.judge_coverage(0.86, 0.9) == "undercovers"
    assert [coverage.judge_rejection(share) for share in (0.02, 0.03, 0.07, 0.08)] == [
        "cautious", "inside", "inside", "rejects too often",
    ]  # fmt: skip


def test_a_run_writes_its_tables_and_is_resumed(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coverage, "BY_NAME", {"small": small})
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{coverage.BEGIN}\nold\n{coverage.END}\nafter\n", encoding="utf-8")
    command = ["coverage", "-o", str(tmp_path), "--readme", str(readme), "--datasets", "3", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--designs", "small"])
    coverage.main()
    assert len(capsys.readouterr().out.splitlines()) == 4  # two tables of two parts
    rows = pd.read_csv(tmp_path / "coverage.csv")
    assert set(rows["quantity"]) >= {"uncertainty_coefficient", "lift", "saturation", "selectivity", *EXPECTED}
    assert (rows["datasets"] == 3).all()
    assert not rows.duplicated(["design", "quantity"]).any()
    rejected = pd.read_csv(tmp_path / "rejections.csv")
    assert rejected["rejected"].between(0, 1).all()
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert make_tables(tmp_path) in text
    coverage.main()
    assert capsys.readouterr().out == ""
    assert readme.read_text(encoding="utf-8") == text


def test_every_documented_quantity_is_calibrated():
    text = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]*`) \|", text.partition("## Association")[2], flags=re.M)
    documented = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    measured = {*true_values(Population(Design("any", 4, 2, 2, 20, 20))), *EXPECTED, "max_uncertainty_coefficient"}
    measured |= set(pd.read_csv(RESULTS / "function.csv")["quantity"])
    assert documented - WITHOUT_INTERVAL - set(SAME) <= measured
    assert set(SAME.values()) <= measured


def test_designs_are_of_many_kinds():
    assert len(DESIGNS) >= 8
    assert {min(each.experts for each in DESIGNS), max(each.experts for each in DESIGNS)} == {8, 128}
    assert {min(each.documents for each in DESIGNS), max(each.documents for each in DESIGNS)} == {20, 500}
    assert max(each.labels for each in DESIGNS) == 40


def test_the_readme_holds_the_tables_of_the_results():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    assert fill_readme(text, make_tables(RESULTS)) == text
