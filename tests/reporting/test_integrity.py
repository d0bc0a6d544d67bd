"""What a report says of its data and its intervals."""

import shutil
from dataclasses import replace

import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.reporting import write_report
from specialize.reporting.integrity import integrity_table, interval_table
from specialize.reporting.reading import read_runs


@pytest.fixture
def run(tmp_path):
    [run] = read_runs([make_run(tmp_path / "run", syntax=planted_frame("run"))])
    return run


def facts(run, *, is_compared=False):
    return {row[0].text: row[1].text for row in integrity_table(run, is_compared=is_compared).body}


def told(run, **changes):
    return facts(replace(run, manifest=run.manifest | changes))


def test_files_are_said_to_be_compared_only_where_they_were(run):
    assert "not there" in facts(run, is_compared=True)["files of the trace"]
    (run.path / "trace").mkdir()
    assert facts(run)["files of the trace"].startswith("3 files with checksums, not compared")
    assert (
        facts(run, is_compared=True)["files of the trace"]
        == "3 files with checksums, compared while this page was made"
    )


def test_weights_that_were_missing_are_named(run):
    weights = "weights of the model"
    assert facts(run)[weights] == "not known: the model was not loaded here"
    whole = {"settings": {"weights_digest": "00" * 32}}
    assert told(run, **whole)[weights] == "all in the checkpoint, none unused"
    lacking = {"model": {"missing_weights": {"number": 3, "names": ["a"]}}}
    assert told(run, **whole, **lacking)[weights] == "not those of the checkpoint alone: 3 missing, which were random"


def test_documents_and_notes_of_an_import_are_told(run):
    corpus = {"source": "c.jsonl", "skipped_empty": 2, "repeated": 0}
    found = told(run, corpus=corpus, notes=["1,200 tokens have no expert"])
    assert found["documents"] == "2 empty and left out"
    assert found["noted at import"] == "1,200 tokens have no expert"


def test_results_that_do_not_name_their_trace_are_named(run):
    assert facts(run)["results"] == "all name this trace"
    assert "topics/mine.csv" in facts(replace(run, unverified="topics/mine.csv"))["results"]


def test_intervals_are_counted_by_their_reservation(run):
    kinds = {
        "95 % jackknife over 50 document blocks (Student t)": ("shown", "no reservation"),
        "95 % jackknife over 9 document blocks (Student t, logit scale)": ("shown", "no reservation"),
        "95 % jackknife over 9 document blocks (Student t, undercovers: below 100 tokens or 10 blocks)": (
            "shown", "undercovers: below 100 tokens or 10 blocks"
        ),
        "95 % overlap, cautious, over 50 document blocks (Student t)": ("shown", "cautious"),
        "95 % delete-half jackknife (Student t, biased towards 0 by noise)": ("shown", "biased towards 0 by noise"),
        "none: a number of experts": ("none", "a number of experts"),
        "unreliable, too little data (3 documents): 95 % jackknife (Student t)": ("not shown", "too little data"),
    }  # fmt: skip
    frame = run.syntax["upos"].head(2 * len(kinds)).assign(value=1.0)
    frame["ci_kind"] = [*kinds] * 2
    table = interval_table(replace(run, syntax={"upos": frame}))
    counted = {(row[0].text, row[1].text): int(row[2].text) for row in table.body}
    expected = {}
    for judged in kinds.values():
        expected[judged] = expected.get(judged, 0) + 2
    assert counted == expected
    assert sum(float(row[3].text) for row in table.body) == pytest.approx(100, abs=0.3)


def test_both_pages_have_the_tables(run, tmp_path):
    shutil.rmtree(run.path / "trace", ignore_errors=True)
    for page_format in ("html", "md"):
        page = write_report([run.path], tmp_path / page_format, formats=(), page_format=page_format)
        text = page.read_text(encoding="utf-8")
        assert "data integrity" in text
        assert "estimates by what their intervals are worth" in text
