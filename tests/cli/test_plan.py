"""`specialize plan` on a checkpoint and a corpus: what it measures, prints and raises."""

import json
import re

import pytest

SIZE = ("--tokens", 10**6, "--documents", 1000)


@pytest.fixture(scope="module")
def config(checkpoint):
    return checkpoint / "config.json"


def test_table(call, config):
    code, out, err = call("plan", config, *SIZE, "--tflops", 100, "--hours", 1, "--price-per-hour", 2)
    assert (code, err) == (0, "")
    rows = re.findall(r"^(\w+) +[\d.,]+ (?:s|min|h) a ", out, re.MULTILINE)
    assert rows == ["trace", "syntax", "topics", "ablate", "all"]
    assert "1,000 a documents, 1,000,000 a tokens" in out
    assert "m measured on this machine, c computed, a assumed:" in out
    assert "100 TFLOP/s x 0.3 utilisation" in out
    assert "2 for each hour of a device" in out


def test_json(call, config):
    code, out, _ = call("plan", config, *SIZE, "--tflops", 100, "--stages", "trace,topics", "--no-weights", "--json")
    assert code == 0
    found = json.loads(out)
    assert [stage["stage"] for stage in found["stages"]] == ["trace", "topics"]
    assert found["tokens"] == {"value": 10**6, "basis": "assumed"}
    trace = found["stages"][0]
    assert trace["disk_bytes_by_part"].keys() == {"documents", "tokens", "experts"}
    assert trace["disk_bytes"]["value"] == sum(part["value"] for part in trace["disk_bytes_by_part"].values())
    assert trace["time_seconds"]["basis"] == "assumed"
    assert found["total"]["cost"] is None
    assert found["assumptions"]


def test_short_runs(call, checkpoint, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    columns = ("--text-column", "body", "--id-column", "name")
    code, out, err = call("plan", checkpoint, corpus, *columns, "--stages", "trace", "--json")
    assert code == 0, err
    found = json.loads(out)
    trace = found["stages"][0]
    for name in ("time_seconds", "cpu_seconds", "peak_host_memory_bytes", "disk_bytes"):
        assert trace[name]["basis"] == "measured", name
        assert trace[name]["value"] > 0
    assert found["machine"]["name"] == "this machine"
    assert {"experts", "weights", "tokens", "documents"} <= trace["disk_bytes_by_part"].keys()
    # the samples are the whole corpus here: its bytes are those that a trace leaves
    code, _, _ = call("trace", checkpoint, corpus, *columns, "-o", tmp_path / "run")
    assert code == 0
    shards = json.loads((tmp_path / "run" / "manifest.json").read_text())["shards"]
    size = sum(path.stat().st_size for path in (tmp_path / "run" / "trace").glob("*.arrow"))
    size += sum(len(json.dumps(shard, indent=2)) for shard in shards)  # the rest of a manifest names commands and paths
    planned = sum(part["value"] for name, part in trace["disk_bytes_by_part"].items() if name != "manifest")
    assert planned == pytest.approx(size, rel=0.02)
    documents, tokens = found["documents"]["value"], found["tokens"]["value"]
    assert documents == 40
    assert tokens == pytest.approx(json.loads((tmp_path / "run" / "manifest.json").read_text())["shards"][0]["tokens"])
    assert not list(tmp_path.glob("specialize-plan-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected a corpus, or its numbers of tokens and documents, got no tokens and no documents"),
        (("--tokens", 100), "got no documents"),
        ((*SIZE, "--price-per-hour", -1), "price_per_hour: expected a price of at least 0, got -1.0"),
        ((*SIZE, "--hours", -2), "hours: expected a positive number, got -2.0"),
        ((*SIZE, "--hardware", "h10"), "Did you mean 'h100'?"),
        ((*SIZE, "--measure"), "measure: expected a corpus"),
        ((*SIZE, "--sample", 10), "sample: expected it with a corpus, got none"),
        ((*SIZE, "--limit", 10), "limit: expected it with a corpus, got none"),
        ((*SIZE, "--label", "topic"), "labels: expected it with a corpus, got none"),
        ((*SIZE, "--stages", "probe"), "stages: expected any of trace, syntax, topics, ablate, got 'probe'"),
        ((*SIZE, "--context", 10**6), "context: expected at most"),
    ],
)
def test_errors_are_one_line(call, config, options, message):
    code, out, err = call("plan", config, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_models_that_cannot_be_planned(call, dense_checkpoint, corpus, checkpoint, tmp_path):
    code, _, err = call("plan", dense_checkpoint, *SIZE)
    assert code == 2
    assert "expected the configuration of a Mixture-of-Experts model" in err
    code, _, err = call("plan", checkpoint, corpus, "--text-column", "body", "--measure", "--hardware", "h100")
    assert code == 2
    assert "measure: expected no other hardware" in err
    code, _, err = call("plan", checkpoint, corpus, *SIZE, "--no-measure")
    assert code == 2
    assert "got both" in err
    (tmp_path / "manifest.json").write_text("{}")
    code, _, err = call("plan", checkpoint, tmp_path)
    assert code == 2
    assert "expected a corpus, got a run folder" in err
