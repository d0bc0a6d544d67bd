"""What counts as a finding, and how its input is shortened."""

import csv
import warnings
from pathlib import Path

import pytest
from analyses.fuzzing.__main__ import Row, write_rows
from analyses.fuzzing.findings import keep, shorten_findings
from analyses.fuzzing.harness import Target, attempt, join, require, split
from analyses.fuzzing.targets import TARGETS

from specialize.errors import CorpusError


def read(data, folder):
    if b"bug" in data:
        raise KeyError("a bug")
    if b"warn" in data:
        warnings.warn("of a library", stacklevel=1)
    if b"old" in data:
        warnings.warn("which Python does not show", DeprecationWarning, stacklevel=1)
    if b"long" in data:
        raise CorpusError("x" * 5000)
    if b"wrong" in data:
        raise CorpusError("expected another text, got this")
    require(b"lie" not in data, "no lies", data)
    assert not list(folder.iterdir())
    (folder / "left over").write_bytes(data)


TARGET = Target("t", "a target", lambda: {"seed": b"0"}, read)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"a bug", "KeyError at test_harness.py:{2} read"),
        (b"warn", "UserWarning at test_harness.py:{4}"),
        (b"long", "long message at test_harness.py:{8} read"),
        (b"a lie", "promise: no lies"),
    ],
)
def test_findings(tmp_path, data, key):
    outcome = attempt(TARGET, data, tmp_path / "input")
    lines = range(read.__code__.co_firstlineno, 10**6)
    assert outcome.finding.key == key.format(*lines[:20])
    assert not outcome.accepted


def test_what_is_read_and_what_is_refused(tmp_path):
    assert attempt(TARGET, b"fine", tmp_path / "input").accepted
    assert attempt(TARGET, b"an old one", tmp_path / "input").accepted
    refused = attempt(TARGET, b"wrong", tmp_path / "input")
    assert (refused.message, refused.finding) == ("expected another text, got this", None)


def test_the_input_of_a_finding_is_shortened(tmp_path):
    data = b"x" * 300 + b"bug" + b"y" * 77
    keep(tmp_path, attempt(TARGET, data, tmp_path / "input").finding, data)
    shorten_findings(TARGET, tmp_path, tmp_path / "input")
    (place,) = (tmp_path / "findings").iterdir()
    assert (place / "input").read_bytes() == b"bug"
    assert (place / "finding.txt").read_text().startswith("KeyError at test_harness.py:")


def test_files_of_an_input():
    assert split(join(3, 1, b"a", b"", b"c")) == (3, 1, [b"a", b"", b"c"])
    assert split(b"") == (0, 0, [b""])


def test_targets_that_are_not_fuzzed_keep_their_results(tmp_path):
    write_rows(tmp_path / "results.csv", [Row("esft", seconds=600, executions=5), Row("conllu", seconds=60)])
    write_rows(tmp_path / "results.csv", [Row("conllu", seconds=600, findings=1)])
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [["conllu", "600", "0"], ["esft", "600", "5"]]


def test_the_results_of_the_repository_are_those_of_the_targets():
    with (Path(__file__).parents[2] / "analyses/fuzzing/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows} <= set(TARGETS)
    assert {(row["findings"], row["ends"]) for row in rows} == {("0", "0")}
