import json

import pandas as pd
import pytest

from specialize.cli.demo import run_demo


@pytest.mark.slow
def test_the_demo_leads_to_a_report(tmp_path):
    runs, page = run_demo(tmp_path / "out", limit=300, command="specialize demo")
    assert [run.name for run in runs] == ["token", "sequence"]
    html = page.read_text(encoding="utf-8")
    assert "What routing tells" in html
    frames = {(run.name, path.stem): pd.read_parquet(path) for run in runs for path in sorted(run.glob("*/*.parquet"))}
    assert {key[1] for key in frames} == {"upos", "bertopic", "gold_topic"}
    for frame in frames.values():
        u = frame[frame["metric"] == "uncertainty_coefficient"]
        assert u["layer"].tolist() == [0, 1, 2, 3]
        assert u[["value", "ci_low", "ci_high", "null_mean", "p_value"]].notna().all(axis=None)
    best = {
        key: frame.loc[frame["metric"] == "uncertainty_coefficient", "value"].max() for key, frame in frames.items()
    }
    assert best["token", "upos"] > best["sequence", "upos"]
    manifests = [json.loads((run / "manifest.json").read_text()) for run in runs]
    assert manifests[0]["corpus"]["digest"] == manifests[1]["corpus"]["digest"]
