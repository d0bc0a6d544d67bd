"""The study of whole reports: the sizes of its effects are true, and its rows can be made again."""

import numpy as np
import pandas as pd
import pytest
from analyses.calibration import reports

from planted import channel_information


@pytest.mark.parametrize(("labels", "size"), [(17, 0.01), (4, 0.002)])
def test_effects_have_the_size_that_is_asked_for(labels, size):
    strength = reports.find_strength(labels, size)
    shares = reports.share_labels(labels)
    joint = (1 - strength) * shares[:, None] * reports.LOAD
    joint[np.arange(labels), np.arange(labels) % reports.EXPERTS] += strength * shares
    entropy = -(shares * np.log2(shares)).sum()
    assert channel_information(shares, joint / shares[:, None]) / entropy == pytest.approx(size)


def test_a_row_is_made_again_and_a_large_effect_is_claimed():
    row = reports.judge_report(job := reports.Job("power", "case", 0.05, 1))
    assert row == reports.judge_report(job)
    assert row["claimed"] == "case"
    assert row["p_value"] == pytest.approx(1 / 201, abs=1e-6)


def test_the_detectable_size_is_interpolated():
    powers = {0.01: 5, 0.02: 7, 0.04: 9}  # of 10
    rows = [
        {"study": "power", "target": "upos", "size": size, "p_value": 0.01 if number < found else 0.5}
        for size, found in powers.items()
        for number in range(10)
    ]
    assert reports.find_detectable(pd.DataFrame(rows), "upos") == pytest.approx(0.02 * 2**0.5)
