"""No file fills the memory: lines, texts and what a compressed file expands to are limited."""

import gzip
from random import Random

import pytest

import specialize.corpus.columns as columns
import specialize.corpus.lines as lines
from specialize.corpus import limits, open_corpus
from specialize.errors import CorpusError


@pytest.fixture
def small(monkeypatch):
    for module in (lines, columns):
        for name in ("LONGEST_LINE", "LONGEST_TEXT"):
            monkeypatch.setattr(module, name, 1000, raising=False)
    monkeypatch.setattr(limits, "_EXPANDED_AT_LEAST", 2**14)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", b'{"text": "a"}\n{"text": "' + b"a" * 1000, r"line 2: expected at most 1\.0 kB, got a longer line"),
        ("c.csv", b"text\n" + b"a" * 1001, r"line 2: expected at most 1\.0 kB, got a longer line"),
        ("c.csv", b'text\n"' + b"a\n" * 600 + b'"\n', "field larger than field limit"),
        ("c.txt", b"\n" * 1001, r"c\.txt: expected a text of at most 1\.0 kB, got a longer one; divide it"),
        ("c.conllu", b"#" * 1001, "line 1: expected at most"),
        ("c.txt.gz", gzip.compress(Random(0).randbytes(600).hex().encode()), r"c\.txt\.gz: expected a text of at most"),
        ("c.jsonl.gz", gzip.compress(b"\n" * 2**21), r"expected compressed text, got [\d.]+ k?B that expand to"),
        ("c.conllu.gz", gzip.compress(b"#\n" * 2**21), r"expected compressed text, got [\d.]+ k?B that expand to"),
    ],
)
def test_what_would_fill_the_memory_is_one_line(small, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_the_longest_text_is_read(small, tmp_path):
    (tmp_path / "c.txt").write_text("a" * 1000)
    assert len(next(iter(open_corpus(tmp_path / "c.txt"))).text) == 1000


def test_texts_of_tables_are_limited(small):
    import pandas as pd

    with pytest.raises(CorpusError, match="row 0: expected a text of at most 1,000 characters, got 1,001; divide it"):
        open_corpus(pd.DataFrame({"text": ["a" * 1001]}))


def test_text_that_repeats_is_not_taken_for_one_made_to_fill_the_memory(tmp_path):
    line = b'{"text": "%d, and the same words again and again"}\n'
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"".join(line % number for number in range(30_000))))
    assert sum(1 for _ in open_corpus(tmp_path / "c.jsonl.gz")) == 30_000


def test_a_key_that_occurs_twice_is_named(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "One."}\n{"text": "Two.", "text": "Three."}\n')
    with pytest.raises(CorpusError, match=r"line 2: expected a JSON object, got one with the key 'text' twice$"):
        list(open_corpus(tmp_path / "c.jsonl"))


def test_names_of_columns_are_cut_in_messages(tmp_path):
    (tmp_path / "c.csv").write_text(",".join("x" * 5000 + str(number) for number in range(50)) + "\n" + "," * 49 + "\n")
    with pytest.raises(CorpusError, match=r"xxx…, .*… \(50 in all\); set text_column") as caught:
        open_corpus(tmp_path / "c.csv")
    assert len(str(caught.value)) < 1500


def test_a_treebank_of_one_long_document_is_read_in_linear_time(tmp_path):
    sentence = "1\tOne\t_\tNUM\t_\t_\t0\troot\t_\t_\n2\tTwo\t_\tNUM\t_\t_\t0\troot\t_\tSpaceAfter=No\n\n"
    (tmp_path / "c.conllu").write_text(sentence * 3000)
    (document,) = open_corpus(tmp_path / "c.conllu")
    assert document.text == "One Two" * 3000


@pytest.mark.parametrize("form", ["", " ", "\u2003"])
def test_a_word_without_a_form_is_refused(tmp_path, form):
    (tmp_path / "c.conllu").write_text(f"1\t{form}\t_\tNUM\t_\t_\t0\troot\t_\t_\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"c\.conllu, line 1: expected the form of a word in the second column"):
        open_corpus(tmp_path / "c.conllu")
