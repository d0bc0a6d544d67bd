"""Parts of a trace from the command line: every process runs the same command, and `merge` joins what they made."""

import json
from pathlib import Path

import pytest

import specialize
from specialize.trace.manifest import read_manifest

COLUMNS = ("--text-column", "body", "--id-column", "name", "--batch-tokens", "256", "--context", "32")


def test_two_parts_and_their_merge(checkpoint, corpus, call, tmp_path, monkeypatch):
    run, whole = tmp_path / "runs" / "own", tmp_path / "whole"
    assert call("trace", checkpoint, corpus, "-o", whole, *COLUMNS)[0] == 0
    for name, value in (("PROCID", "0"), ("NTASKS", "2"), ("STEP_ID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    code, out, err = call("trace", checkpoint, corpus, "-o", run, *COLUMNS, "--shard", "auto")
    assert code == 0
    assert err.splitlines()[0] == "shard auto: part 1 of 2 (SLURM_PROCID 0 of SLURM_NTASKS 2)"
    assert err.splitlines()[-1].endswith(f"specialize merge {run}.part-*-of-2 -o {run}")
    shards = len(read_manifest(whole)["shards"])
    held = len(read_manifest(Path(f"{run}.part-1-of-2"), part=True)["shards"])
    assert out.splitlines()[0].split() == ["part", *f"1 of 2, with {held} of {shards} shards".split()]
    assert out.splitlines()[-1] == f"{run}.part-1-of-2"
    code, _, err = call("merge", f"{run}.part-1-of-2", "-o", run)
    assert (code, run.exists()) == (2, False)
    assert err == (
        "specialize: expected all 2 parts of the trace, complete; missing: part 2; trace it with --shard 2/2, or "
        "add its folder\n"
    )
    code, out, _ = call("trace", checkpoint, corpus, "-o", run, *COLUMNS, "--shard", "2/2", "--json")
    assert code == 0
    assert json.loads(out)["run"] == f"{run}.part-2-of-2"
    assert json.loads(out)["part"] == {"number": 2, "of": 2, "shards": shards}
    parts = sorted(run.parent.iterdir())
    code, out, err = call("merge", *parts, "-o", run, "--json")
    assert code == 0
    assert "merging" in err
    expected = specialize.open_trace(whole)
    assert json.loads(out)["tokens"] == expected.num_tokens
    assert specialize.open_trace(run).digest == expected.digest
    merged_from = read_manifest(run)["merged_from"]
    assert [entry["command"].rsplit(" ", 2)[1:] for entry in merged_from] == [["--shard", "auto"], ["2/2", "--json"]]
    assert read_manifest(run)["command"].startswith("specialize merge ")


def test_validate_and_stages_say_that_it_is_a_part(checkpoint, corpus, call, tmp_path):
    part = tmp_path / "run.part-2-of-2"
    assert call("trace", checkpoint, corpus, "-o", tmp_path / "run", *COLUMNS, "--shard", "2/2")[0] == 0
    code, out, _ = call("validate", part)
    assert code == 0
    assert "part 2 of 2 of a trace, with" in out
    code, out, _ = call("validate", part, "--json")
    assert json.loads(out)[0]["note"].startswith("part 2 of 2 of a trace")
    for command in (("syntax", part), ("report", part, "-o", tmp_path / "page"), ("compare", part, part)):
        code, _, err = call(*command)
        assert (code, err) == (
            2,
            f"specialize: {part}: expected a whole trace, got part 2 of 2; join the parts with `specialize merge`\n",
        )


@pytest.mark.parametrize("shard", ["0/2", "3/2", "a/b"])
def test_a_wrong_part_is_one_line(checkpoint, corpus, call, tmp_path, shard):
    code, out, err = call("trace", checkpoint, corpus, "-o", tmp_path / "run", "--shard", shard)
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert err == (f"specialize: shard: expected I/N with I from 1 to N, such as 1/2 and 2/2, or auto, got {shard!r}\n")
