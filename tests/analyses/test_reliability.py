"""A sample of the fault matrix, and that what is wrong is seen."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from analyses.reliability.children import UNCAUGHT, Finished
from analyses.reliability.fault import Injected
from analyses.reliability.judge import BAD, GOOD, check_folder, judge_exit
from analyses.reliability.outputs import differences, snapshot
from analyses.reliability.stages import STAGES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "analyses" / "reliability" / "results"
SAMPLE = 110
LONGEST = 1800  # seconds; ends a sample that hangs, whatever else the machine is doing
DAMAGED = Injected(names=("upos",))


@pytest.mark.slow
def test_a_sample_of_faults(tmp_path):
    command = [sys.executable, "-m", "analyses.reliability", "-o", tmp_path, "--sample", str(SAMPLE), "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = pd.DataFrame(map(json.loads, (tmp_path / "outcomes.jsonl").read_text().splitlines()))
    assert len(outcomes) == SAMPLE
    assert set(outcomes["outcome"]) <= {*GOOD, "not run"}
    assert set(outcomes["stage"]) == set(STAGES)
    assert outcomes["fault"].nunique() >= 25


def end(code: int, err: str) -> Finished:
    return Finished(code, "", err, 1.0)


@pytest.mark.parametrize(
    ("finished", "outcome"),
    [
        (end(0, ""), "done"),
        (end(2, "reading …\nspecialize: RUN/annotations/upos.arrow: expected Arrow, got nothing\n"), "error"),
        (end(130, "specialize: interrupted; the shards are kept\n"), "ended"),
        (end(-9, ""), "ended"),
        (end(UNCAUGHT, "Traceback (most recent call last):\nKeyError: 'x'\n"), "traceback"),
        (end(0, "Traceback (most recent call last):\nKeyError: 'x'\n"), "traceback"),
        (end(-11, ""), "traceback"),
        (end(1, "specialize: upos is wrong\n"), "unclear"),
        (end(2, ""), "unclear"),
        (end(2, "specialize: something is wrong\n"), "unclear"),
        (end(2, "specialize: upos is wrong\nspecialize: again\n"), "unclear"),
        (end(2, "x.py:3: UserWarning: odd\nspecialize: upos is wrong\n"), "unclear"),
        (end(130, "interrupted\n"), "unclear"),
        (Finished(-9, "", "", 180.0, hung=True), "hang"),
    ],
)
def test_ends_of_commands(finished, outcome):
    verdict = judge_exit(finished, STAGES["syntax"], DAMAGED)
    assert verdict.outcome == outcome
    assert verdict.outcome in {*BAD, "done", "error", "ended"}


def test_what_is_outside_the_run_is_not_shown():
    hidden = Injected(names=("upos",), hidden="secret")
    assert judge_exit(end(2, "specialize: upos: got secret\n"), STAGES["syntax"], hidden).outcome == "silent"


@pytest.fixture
def folders(tmp_path):
    clean = tmp_path / "clean"
    (clean / "run" / "syntax").mkdir(parents=True)
    frame = pd.DataFrame({"run": ["run"], "value": [0.25]})
    frame.to_csv(clean / "run" / "syntax" / "upos.csv", index=False)
    frame.to_parquet(clean / "run" / "syntax" / "upos.parquet")
    here = tmp_path / "here"
    shutil.copytree(clean, here)
    return here, clean, here / "run" / "syntax"


def test_outputs_that_differ(folders):
    here, clean, syntax = folders
    outputs = STAGES["syntax"].outputs
    assert differences(here, clean, outputs) == []
    pd.DataFrame({"run": ["run"], "value": [0.5]}).to_parquet(syntax / "upos.parquet")
    (syntax / "upos.csv").unlink()
    assert differences(here, clean, outputs) == [
        "run/syntax/upos.csv is missing",
        "run/syntax/upos.parquet differs",
    ]


def test_a_renamed_run_has_the_same_outputs(folders):
    here, clean, syntax = folders
    frame = pd.DataFrame({"run": ["moved-1"], "value": [0.25]})
    frame.to_csv(syntax / "upos.csv", index=False)
    frame.to_parquet(syntax / "upos.parquet")
    shutil.move(here / "run", here / "moved-1")
    assert differences(here, clean, STAGES["syntax"].outputs, renamed={"run": "moved-1"}) == []


def test_files_that_change(folders):
    here, _, syntax = folders
    (here / "run" / "manifest.json").write_text("{}")
    before = snapshot(here)
    outputs = STAGES["syntax"].outputs

    def check(*, failed: bool, kept: bool = False) -> str:
        wrong = check_folder(before, snapshot(here), outputs, failed=failed, kept=kept)
        return wrong.outcome if wrong else ""

    assert check(failed=True) == ""
    (syntax / "upos.csv").write_text("")
    assert check(failed=False) == ""
    assert check(failed=True, kept=True) == ""
    assert check(failed=True) == "lost"
    (here / "run" / "manifest.json").write_text("[]")
    assert check(failed=False) == "lost"
    (here / "run" / "manifest.json").write_text("{}")
    (syntax / "upos.csv").write_text("run,value\nrun,0.25\n")
    (syntax / ".upos.csv.partial").write_text("")
    assert check(failed=False) == "leftover"
    (syntax / ".upos.csv.partial").rename(syntax / "more.csv")
    assert check(failed=True) == "half-written"
    assert check(failed=False) == ""


def test_the_stored_matrix_is_large_and_has_no_bad_outcome():
    matrix = pd.read_csv(RESULTS / "matrix.csv")
    assert matrix["injections"].sum() >= 2500
    assert set(matrix["stage"]) == set(STAGES)
    assert matrix[["traceback", "silent", "lost", "hang"]].to_numpy().sum() == 0
