"""Documents in memory give the corpus that the same documents in a file give."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from specialize.corpus import open_corpus
from specialize.errors import CorpusError

ROWS = [
    {"id": f"d{number}", "text": f"Text {number}: “ü”.", "kind": kind, "part": number % 3, "good": number > 2}
    for number, kind in enumerate(["a", "b", None, "a", "b"] * 60)
]


class Rows:
    """What the package ``datasets`` gives: rows, the names of the columns and their features."""

    def __init__(self, rows: list[dict], classes: dict[str, list[str]] | None = None) -> None:
        self.rows = rows
        self.column_names = list(rows[0])
        self.features = {name: SimpleNamespace(names=names) for name, names in (classes or {}).items()}

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def in_file(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return open_corpus(path)


@pytest.mark.parametrize(
    "source",
    [
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).astype({"part": np.uint8, "kind": "category"}),
        pd.DataFrame(ROWS, index=range(7, 7 + len(ROWS))).convert_dtypes(),
        Rows(ROWS),
        Rows([row | {"kind": "ab".find(row["kind"] or "?")} for row in ROWS], {"kind": ["a", "b"]}),
    ],
    ids=["frame", "frame of categories", "frame of nullable types", "dataset", "dataset with classes"],
)
def test_rows_are_the_documents_of_a_file(source, in_file):
    corpus = open_corpus(source)
    assert list(corpus) == list(in_file)
    assert list(corpus) == list(corpus)  # again
    assert corpus.digest == in_file.digest
    assert next(iter(corpus)).labels == {"kind": "a", "part": "0", "good": "false"}
    assert "kind" not in list(corpus)[2].labels


def test_texts_are_numbered():
    corpus = open_corpus(["One.", " ", "Three."], limit=5)
    assert [(document.id, document.text) for document in corpus] == [("0", "One."), ("2", "Three.")]
    assert (corpus.source, corpus.skipped, corpus.limit) == ("texts", 1, 5)


def test_columns_are_chosen_as_in_files():
    frame = pd.DataFrame(ROWS).rename(columns={"text": "body"})
    document = next(iter(open_corpus(frame, text_column="body", id_column="part", labels=["kind"], limit=1)))
    assert (document.id, document.text, document.labels) == ("0", ROWS[0]["text"], {"kind": "a"})


def test_an_open_corpus_is_taken_as_it_is(in_file):
    assert open_corpus(in_file) is in_file
    with pytest.raises(CorpusError, match="is open already"):
        open_corpus(in_file, limit=3)


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        (["One.", 2], {}, "texts, item 1: expected a string, got int"),
        ([], {}, "texts: expected at least one document, found none"),
        (["One."], {"labels": ["kind"]}, "a list of texts has no columns to choose"),
        (7, {}, "expected a path, an address .* or a Corpus, got int"),
        (b"text", {}, "got bytes"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), {}, "DataFrame: expected a column 'text' or a single string column"),
        (
            pd.DataFrame({"text": ["x", 3.5]}),
            {},
            "DataFrame, row 1: expected a string in text .*, got float",
        ),
        (pd.DataFrame([["x", "y"]], columns=["text", "text"]), {}, "distinct column names, got 'text' twice"),
        (pd.DataFrame({"text": []}), {}, "DataFrame: expected at least one document"),
        (Rows([{"id": "a", "text": "x"}] * 2), {}, "Dataset, row 1: expected unique ids, got 'a' a second time"),
    ],
)
def test_mistakes_are_one_line(source, columns, message):
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus(source, **columns))
    assert "\n" not in str(caught.value)


def test_one_split_is_expected():
    splits = type("DatasetDict", (dict,), {"column_names": {}})(train=Rows(ROWS), test=Rows(ROWS))
    with pytest.raises(CorpusError, match="expected one split of a dataset, got train, test; choose one"):
        open_corpus(splits)


def test_a_dataset_that_fails_is_one_line():
    class Broken(Rows):
        def __iter__(self):
            yield ROWS[0]
            raise OSError("connection lost\nafter a while")

    with pytest.raises(CorpusError, match=r"Dataset: expected a readable dataset, got OSError: connection lost$"):
        list(open_corpus(Broken(ROWS)))
