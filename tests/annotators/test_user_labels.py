import os

import numpy as np
import pandas as pd
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators.user_labels import read_labels
from specialize.errors import AnnotationError


@pytest.fixture
def trace(make_trace):
    return make_trace(["the cat", "sits", "on the mat"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_labels_of_documents(trace, tmp_path, suffix):
    frame = pd.DataFrame({"id": ["d2", "d0"], "year": ["1999", "2001"], "source": ["web", None]})
    path = tmp_path / f"labels{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    year, source = read_labels(trace, path)
    assert year.provenance == {"tool": "table", "file": path.name}
    assert (year.name, year.level, year.labels) == ("year", "document", ("1999", "2001"))
    assert year.codes.tolist() == [1, NO_LABEL, 0]
    assert (source.labels, source.codes.tolist()) == (("web",), [NO_LABEL, NO_LABEL, 0])


def test_labels_of_tokens(trace, tmp_path):
    pd.DataFrame({"token": [1, 0], "kind": ["b", "a"]}).to_csv(tmp_path / "labels.csv", index=False)
    (kind,) = read_labels(trace, tmp_path / "labels.csv")
    assert (kind.level, kind.labels) == ("token", ("a", "b"))
    np.testing.assert_array_equal(kind.codes[:3], [0, 1, NO_LABEL])
    assert len(kind.codes) == trace.num_tokens


def test_a_data_frame_gives_the_same_labels_as_its_file(trace, tmp_path):
    documents = pd.DataFrame({"id": ["d2", "d0"], "year": [1999, 2001], "source": ["web", None]}, index=[7, 7])
    tokens = pd.DataFrame({"token": [1, 0], "kind": pd.Categorical(["b", "a"])})
    for frame in (documents, tokens):
        frame.to_csv(tmp_path / "labels.csv", index=False)
        before = frame.copy()
        for own, read in zip(read_labels(trace, frame), read_labels(trace, tmp_path / "labels.csv"), strict=True):
            assert (own.name, own.level, own.labels) == (read.name, read.level, read.labels)
            np.testing.assert_array_equal(own.codes, read.codes)
            assert own.provenance == {"tool": "table"}
        pd.testing.assert_frame_equal(frame, before)


PROBLEMS = pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"name": ["a"]}, "expected a column id .* or a column token .*, got name"),
        ({"id": ["d0"], "token": [0]}, "or a column token .*, got both"),
        ({"id": ["d0"]}, "expected a column of labels beside id, got none"),
        (
            {"id": ["d0", "d9"], "x": ["a", "b"]},
            "expected ids of documents in .*, 1 of 2 ids are unknown, the first is 'd9'",
        ),
        ({"id": ["d0", "d0"], "x": ["a", "b"]}, "expected each id once, got 'd0' more than once"),
        ({"token": [0, 99], "x": ["a", "b"]}, r"expected tokens from 0 to \d+ as in .*, got 0 to 99"),
        ({"id": ["d0"], "x": [""]}, "expected labels in the column 'x', all are missing"),
        (
            {"id": ["d0"], "a/b": ["c"]},
            "expected names of label columns of letters, .*, got 'a/b'; rename the column",
        ),
    ],
)


@PROBLEMS
def test_errors_name_the_file_and_the_problem(trace, tmp_path, columns, problem):
    pd.DataFrame(columns).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(AnnotationError, match=rf"labels\.csv: .*{problem}"):
        read_labels(trace, tmp_path / "labels.csv")


@PROBLEMS
def test_a_data_frame_is_checked_as_a_file_is(trace, columns, problem):
    with pytest.raises(AnnotationError, match=f"^the data frame: .*{problem}"):
        read_labels(trace, pd.DataFrame(columns))


def test_tokens_must_be_integers(trace, tmp_path):
    frame = pd.DataFrame({"token": ["one"], "x": ["a"]})
    with pytest.raises(AnnotationError, match=r"expected integers in the column token, got (object|str)"):
        read_labels(trace, frame)
    frame.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(AnnotationError, match="expected CSV, got: "):
        read_labels(trace, tmp_path / "labels.csv")


def test_columns_must_differ(trace):
    frame = pd.DataFrame([["d0", "a", "b"]], columns=["id", "x", "x"])
    with pytest.raises(AnnotationError, match="expected each column once, got 'x' more than once"):
        read_labels(trace, frame)
    with pytest.raises(AnnotationError, match=r"row numbers.*, got no columns"):
        read_labels(trace, pd.DataFrame())


def test_files_that_cannot_be_read(trace, tmp_path):
    (tmp_path / "labels.parquet").write_bytes(b"junk")
    with pytest.raises(AnnotationError, match="expected Parquet, got: "):
        read_labels(trace, tmp_path / "labels.parquet")
    with pytest.raises(AnnotationError, match=r"expected \.parquet, \.csv, \.tsv, \.jsonl, got \.xlsx"):
        read_labels(trace, tmp_path / "labels.xlsx")
    with pytest.raises(AnnotationError, match=r"nowhere\.csv: expected a file or folder, found none"):
        read_labels(trace, tmp_path / "nowhere.csv")
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(AnnotationError, match=r"labels\.csv: expected a regular file, got a folder"):
        read_labels(trace, tmp_path / "labels.csv")
    os.mkfifo(tmp_path / "labels.jsonl")
    with pytest.raises(AnnotationError, match=r"labels\.jsonl: expected a regular file, got a pipe"):
        read_labels(trace, tmp_path / "labels.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "id,token\nd0,1,2\n", "expected CSV, got: CSV parse error: Expected 2 columns, got 3: d0,1,2"),
        ("a.csv", "token,x\n7,1,a\n", "expected CSV, got: CSV parse error: Expected 2 columns, got 3"),
        ("a.csv", "id,x\nd0\n", "expected CSV, got: CSV parse error: Expected 2 columns, got 1: d0"),
        ("a.csv", "id,x,x\nd0,a,b\n", "expected each column once, got 'x' more than once; rename one"),
        ("a.csv", f"token,x\n{10**30},a\n", "expected CSV, got: .* conversion error to int64: invalid value '10000"),
        ("a.csv", "", "expected CSV, got: "),
        ("a.csv", "id,x\nd0,a\n".encode("utf-16"), "expected UTF-8, got UTF-16; convert the file"),
        ("a.csv", b"id,x\nd0,caf\xe9\n", "expected CSV, got: .*UTF"),
        ("a.jsonl", '{"id": "d0", "x": "a"}\n[1]\n', "line 2: expected a JSON object, got list"),
        ("a.jsonl", '{"id": "d0", "x": ' + "9" * 5000 + "}", "line 1: .* an integer of thousands of digits"),
        ("a.jsonl", '{"id": "d0", "x": "\\ud800"}', r"column 'x': expected labels of valid Unicode, got '\\ud800'"),
        ("a.jsonl", '{"id": "d0", "x": {"y": 1}}', "column 'x': expected strings, numbers or booleans, got dict"),
        ("a.jsonl", '{"id": null, "x": "a"}', "expected an id in every row, 1 of 1 have none"),
        ("a.jsonl", '{"token": 1.5, "x": "a"}', "expected integers in the column token"),
        ("a.jsonl", '{"token": ' + "9" * 30 + ', "x": "a"}', "expected integers in the column token"),
    ],
)
def test_a_damaged_table_is_one_line(trace, tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AnnotationError, match=problem) as caught:
        read_labels(trace, tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ";"), ("a.csv", "|"), ("a.tsv", ","), ("a.csv", ",")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_delimiter_is_found_in_the_rows(trace, tmp_path, name, mark, end):
    rows = ["\ufeffid{0}kind", 'd0{0}"two\nlines"', "d2{0}b", ""]
    (tmp_path / name).write_bytes(end.join(rows).format(mark).encode())
    (kind,) = read_labels(trace, tmp_path / name)
    assert (kind.labels, kind.codes.tolist()) == (("b", "two\nlines"), [1, NO_LABEL, 0])


def test_integers_with_a_missing_one_stay_integers(trace, tmp_path):
    frame = pd.DataFrame({"id": ["d0", "d1", "d2"], "grade": [2, None, 10], "big": [2**60, 2**60 + 1, 0]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    (tmp_path / "b.jsonl").write_text(
        '{"id": "d0", "grade": 2, "big": 1152921504606846976}\n{"id": "d1", "big": 1152921504606846977}\n'
        '{"id": "d2", "grade": 10, "big": 0}\n'
    )
    for source in (frame, tmp_path / "a.parquet", tmp_path / "a.jsonl", tmp_path / "b.jsonl"):
        grade, big = read_labels(trace, source)
        assert (grade.labels, grade.codes.tolist()) == (("10", "2"), [1, NO_LABEL, 0])
        assert big.labels == ("0", str(2**60), str(2**60 + 1))
    (flag,) = read_labels(trace, pd.DataFrame({"id": ["d0", "d1"], "flag": [True, None]}))
    assert (flag.labels, flag.codes.tolist()) == (("True",), [0, NO_LABEL, NO_LABEL])
    (half,) = read_labels(trace, pd.DataFrame({"id": ["d0", "d1"], "half": [1.0, 2.5]}))
    assert half.labels == ("1.0", "2.5")
