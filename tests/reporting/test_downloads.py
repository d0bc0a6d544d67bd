"""Tables inside the page are those that were measured."""

import base64
import gzip
import io
import re

import numpy as np
import pandas as pd

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.reporting import downloads
from specialize.reporting.downloads import collect_downloads, pack_table
from specialize.reporting.reading import read_runs


def unpack(href):
    return gzip.decompress(base64.b64decode(href.removeprefix("data:application/gzip;base64,"))).decode()


def test_every_frame_is_there_with_six_digits(pair_runs, pair):
    found = {each.name: each for each in collect_downloads(read_runs(pair_runs))}
    assert set(found) >= {
        f"{run}-{name}.csv" for run in ("1-toy-token", "2-toy-sequence") for name in ("upos", "topic")
    }
    held = pd.read_csv(io.StringIO(unpack(found["1-toy-token-upos.csv"].href)))
    frame = pd.read_parquet(pair_runs[0] / "syntax" / "upos.parquet")
    assert len(held) == len(frame) == found["1-toy-token-upos.csv"].rows
    np.testing.assert_allclose(held["value"], frame["value"], rtol=1e-5)
    assert held["label"].dropna().tolist() == frame["label"].dropna().tolist()
    html = pair[1].read_text(encoding="utf-8")
    assert set(re.findall(r'download="([^"]+)\.gz">\1<', html)) == set(found)
    assert all(each.href in html for each in found.values())


def test_formulas_and_controls_are_harmless(tmp_path):
    hostile = ["=HYPERLINK(1)", "\u202egnp.exe\0", '"quoted", <script>']
    text = unpack(pack_table(planted_frame("@run", labels=hostile, strengths=(0.4,))))
    read = pd.read_csv(io.StringIO(text))
    assert set(read["label"].dropna()) == {"'=HYPERLINK(1)", "gnp.exe ", '"quoted", <script>'}
    assert set(read["run"]) == {"'@run"}
    assert not set("\0\u202e") & set(text)


def test_what_is_too_large_keeps_the_rows_of_whole_layers(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MOST_ROWS", 50)
    frame = planted_frame("run", strengths=(0.2, 0.4))
    (table,) = collect_downloads(read_runs([make_run(tmp_path / "run", syntax=frame)]))
    kept = pd.read_csv(io.StringIO(unpack(table.href)))
    assert "expert" not in kept
    assert table.rows == len(kept) == frame["expert"].isna().sum()
    assert table.left_out == frame["expert"].notna().sum()


def test_the_same_table_gives_the_same_bytes():
    frame = planted_frame("run", strengths=(0.2,))
    assert pack_table(frame) == pack_table(frame.copy())
