"""The study from start to end on toy text: interrupted, resumed, and skipped when it is done."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from analyses.design_choices.__main__ import main

ROOT = Path(__file__).parents[2]
TABLES = (
    "runs",
    "perplexity",
    "specialization",
    "equivalence",
    "curves",
    "progress",
    "function",
    "heatmaps",
    "differences",
    "languages",
    "claims",
)
FIGURES = ("perplexity", "layers", "plane", "heatmap-upos", "heatmap-domain", "curves", "progress", "function")
LONGEST = 1200  # seconds; ends a study that hangs, whatever else the machine is doing


def start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "analyses.design_choices", "--smoke", "-o", str(folder), "--jobs", "2"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_a_cell(folder: Path, study: "subprocess.Popen[str]") -> None:
    """Wait until a first cell is done, or the study has ended."""
    deadline = time.monotonic() + LONGEST
    while study.poll() is None and not list(folder.glob("cells/*/cell.json")):
        assert time.monotonic() < deadline, "no cell is done"
        time.sleep(0.05)


@pytest.mark.slow
def test_an_interrupted_study_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interrupted command is a process of its own; the data are prepared before it, and it is resumed, in this."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a study sets
    arguments = ["--smoke", "-o", str(tmp_path), "--jobs", "1"]
    assert main([*arguments, "--prepare"]) == 0
    assert f"prepared: {tmp_path / 'data'}" in capsys.readouterr().err
    study = start(tmp_path)
    wait_for_a_cell(tmp_path, study)
    study.send_signal(signal.SIGINT)
    _, notes = study.communicate(timeout=LONGEST)
    assert study.returncode == 130, notes
    assert "Traceback" not in notes
    assert "interrupted; the same command resumes the study" in notes
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/cell.json")}
    assert done
    assert not (tmp_path / "results").exists()

    assert main(arguments) == 0
    notes = capsys.readouterr().err
    assert f"{len(done)} of 22 runs are done" in notes
    assert {path: path.stat().st_mtime_ns for path in done} == done
    check_tables(tmp_path / "results")
    for name in FIGURES:
        for suffix in ("pdf", "png", "csv", "json"):
            assert (tmp_path / "figures" / f"design-{name}.{suffix}").stat().st_size > 0

    before = {path: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    assert main(arguments) == 0
    assert "22 of 22 runs are done" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before

    (tmp_path / "cells" / "en-token-top2-layer-frozen-seed1" / "cell.json").unlink()  # trained, but not measured
    assert main([*arguments, "--tables"]) == 0
    assert "21 of 22 runs are complete" in capsys.readouterr().err
    same = {path.name for path in before if path.read_bytes() == before[path]}
    assert same == {path.name for path in before} - {"specialization.csv", "function.csv", "claims.csv"}

    part = ["--only", "en-*-learned", "--results", str(tmp_path / "results")]
    assert main([*arguments, "--tables", *part]) == 0
    of_pairs = {"equivalence.csv", "differences.csv", "languages.csv"}  # not of this part, and none of an earlier one
    assert {path.name for path in (tmp_path / "results").iterdir()} == {path.name for path in before} - of_pairs
    capsys.readouterr()
    metrics = tmp_path / "cells" / "en-dense-2-seed0" / "metrics.csv"
    text = metrics.read_text()
    perplexity = text.splitlines()[-1].split(",")[3]
    for damaged, what in (
        (None, "No such file"),
        ("step\n1\n", "expected the evaluations of a training, got: "),
        (text.replace(perplexity, "low"), "expected the evaluations of a training, got: "),
        (text.replace(perplexity, perplexity.replace(".", ",")), "expected the evaluations of a training, got: "),
        (text.replace(perplexity, ""), "expected a perplexity at each of the steps [6, 12]"),
        (text.replace(perplexity, "inf"), "expected a perplexity at each of the steps [6, 12]"),
        (text.replace(perplexity, f"-{perplexity}"), "expected a perplexity at each of the steps [6, 12]"),
        ("".join(text.splitlines(keepends=True)[:-1]), "expected a perplexity at each of the steps [6, 12]"),
    ):
        metrics.unlink()
        if damaged is not None:
            metrics.write_text(damaged)
        assert main([*arguments, "--tables", "--results", str(tmp_path / "part")]) == 2
        [*_, error] = capsys.readouterr().err.splitlines()
        assert f"{metrics}: " in error
        assert what in error
        assert not (tmp_path / "part").exists()
        metrics.write_text(text)

    for pattern, found in (("en-dense-2", "0 and 0"), ("en-*-frozen", "3 and 0")):
        assert main([*arguments, "--tables", "--only", pattern, "--results", str(tmp_path / "part")]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"expected complete runs with routers and with snapshots, got {found}" in error
        assert not (tmp_path / "part").exists()


def check_tables(folder: Path) -> None:
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    runs, perplexity = tables["runs"], tables["perplexity"]
    assert len(runs) == 22
    assert runs["perplexity"].between(2, 1000).all()
    assert len(perplexity) == 11
    assert (perplexity["ci_low"] < perplexity["perplexity"]).all()
    assert (perplexity["ci_high"] > perplexity["perplexity"]).all()
    dense = perplexity.set_index("cell").loc["en-dense-2", "active_parameters"]
    routers = 2 * 4 * 32  # two layers of four experts, width 32
    assert perplexity.set_index("cell").loc["en-token-top2-layer-learned", "active_parameters"] == dense + routers
    labels = tables["specialization"].groupby("corpus")["label_set"].unique()
    assert set(labels["en"]) == {"upos", "domain", "bertopic"}
    assert set(labels["multilingual"]) == {"lang"}
    assert set(tables["specialization"]["routing"]) == {"learned", "random", "learned − random"}
    assert set(tables["curves"]["step"]) == {4, 8, 12}
    progress = tables["progress"].pivot(index=["cell", "seed"], columns="tokens", values="perplexity")
    assert progress.columns.tolist() == [6 * 4 * 32, 12 * 4 * 32]
    assert progress.notna().all(axis=None)
    assert len(progress) == 22
    function = tables["function"]
    units, routers = ("token", "sequence"), ("learned", "frozen")
    assert set(function["cell"]) == {f"en-{unit}-top2-layer-{router}" for unit in units for router in routers}
    assert {"upos", "next_upos", "domain", "bertopic"} <= set(function["label_set"])
    assert set(tables["claims"]["verdict"].dropna()) <= {"supported", "not supported", "undecided"}
    assert set(tables["languages"]["router"]) == {"learned", "frozen", "rerandomized", "guided"}


def test_a_missing_corpus_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "expected train_en.parquet" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
