import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from specialize.errors import MeasurementError, OutputError
from specialize.measure import RESULT_COLUMNS, read_results, write_results
from specialize.measure.results import files


@pytest.fixture
def frame():
    return files.as_results(
        pd.DataFrame(
            {
                "run": ["demo", "demo", "demo"],
                "layer": [0, 1, None],
                "expert": [None, 2, None],
                "label_set": "domain",
                "label": ["=HYPERLINK(1)", 'news, "daily"\nline', None],
                "metric": ["lift", "lift", "max_uncertainty_coefficient"],
                "value": [-0.25, 1 / 3, np.nan],
                "unit": "ratio",
                "n_tokens": 10,
            }
        )
    )


def test_frames_come_back_whole(tmp_path, frame):
    csv_path, parquet_path = write_results(frame, tmp_path / "deep" / "er", "upos")
    assert (csv_path.name, parquet_path.name) == ("upos.csv", "upos.parquet")
    back = read_results(tmp_path / "deep" / "er", "upos")
    pd.testing.assert_frame_equal(back, frame)
    assert list(back.columns) == list(RESULT_COLUMNS)
    assert sorted(path.name for path in csv_path.parent.iterdir()) == ["upos.csv", "upos.parquet"]


def test_an_empty_frame_comes_back(tmp_path):
    empty = files.as_results(pd.DataFrame())
    write_results(empty, tmp_path, "none")
    pd.testing.assert_frame_equal(read_results(tmp_path, "none"), empty)


@pytest.mark.parametrize(
    "start",
    [
        *("=", "+", "-", "@", "\t=", "\r@", " \0="),
        *("\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66"),  # of full width, and small
        *("\ufeff=", "\u200b", " \u2060=", "\u00ad@"),  # after what is not visible
    ],
)
def test_labels_cannot_be_formulas_in_the_csv(tmp_path, frame, start):
    frame.loc[0, "label"] = f"{start}1+1"
    csv_path, _ = write_results(frame, tmp_path, "x")
    with csv_path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["label"] == "'" + re.sub("[\t\r\0]", " ", start.removeprefix("\ufeff")) + "1+1"
    assert rows[0]["value"] == "-0.25"  # numbers stay numbers
    assert rows[1]["label"] == 'news, "daily" line'
    assert rows[2]["label"] == ""
    assert float(rows[1]["value"]) == 1 / 3
    assert rows[1]["expert"] == "2"
    assert read_results(tmp_path, "x").loc[0, "label"] == f"{start}1+1"


def test_direction_and_control_characters_stay_out_of_the_csv(tmp_path, frame):
    frame.loc[0, "label"] = "\u202egnp.exe\x1b[31m\0"
    csv_path, _ = write_results(frame.assign(run="=run"), tmp_path, "x")
    read = pd.read_csv(csv_path)
    assert read.loc[0, "label"] == "gnp.exe [31m "
    assert set(read["run"]) == {"'=run"}
    assert read_results(tmp_path, "x").loc[0, "label"] == "\u202egnp.exe\x1b[31m\0"


def test_a_failed_write_leaves_the_old_file(tmp_path, frame, monkeypatch):
    csv_path, parquet_path = write_results(frame, tmp_path, "x")
    before = csv_path.read_bytes(), parquet_path.read_bytes()

    def fail(*_args, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OutputError, match="no space"):
        write_results(frame, tmp_path, "x")
    assert (csv_path.read_bytes(), parquet_path.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a\0b"])
def test_names_are_plain(tmp_path, frame, name):
    with pytest.raises(MeasurementError, match="plain file name"):
        write_results(frame, tmp_path, name)
    with pytest.raises(MeasurementError, match="plain file name"):
        read_results(tmp_path, name)


def test_misfits_are_named(tmp_path, frame):
    with pytest.raises(MeasurementError, match=r"'valeu'\. Did you mean 'value'\?"):
        write_results(frame.rename(columns={"value": "valeu"}), tmp_path, "x")
    write_results(frame, tmp_path, "upos")
    with pytest.raises(MeasurementError, match=r"no such file: measure first\. Did you mean 'upos'\?"):
        read_results(tmp_path, "upso")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(MeasurementError, match="unreadable file"):
        read_results(tmp_path, "broken")
    pd.DataFrame({"value": [1.0]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(MeasurementError, match="got no column 'run'"):
        read_results(tmp_path, "other")


@pytest.mark.parametrize("label", ["1+1", "a=b", "\u2212 minus", "naïve", "'=quoted", "\u4e2d"])
def test_other_labels_are_written_as_they_are(tmp_path, frame, label):
    frame.loc[0, "label"] = label
    csv_path, _ = write_results(frame, tmp_path, "x")
    with csv_path.open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["label"] == label


@pytest.mark.parametrize("kept", [0, 1, 100, -30, -8])
def test_truncated_results_are_one_line(tmp_path, frame, kept):
    _, parquet = write_results(frame, tmp_path, "x")
    parquet.write_bytes(parquet.read_bytes()[:kept])
    with pytest.raises(MeasurementError, match=r"x\.parquet: expected results, got an unreadable file") as caught:
        read_results(tmp_path, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("value", ["a", "b", "c"], "numbers"),
        ("value", [[1.0], [2.0], [3.0]], "numbers"),
        ("p_value", [True, False, True], "numbers"),
        ("layer", [0.5, 1.0, 2.0], "whole numbers"),
        ("expert", [0.0, np.inf, 1.0], "whole numbers"),
        ("metric", [1, 2, 3], "text"),
        ("label", [["x"], None, ["y"]], "text"),
    ],
)
def test_results_of_other_types_are_one_line(tmp_path, frame, column, values, kind):
    frame.assign(**{column: values}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(MeasurementError, match=f"expected {kind} in the column '{column}', got others; measure again"):
        read_results(tmp_path, "x")


@pytest.mark.parametrize("row", ["0,0.5,share,7", "0,0.5"])
def test_a_csv_file_with_a_row_of_other_length_is_damaged(tmp_path, row):
    (tmp_path / "x.csv").write_text(f"layer,value,unit\n1,0.25,share\n{row}\n")
    with pytest.raises(MeasurementError, match=r"x\.csv: .* fields in line 3, 3 in its header\); measure again"):
        files.read_with_origin(tmp_path / "x.csv")
