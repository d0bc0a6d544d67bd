import math

import pytest

from specialize.reporting.formatting import format_interval, format_share, percent, percent_range
from specialize.text import format_p

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.2013, "20.1 %"), (0.0213, "2.13 %"), (0.00213, "0.21 %"), (0.000213, "0.021 %"), (0.0, "0 %"),
        (-0.0004, "\N{MINUS SIGN}0.040 %"), (1.0, "100.0 %"), (math.nan, "\N{EN DASH}"), (-1e-9, "0 %"),
    ],
)  # fmt: skip
def test_percentages(share, text):
    assert percent(share).replace(NBSP, " ") == text


def test_intervals():
    assert percent_range(0.1, 0.125) == "10.0 to 12.5"
    assert percent_range(math.nan, 0.2) == ""
    assert format_interval(0.1, 0.125) == "[10.00, 12.50]"
    assert format_interval(0.1, math.inf) == format_share(math.nan) == "\N{EN DASH}"


def test_p_values():
    assert [format_p(p) for p in (0.00498, 0.0001, 0.34, math.nan)] == ["0.005", "< 0.001", "0.340", "\N{EN DASH}"]
