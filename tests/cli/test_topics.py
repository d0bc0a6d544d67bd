"""`specialize topics` with windows, saved topics and a label column."""

import csv
import random

import numpy as np
import pytest

from specialize.annotators.store import load_annotation
from specialize.measure import read_results
from specialize.trace import open_trace

pytest.importorskip("bertopic")
PARTS = {
    "rivers": ["river", "water", "stream", "stones", "sand", "sea"],
    "music": ["violin", "orchestra", "band", "songs", "plays", "famous"],
}
THEMES = {theme: [one + other for one in parts for other in parts] for theme, parts in PARTS.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV of sixty documents, each with a half about its theme and a half about the other."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("table") / "own.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["id", "text", "theme"])
        for i in range(60):
            theme, other = ("rivers", "music") if i % 2 else ("music", "rivers")
            halves = [" ".join(draw.choices(THEMES[name], k=6)) for name in (theme, theme, theme, other)]
            out.writerow([f"d{i}", " ".join(halves), theme])
    return path


@pytest.fixture
def run(traced, checkpoint, table):
    return traced(checkpoint, table)


def test_a_csv_with_a_label_column(call, run):
    code, _, err = call("syntax", run, "--tags", "case,position", "--permutations", 9)
    assert code == 0, err
    code, _, err = call("topics", run, "--embedding", "tfidf", "--permutations", 9, "--min-topic-size", 8)
    assert code == 0, err
    assert "note: words are split into" in err
    names = {path.stem for path in (run / "topics").glob("*.parquet")}
    assert names == {"bertopic", "theme", "topic_info", "topic_quality"}
    assert set(read_results(run / "topics", "theme")["label_set"]) == {"theme"}
    assert (load_annotation(open_trace(run), "bertopic").codes >= 0).all()


def test_topics_of_windows_are_labels_of_tokens_and_another_run_takes_them(tmp_path, call, run, checkpoint, table):
    options = ["--window", 30, "--embedding", "tfidf", "--min-topic-size", 8, "--permutations", 9, "--language", "de"]
    code, _, err = call("topics", run, *options)
    assert code == 0, err
    opened = open_trace(run)
    fitted = load_annotation(opened, "bertopic_window")
    assert fitted.level == "token"
    assert (fitted.provenance["window"], fitted.provenance["language"]) == (30, "de")
    documents = opened.tokens()["document"].to_numpy()
    assert any(len(np.unique(fitted.codes[documents == row])) > 1 for row in range(60))
    frame = read_results(run / "syntax", "bertopic_window")
    assert frame["n_documents"].max() == 60
    assert (run / "topics" / "windows" / "topic_info.csv").is_file()
    assert not (run / "topics" / "topic_info.csv").exists()

    info = run / "topics" / "windows" / "topic_info.csv"
    before = info.read_text()
    info.write_text(before.replace("0", "1"))
    code, _, err = call("topics", run, *options)  # nothing is fitted twice
    assert code == 0, err
    assert "topics: fitted before" in err
    assert info.read_text() == before
    call("trace", checkpoint, table, "-o", tmp_path / "second")
    code, _, err = call("topics", tmp_path / "second", "--window", 30, "--topics-from", run, "--permutations", 9)
    assert code == 0, err
    assert "as fitted, 0 by the nearest topic" in err
    np.testing.assert_array_equal(
        load_annotation(open_trace(tmp_path / "second"), "bertopic_window").codes, fitted.codes
    )
    code, _, err = call("report", run, "-o", tmp_path / "report")
    assert code == 0, err
    assert "topic of the window" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_windows_of_no_tokens_are_refused(call, run):
    code, _, err = call("topics", run, "--window", 0)
    assert code == 2
    assert "Input should be greater than or equal to 1" in err
