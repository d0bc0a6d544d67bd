"""The calibration of the measures of function: known truths, and a table that agrees with the script and the study."""

import re

import numpy as np
import pandas as pd
import pytest
from analyses.calibration import function
from analyses.calibration.coverage import DESIGNS, HERE
from analyses.calibration.populations import Design, Population

RESULTS = pd.read_csv(HERE / "results" / "function.csv")


@pytest.mark.parametrize("level", ["token", "document"])
def test_truths_are_those_of_a_large_data_set(level):
    population = Population(Design(f"large {level}", 6, 2, 3, 4000, 40, level=level, persistence=0.3, dropped=0.1))
    for name, found, truth in function.Trial(population, 1, null=False).measure_effects():
        error = (found.ci_high - found.ci_low) / 4
        assert np.nanmax(np.abs(found.value - truth) / error) < 4.5, name


def test_true_agreement_is_that_of_a_large_data_set():
    population = Population(Design("large layer", 8, 2, 6, 2000, 60, zipf=0.3))
    for name, found, truth in function.Trial(population, 1, null=False).measure_agreement():
        assert found.ci_low <= truth <= found.ci_high, name
        assert "score" in name or found.value == pytest.approx(truth, abs=0.1), name  # eight experts change in steps


def test_the_table_is_that_of_the_script():
    rows = function.calibrate(("few tokens", 2))
    of_design = RESULTS[RESULTS["design"] == "few tokens"]
    assert list(rows["quantity"]) == list(of_design["quantity"])
    assert set(rows.columns) <= set(RESULTS.columns)
    assert list(RESULTS["design"].unique()) == [design.name for design in DESIGNS]
    assert (RESULTS["datasets"] == 400).all()


def test_the_readme_holds_the_table():
    text = (HERE / "README.md").read_text(encoding="utf-8").split("## Experts switched off")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, flags=re.M))
    assert list(rows) == list(RESULTS["quantity"].unique())
    for quantity, own in RESULTS.groupby("quantity"):
        shares = [own["coverage"][own["warned"] < 0.9], own["coverage_warned"], own["rejected"]]
        for share in shares:
            if share.notna().any():
                assert (
                    f"{100 * share.mean():.1f} ({100 * share.min():.1f} to {100 * share.max():.1f})" in rows[quantity]
                )
