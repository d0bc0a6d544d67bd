"""Stored results say of which trace they are, and any damage to their file is noticed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from specialize.errors import MeasurementError
from specialize.measure import read_results, write_results
from specialize.measure.results.files import as_results, read_with_origin
from specialize.measure.results.stored import KEY, Origin, read_stored, store_table


@pytest.fixture
def frame():
    return as_results(
        pd.DataFrame(
            {
                "run": "demo",
                "layer": [0, 1, None],
                "label": ["news", 'a "b"\n\u4e2d', None],
                "metric": ["lift", "lift", "max_uncertainty_coefficient"],
                "value": [-0.25, 1 / 3, np.nan],
                "n_tokens": 2**53 - 1,
            }
        )
    )


@pytest.fixture
def trace(tmp_path):
    return SimpleNamespace(path=tmp_path / "run", digest="0f" * 32)


def test_results_name_their_trace_and_place(tmp_path, frame, trace):
    _, inside = write_results(frame, trace.path / "syntax", "upos.v2", trace=trace)
    _, outside = write_results(frame, tmp_path / "else", "upos", trace=trace)
    _, unknown = write_results(frame, trace.path / "syntax", "upos")
    assert read_with_origin(inside)[1] == Origin(trace.digest, "syntax/upos.v2")
    assert read_with_origin(outside)[1] == Origin(trace.digest, None, None)
    assert read_with_origin(unknown)[1] == Origin(None, None)
    frame.to_parquet(tmp_path / "mine.parquet")
    assert read_with_origin(tmp_path / "mine.parquet")[1] is None
    pd.testing.assert_frame_equal(read_results(trace.path / "syntax", "upos.v2"), frame)


def test_tables_of_any_types_come_back(tmp_path):
    table = pd.DataFrame(
        {
            "text": ["NA", "null", None, ""],
            "whole": [1, 2, 3, 4],
            "yes": [True, False, True, True],
            "mixed": pd.Series([1.5, None, 2, 3]),
            "none": [None] * 4,
            "kind": pd.Categorical(["a", "b", "a", None]),
        }
    )
    store_table(table, tmp_path / "x.parquet")
    back, _ = read_stored(tmp_path / "x.parquet")
    assert back["text"].tolist()[:2] == ["NA", "null"]
    pd.testing.assert_frame_equal(back, table.astype({"kind": object}), check_dtype=False)
    store_table(pd.DataFrame({"text": []}), tmp_path / "x.parquet")
    assert read_stored(tmp_path / "x.parquet")[0].empty


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, frame, trace):
    _, path = write_results(frame, trace.path, "x", trace=trace)
    whole, origin = path.read_bytes(), Origin(trace.digest, "x")
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 300, replace=False):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            read, said = read_with_origin(path)
        except MeasurementError:
            continue
        pd.testing.assert_frame_equal(as_results(read), frame)
        assert said in (origin, None)  # None where the name of the entry itself was hit


@pytest.mark.parametrize(
    "edit",
    [
        lambda table, entry: table.set_column(0, "run", [["other", "demo", "demo"]]),
        lambda table, entry: table.rename_columns(["Run", *table.column_names[1:]]),
        lambda table, entry: table.slice(1),
        lambda table, entry: table.select(table.column_names[:-1]),
        lambda table, entry: table.replace_schema_metadata({KEY: entry.replace(b"0f0f", b"0f0e")}),
        lambda table, entry: table.replace_schema_metadata({KEY: entry.replace(b'"syntax/x"', b"null")}),
        lambda table, entry: table.replace_schema_metadata({KEY: entry.replace(b'"place"', b'"plate"')}),
        lambda table, entry: table.replace_schema_metadata({KEY: b"[]"}),
        lambda table, entry: table.replace_schema_metadata({KEY: b"\xff"}),
    ],
)
def test_an_edited_file_does_not_match_its_checksum(frame, trace, edit):
    _, path = write_results(frame, trace.path / "syntax", "x", trace=trace)
    table = pq.read_table(path)
    edited = edit(table, table.schema.metadata[KEY])
    if KEY not in (edited.schema.metadata or {}):
        edited = edited.replace_schema_metadata(table.schema.metadata)
    pq.write_table(edited, path)
    with pytest.raises(MeasurementError, match=r"x\.parquet: expected results, got an unreadable file .*again"):
        read_results(path.parent, "x")


def test_folders_named_as_hive_partitions_add_no_column(tmp_path, frame):
    write_results(frame, tmp_path / "run=1", "x")
    assert set(read_results(Path(tmp_path / "run=1"), "x")["run"]) == {"demo"}
