"""The report of a trace as large as today's models make them."""

import pytest

from reporting.own_text import read_packed
from reporting.synthetic_runs import plant_results, store_trace
from specialize.reporting import write_report

LARGE = {"layers": 94, "experts": 128}


@pytest.mark.slow
def test_94_layers_of_128_experts(tmp_path):
    run = store_trace(tmp_path / "run", **LARGE, slots=8, documents=40, words=300)
    plant_results(run, **LARGE, control=0.5, topics=[f"label {n}" for n in range(30)])
    page = write_report([run], tmp_path / "report", formats=())
    assert page.stat().st_size < 20e6
    experts, explorer = read_packed(page.read_text(encoding="utf-8"))
    assert len(experts["runs"][0]["expert"]) == 94 * 128
    assert [layer["experts"] for layer in explorer["runs"][0]["layers"]] == [128] * 94
