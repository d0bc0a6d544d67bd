"""The calibration of the measures of function: known truths, and tables that agree with the script."""

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
    trial = function.Trial(population, 1, null=False)
    for name, found, truth in trial.measure_effects():
        error = (found.ci_high - found.ci_low) / 4
        assert np.nanmax(np.abs(found.value - truth) / error) < 4.5, name


def test_truths_of_agreement_are_those_of_a_large_data_set():
    population = Population(Design("large layer", 8, 2, 6, 3000, 60, zipf=0.3))
    for name, found, truth in function.Trial(population, 1, null=False).measure_agreement():
        assert found.value == pytest.approx(truth, abs=0.1), name


def test_the_table_is_that_of_the_script():
    rows = function.calibrate(("few tokens", 2))
    of_design = RESULTS[RESULTS["design"] == "few tokens"]
    assert list(rows["quantity"]) == list(of_design["quantity"])
    assert set(rows.columns) <= set(RESULTS.columns)
    assert list(RESULTS["design"].unique()) == [design.name for design in DESIGNS]


def test_what_the_study_says_of_the_table():
    """Where intervals carry no warning they cover the truth, and tests reject 5 % of true nulls."""
    assert (RESULTS["datasets"] >= 400).all()
