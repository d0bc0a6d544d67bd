"""What is read in another way than a user may expect is noted in one line."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from specialize.corpus import open_corpus
from specialize.corpus.source import open_documents

TEXTS = [f"Text {number}, and more." for number in range(130)]
WITH_MISSING = pd.DataFrame(
    {
        "text": TEXTS,
        "grade": [1.0 + number % 3 for number in range(129)] + [None],  # pandas turns such integers into floats
        "score": [number / 2 for number in range(129)] + [None],
        "whole": [float(number) for number in range(130)],
        "when": pd.Timestamp("2020-01-01"),
    }
)


def read_notes(corpus):
    documents = list(corpus)
    return documents, corpus.notes


def write_stream(frame, path):
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("c.parquet", lambda frame, path: frame.to_parquet(path)),
        ("c.parquet", lambda frame, path: pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)),
        ("c.feather", lambda frame, path: pyarrow.feather.write_feather(frame, path)),
        ("c.arrow", write_stream),
        ("frame", None),
    ],
)
def test_integers_with_a_missing_value_are_labels_and_the_rest_is_named(tmp_path, name, write):
    source = WITH_MISSING if write is None else tmp_path / name
    if write is not None:
        write(WITH_MISSING, source)
    documents, notes = read_notes(open_corpus(source))
    assert [document.labels for document in documents[:4]] == [{"grade": grade} for grade in "1231"]
    assert documents[-1].labels == {}
    assert len(notes) == 1
    assert "columns that are not used as labels: score (" in notes[0]
    assert "whole (" in notes[0]
    assert "when (" in notes[0]
    assert "grade" not in notes[0]
    asked = list(open_corpus(source, labels=["grade", "score"]))
    assert asked[1].labels == {"grade": "2", "score": "0.5"}
    assert open_corpus(source, labels=["grade"]).notes == ()


@pytest.mark.parametrize("column", ["lang", "language"])
def test_the_language_is_kept_beside_the_labels_that_are_asked_for(column):
    frame = pd.DataFrame(
        {"text": ["Un texte.", "Ein Text."], "genre": ["a", "b"], "topic": [1, 2], column: ["fr", "de"]}
    )
    labels = [document.labels for document in open_corpus(frame, labels=["genre"])]
    assert labels == [{"genre": "a", column: "fr"}, {"genre": "b", column: "de"}]
    assert [document.labels for document in open_corpus(frame, text_column=column, labels=["genre"])] == [
        {"genre": "a"},
        {"genre": "b"},
    ]


def test_json_lines_with_nan(tmp_path):
    path = tmp_path / "c.jsonl"
    rows = [
        {"text": text, "grade": float(number % 2), "kind": "ab"[number % 2], "tags": [1]}
        for number, text in enumerate(TEXTS)
    ]
    rows[3] |= {"grade": float("nan"), "kind": float("nan")}
    rows[5]["text"] = float("nan")
    rows[120]["late"] = "x"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents, notes = read_notes(open_corpus(path))
    assert [document.labels for document in documents[2:5]] == [
        {"grade": "0", "kind": "a"},
        {},
        {"grade": "0", "kind": "a"},
    ]
    assert "5" not in [document.id for document in documents]
    assert notes == (
        f"{path}: columns that are not used as labels: tags (list), late (no value in the first 100 rows); set labels "
        "to use one",
        f"{path}: empty or missing texts that are skipped: 1",
    )


def test_ids_that_are_no_ids_are_named():
    frame = pd.DataFrame({"id": [1.5, 2.5], "text": TEXTS[:2]})
    documents, notes = read_notes(open_corpus(frame))
    assert [document.id for document in documents] == ["0", "1"]
    assert notes == ("DataFrame: columns that are not used as labels: id (float); set labels to use one",)


def test_exact_duplicates_are_counted_in_each_pass():
    corpus = open_corpus(["One.", "Two.", "One.", "One. ", "One."])
    for _ in range(2):
        _, notes = read_notes(corpus)
        assert corpus.repeated == 2
        assert notes == (
            "texts: texts that repeat an earlier text exactly: 2; intervals keep copies together; remove them if they "
            "should not be counted twice",
        )


@pytest.mark.parametrize(
    ("name", "mark", "found"),
    [
        ("c.csv", ";", "semicolons"),
        ("c.csv", "\t", "tabs"),
        ("c.csv", "|", "vertical bars"),
        ("c.tsv", ",", "commas"),
        ("c.tsv", ";", "semicolons"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_another_delimiter_is_found_and_named(tmp_path, name, mark, found, quoted):
    rows = [["text", "kind"], *([f"Text {number}: so.", "ab"[number % 2]] for number in range(150))]
    cell = '"{}"' if quoted else "{}"
    (tmp_path / name).write_text("".join(mark.join(map(cell.format, row)) + "\n" for row in rows))
    documents, notes = read_notes(open_corpus(tmp_path / name))
    assert (len(documents), documents[1].text, documents[1].labels) == (150, "Text 1: so.", {"kind": "b"})
    assert notes == (f"{name}: columns are separated by {found}, as its rows show",)


@pytest.mark.parametrize(
    "content",
    ["text\nOne; two\n", "what; how\nOne.\n", '"a ""quoted""; header"\n"One, two."\n', '"two\nlines",id\nOne.,7\n'],
)
def test_a_table_of_one_column_stays_one(tmp_path, content):
    (tmp_path / "c.csv").write_text(content)
    documents, notes = read_notes(open_corpus(tmp_path / "c.csv"))
    assert [document.text[:3] for document in documents] == ["One"]
    assert documents[0].labels == {}
    assert [note for note in notes if "texts are read from the only column of strings: " not in note] == []


@pytest.mark.parametrize("header", ["task", "text:task", "text^task", "text~task~more"])
def test_a_column_of_another_name_is_named_if_it_is_taken_for_the_text(tmp_path, header):
    path = tmp_path / "c.csv"
    path.write_text(f"id,{header}\n007,a\n7,b\n")
    documents, notes = read_notes(open_corpus(path))
    assert [(document.id, document.text) for document in documents] == [("007", "a"), ("7", "b")]
    assert notes == (f"{path}: texts are read from the only column of strings: {header}",)
    assert read_notes(open_corpus(path, text_column=header))[1] == ()
    assert read_notes(open_corpus(path, labels=[]))[1] == notes


def test_label_columns_without_a_value_are_named(tmp_path):
    empty = pd.DataFrame({"text": TEXTS, "kind": pd.Series([None] * len(TEXTS), dtype="str"), "part": "a"})
    empty.to_csv(tmp_path / "c.csv", index=False)
    empty.to_parquet(tmp_path / "c.parquet")
    for path in (tmp_path / "c.csv", tmp_path / "c.parquet"):
        corpus = open_corpus(path)
        assert corpus.notes == ()  # not yet read
        assert read_notes(corpus)[1] == (f"{path}: label columns without a value: kind",)
        assert read_notes(open_corpus(path, labels=["kind"]))[1] == (f"{path}: label columns without a value: kind",)
    (tmp_path / "c.parquet").unlink()
    empty.assign(kind="b").to_csv(tmp_path / "d.csv", index=False)
    assert read_notes(open_corpus(tmp_path))[1] == (
        f"{tmp_path}: texts that repeat an earlier text exactly: {len(TEXTS)}; intervals keep copies together; "
        "remove them if they should not be counted twice",
    )


def test_what_is_no_string_integer_or_boolean_is_named_with_its_type(tmp_path):
    rows = len(TEXTS)
    columns = {
        "text": TEXTS,
        "flag": [None, True] * (rows // 2),
        "nested": [{"a": 1}] * rows,
        "many": [[1]] * rows,
        "day": pa.array([0] * rows, pa.int32()).cast(pa.date32()),
        "raw": [b"x"] * rows,
        "none": pa.nulls(rows),
    }
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    documents, notes = read_notes(open_corpus(tmp_path / "c.parquet"))
    assert [document.labels for document in documents[:2]] == [{}, {"flag": "true"}]
    types = "nested (struct<a: int64>), many (list<element: int64>), day (date32[day]), raw (binary), none (null)"
    assert notes == (f"{tmp_path / 'c.parquet'}: columns that are not used as labels: {types}; set labels to use one",)


def test_notes_of_a_folder_are_one_line(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(f'{{"text": "{name}", "score": 1.5}}\n')
    _documents, notes = read_notes(open_corpus(tmp_path))
    assert notes == (f"{tmp_path}: columns that are not used as labels: score (float); set labels to use one",)


def test_names_in_notes_have_no_escape_codes():
    frame = pd.DataFrame({"text": ["One."], "\x1b[31mred": [1.5]})
    assert "'\\x1b[31mred' (float)" in read_notes(open_corpus(frame))[1][0]


def test_documents_may_lack_texts(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,task\n7,a\n8,b\n")
    found = [(document.id, document.text, document.labels) for document in open_documents(path)]
    assert found == [("7", "", {"task": "a"}), ("8", "", {"task": "b"})]


def test_huge_integers_in_memory_are_named():
    frame = pd.DataFrame({"text": ["One."], "n": np.array([10**5000], dtype=object)})
    with pytest.raises(Exception, match="DataFrame, row 0: expected a shorter integer in column 'n'"):
        list(open_corpus(frame))
