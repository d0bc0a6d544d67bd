"""The stream itself: digest, limit, duplicates, skipped texts, and the choice of columns."""

import json

import pytest

from specialize.corpus import Document, open_corpus
from specialize.corpus.columns import ColumnRequest, choose_columns
from specialize.errors import CorpusError


@pytest.fixture
def write_jsonl(tmp_path):
    def write(rows, name="corpus.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def test_a_corpus_reads_the_same_documents_twice(write_jsonl):
    path = write_jsonl([{"id": "a", "text": "One.", "topic": "x"}, {"id": "b", "text": "Two.", "topic": "y"}])
    corpus = open_corpus(path)
    expected = [Document("a", "One.", {"topic": "x"}), Document("b", "Two.", {"topic": "y"})]
    assert list(corpus) == expected
    assert list(corpus) == expected


def test_documents_are_frozen():
    with pytest.raises(AttributeError):
        Document("a", "text").text = "other"


def test_the_digest_is_known_only_after_a_full_pass(write_jsonl):
    corpus = open_corpus(write_jsonl([{"text": "One."}, {"text": "Two."}]))
    with pytest.raises(CorpusError, match="the digest is known only after every document was read once"):
        _ = corpus.digest
    next(iter(corpus))
    with pytest.raises(CorpusError, match="number of documents"):
        _ = corpus.num_documents
    assert len(list(corpus)) == corpus.num_documents == 2
    assert len(corpus.digest) == 64


def digest_of(path, **options):
    corpus = open_corpus(path, **options)
    list(corpus)
    return corpus.digest


def test_the_digest_depends_on_ids_texts_labels_and_order(write_jsonl):
    rows = [{"id": "a", "text": "One.", "topic": "x"}, {"id": "b", "text": "Two.", "topic": "y"}]
    variants = [
        rows,
        rows[::-1],
        [rows[0] | {"id": "c"}, rows[1]],
        [rows[0] | {"text": "One!"}, rows[1]],
        [rows[0] | {"topic": "z"}, rows[1]],
        rows[:1],
    ]
    digests = [digest_of(write_jsonl(variant, f"{i}.jsonl")) for i, variant in enumerate(variants)]
    assert len(set(digests)) == len(variants)


def test_the_digest_does_not_depend_on_the_format_or_the_order_of_columns(write_jsonl, tmp_path):
    first = write_jsonl([{"id": "a", "text": "One, two.", "x": "1", "y": "2"}])
    second = write_jsonl([{"y": "2", "x": "1", "text": "One, two.", "id": "a"}], "second.jsonl")
    table = tmp_path / "corpus.csv"
    table.write_text('id,x,text,y\na,1,"One, two.",2\n', encoding="utf-8")
    assert digest_of(first) == digest_of(second) == digest_of(table)


def test_the_limit_counts_documents_not_rows(write_jsonl):
    corpus = open_corpus(write_jsonl([{"text": " "}, {"text": "One."}, {"text": "Two."}, {"text": ""}]), limit=1)
    assert list(corpus) == [Document("1", "One.")]
    assert (corpus.num_documents, corpus.skipped) == (1, 1)
    assert corpus.digest == digest_of(corpus.source, limit=1) != digest_of(corpus.source)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(write_jsonl, limit):
    with pytest.raises(CorpusError, match=f"limit: expected a positive number of documents, got {limit}"):
        open_corpus(write_jsonl([{"text": "One."}]), limit=limit)


def test_texts_of_white_space_only_are_skipped_and_counted_in_each_pass(write_jsonl):
    corpus = open_corpus(write_jsonl([{"text": "\n\t"}, {"text": "One."}, {"text": None}, {"text": "\u00a0"}]))
    for _ in range(2):
        assert [document.id for document in corpus] == ["1"]
        assert corpus.skipped == 3


def test_a_duplicate_id_is_named_with_its_place(write_jsonl):
    corpus = open_corpus(write_jsonl([{"id": 7, "text": "One."}, {"id": "7", "text": "Two."}]))
    with pytest.raises(CorpusError, match=r"corpus\.jsonl, line 2: expected unique ids, got '7' a second time"):
        list(corpus)


def test_a_lone_surrogate_is_refused(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n')
    corpus = open_corpus(path)
    with pytest.raises(CorpusError, match=r"line 2: expected valid Unicode, got the lone surrogate '\\ud83d'"):
        list(corpus)


def test_choice_of_columns():
    def choose(kinds, **asked):
        choice = choose_columns(kinds, ColumnRequest(**asked), name="table")
        return choice.text, choice.id, choice.labels

    assert choose({"text": "text"}) == ("text", None, ())
    assert choose({"id": "scalar", "body": "text", "n": "scalar"}) == ("body", "id", ("n",))
    assert choose({"id": "text", "text": "text", "title": "text", "x": "other"}) == ("text", "id", ("title",))
    assert choose({"id": "other", "text": "text"}) == ("text", None, ())
    assert choose({"id": "text", "body": "text"}, text="id") == ("id", None, ("body",))
    assert choose({"a": "text", "b": "text", "c": "text"}, text="b", id="c", labels=()) == ("b", "c", ())
    assert choose({"text": "text", "score": "other"}, labels=("score",)) == ("text", None, ("score",))


@pytest.mark.parametrize(
    ("kinds", "asked", "message"),
    [
        ({"a": "text", "b": "text"}, {}, "expected a column 'text' or a single string column, got a, b"),
        ({"n": "scalar"}, {}, "expected a column 'text' or a single string column, got n"),
        (
            {"body": "text"},
            {"text": "bodi"},
            "expected a column 'bodi', got body. Did you mean 'body'?",
        ),
        ({"text": "text"}, {"id": "key"}, "expected a column 'key', got text."),
        ({"text": "text", "topic": "text"}, {"labels": ("topics",)}, "Did you mean 'topic'?"),
    ],
)
def test_unclear_columns_are_named(kinds, asked, message):
    with pytest.raises(CorpusError) as caught:
        choose_columns(kinds, ColumnRequest(**asked), name="table")
    assert message in str(caught.value)
    assert str(caught.value).startswith("table: ")
