import numpy as np
import pandas as pd
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators.columns import annotate_column, explain_unusable, label_columns
from specialize.errors import AnnotationError


def test_labels_are_sorted_and_missing_values_carry_none():
    documents = pd.DataFrame({"id": list("abcde"), "text": "x", "topic": ["sea", "air", None, "", "sea"]})
    annotation = annotate_column(documents, "topic")
    assert (annotation.name, annotation.level, annotation.labels) == ("topic", "document", ("air", "sea"))
    assert annotation.codes.tolist() == [1, 0, NO_LABEL, NO_LABEL, 1]
    assert annotation.codes.dtype == np.int32


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_any_storage_of_strings_will_do(dtype):
    documents = pd.DataFrame({"topic": pd.Series(["b", "a", None, "b"], dtype=dtype)})
    annotation = annotate_column(documents, "topic")
    assert annotation.labels == ("a", "b")
    assert annotation.codes.tolist() == [1, 0, NO_LABEL, 1]


def test_numbers_become_strings():
    annotation = annotate_column(pd.DataFrame({"year": [2001, 1999, 2001]}), "year")
    assert annotation.labels == ("1999", "2001")
    assert annotation.codes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("topics", r"got 'topics'; the columns are topic, blank\. Did you mean 'topic'\?"),
        ("text", "expected a label column, got 'text'"),
        ("id", "expected a label column, got 'id'"),
        ("upos", "expected a label column not named upos, bertopic, bertopic_window, got 'upos'; rename the column"),
        ("blank", "expected values in the label column 'blank', got 2 missing ones"),
    ],
)
def test_columns_that_are_no_labels(column, message):
    documents = pd.DataFrame({"id": ["a", "b"], "text": "x", "topic": ["1", "2"], "blank": ["", None]})
    with pytest.raises(AnnotationError, match=message):
        annotate_column(documents, column)


def test_usable_columns_have_some_values_of_some_documents_each():
    n = 600
    documents = pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "text": ["x"] * n,
            "topic": [str(i % 3) for i in range(n)],
            "constant": ["en"] * n,
            "upos": [str(i % 3) for i in range(n)],
            "title": [f"title {i}" for i in range(n)],
            "hundred": [str(i % 100) for i in range(n)],
            "hundred_and_one": [str(i % 101) for i in range(n)],
            "mostly_missing": [str(i % 2) if i < 9 else "" for i in range(n)],
            "partly_missing": [str(i % 2) if i < 10 else None for i in range(n)],
        }
    )
    assert label_columns(documents) == ("topic", "hundred", "partly_missing")
    assert label_columns(documents[["id", "text"]]) == ()


def test_columns_that_cannot_be_measured_are_explained():
    n = 200
    documents = pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "text": "x",
            "person": ["b" if i == 3 else "a" for i in range(n)],
            "enough": ["b" if i % 40 == 3 else "a" for i in range(n)],
            "pair": [("b", "c")[i] if i < 2 else "a" for i in range(n)],
            "title": [f"title {i}" for i in range(n)],
            "many": [str(i % 60) for i in range(n)],
            "language": "en",
            "blank": "",
            "upos": [str(i % 2) for i in range(n)],
            "a/b": [str(i % 2) for i in range(n)],
        }
    )
    assert label_columns(documents) == ("enough",)
    assert explain_unusable(documents) == {
        "person": "all but 1 of 200 documents have one value; 5 others are needed",
        "pair": "all but 2 of 200 documents have one value; 5 others are needed",
        "title": "200 values, more than 100",
        "many": "200 documents for 60 values, fewer than 5 each",
        "language": "a single value",
        "blank": "no value",
        "upos": "labels of this name are made by specialize",
        "a/b": "results of this name cannot be stored",
    }
    named = ("person", "title", "many", "enough", "blank", "unknown")
    assert list(explain_unusable(documents, named)) == ["person"]  # the others are measured, or errors


def test_a_column_that_no_file_can_be_called_after_is_left_out():
    values = ["a", "b"] * 10
    assert label_columns(pd.DataFrame({"text": "x", "a/b": values, "kind": values})) == ("kind",)
