"""How tables come out on terminals of several widths."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from specialize.cli import tables
from specialize.cli.tables import number, print_table, text, word
from specialize.text import format_p

NUMBERS = ["−0.844 [−0.846, −0.842]", "0.157 [0.123, 0.190]"]
LABELS = "a label [of some length] that a corpus brought"
COLUMNS = [number("layer"), text("labels"), word("quantity"), number("difference\nof the two"), number("p")]
ROWS = [[0, LABELS, "load entropy, bits", NUMBERS[0], "<0.001"], [10, "[red]x", "U", NUMBERS[1], "0.040"]]


@pytest.fixture
def printed(monkeypatch):
    """Print a table to a terminal of some width; return its lines."""

    def run(width, title, columns, rows):
        screen = io.StringIO()
        monkeypatch.setattr(tables, "out", Console(file=screen, width=width, color_system=None))
        print_table(title, columns, rows)
        return screen.getvalue().splitlines()

    return run


def test_a_table_with_room(printed):
    assert printed(120, "[b]title", COLUMNS, ROWS) == [
        "[b]title",
        f"{'':88}difference        ",
        f"layer  {'labels':46}  {'quantity':18}  {'of the two':>23}       p",
        f"    0  {LABELS}  load entropy, bits  {NUMBERS[0]}  <0.001",
        f"   10  {'[red]x':46}  {'U':18}  {NUMBERS[1]:>23}   0.040",
    ]


def test_texts_fold_first(printed):
    lines = printed(80, None, COLUMNS, ROWS)
    assert all(len(line) == 80 for line in lines)
    assert [line[29:] for line in lines if "[−0.846" in line] == [f"load entropy, bits  {NUMBERS[0]}  <0.001"]
    assert " ".join(line[7:27].strip() for line in lines[2:-1]) == LABELS


def test_then_intervals_go_below_their_values(printed):
    lines = printed(64, None, COLUMNS, ROWS)
    assert all(len(line) == 64 for line in lines)
    assert [line[-24:].strip() for line in lines[2:4]] == ["−0.844  <0.001", "[−0.846, −0.842]"]
    assert " ".join(line[7:18].strip() for line in lines[2:8]) == LABELS  # of a text the brackets stay


def test_a_terminal_that_is_too_narrow_breaks_lines_itself(printed):
    lines = printed(20, "a title longer than twenty columns", COLUMNS, ROWS)
    assert lines[0] == "a title longer than twenty columns"
    assert any("[−0.846, −0.842]" in line for line in lines)
    assert any("load entropy, bits" in line for line in lines)


def test_numbers_are_written_one_way():
    row = pd.Series({"value": -0.84449, "ci_low": -0.8461, "ci_high": 0.25, "unit": "bits"})
    assert tables.format_estimate(row) == "−0.844 [−0.846, 0.250]"
    row["ci_low"] = np.nan
    assert tables.format_estimate(row) == "−0.844"
    assert tables.format_estimate(pd.Series({"value": 1234.0, "unit": "count"})) == "1,234"
    assert tables.format_number(-0.0001) == "0.000"
    assert [format_p(p) for p in (0.0004, 0.0005, 0.04, np.nan)] == ["< 0.001", "0.001", "0.040", "–"]


def test_records_hold_no_missing_numbers():
    frame = pd.DataFrame({"layer": pd.array([1, pd.NA], dtype="Int64"), "value": [np.nan, 0.5]})
    assert tables.frame_records(frame) == [{"layer": 1, "value": None}, {"layer": None, "value": 0.5}]
