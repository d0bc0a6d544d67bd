"""Samples are uniform, and the same for a seed whatever the form of the corpus and the order of its documents."""

import gzip
import json
from collections import Counter
from itertools import combinations, pairwise
from random import Random

import pandas as pd
import pytest
from scipy.stats import chi2

from specialize.corpus import Message, open_corpus
from specialize.errors import CorpusError

TEXTS = [f"Text {number}, “ü”." for number in range(40)]
TEXTS[7] = TEXTS[21] = TEXTS[3]
ROWS = [{"id": f"d{number}", "text": text, "kind": "ab"[number % 2]} for number, text in enumerate(TEXTS)]


def draw(source, size=11, seed=5, **options):
    corpus = open_corpus(source, sample=size, sample_seed=seed, **options)
    documents = list(corpus)
    assert documents == list(corpus)  # again
    return documents


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("same", [False, True])
def test_every_set_of_documents_is_as_likely_as_the_others(same):
    texts, seeds = [f"Text {number}." for number in range(6)], 2000
    if same:
        texts[4] = texts[1]  # two copies are two documents
    drawn = Counter(
        tuple(document.id for document in open_corpus(texts, sample=3, sample_seed=seed)) for seed in range(seeds)
    )
    sets = list(combinations("012345", 3))
    statistic = sum((drawn[each] - seeds / len(sets)) ** 2 for each in sets) / (seeds / len(sets))
    assert set(drawn) == set(sets)
    assert chi2.ppf(0.0005, len(sets) - 1) < statistic < chi2.ppf(0.9995, len(sets) - 1)


def test_the_sample_is_in_the_order_of_the_corpus_and_grows_with_its_size():
    places = [[int(document.id) for document in draw(TEXTS, size)] for size in (1, 11, 25, 40, 100)]
    for smaller, larger in pairwise(places):
        assert larger == sorted(larger)
        assert set(smaller) < set(larger) or len(larger) == len(smaller) == 40
    assert [len(each) for each in places] == [1, 11, 25, 40, 40]
    assert places[3] == list(range(40))
    assert {tuple(document.id for document in draw(TEXTS, 1, seed)) for seed in range(60)} > {("0",), ("5",)}
    assert places[1] != list(range(11))


def test_every_form_has_the_same_sample(tmp_path):
    expected = draw(write_jsonl(tmp_path / "c.jsonl", ROWS))
    assert [document.labels for document in expected] == [
        {"kind": "ab"[int(document.id[1:]) % 2]} for document in expected
    ]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_parquet(tmp_path / "c.parquet")
    for source in (tmp_path / "c.jsonl.gz", tmp_path / "c.csv", tmp_path / "c.parquet", frame):
        assert draw(source) == expected
    (tmp_path / "parts").mkdir()
    for start in (0, 15, 30):
        write_jsonl(tmp_path / "parts" / f"{start:02}.jsonl", ROWS[start : start + 15])
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for source, options in ((tmp_path / "parts", {}), (TEXTS, {}), (tmp_path / "lines.txt", {"unit": "line"})):
        assert [document.text for document in draw(source, **options)] == [document.text for document in expected]


def test_the_order_of_the_documents_and_empty_ones_do_not_matter():
    expected = sorted(document.text for document in draw(TEXTS))
    rng = Random(0)
    for _ in range(5):
        shuffled = rng.sample([*TEXTS, "", " \n"], 42)
        corpus = open_corpus(shuffled, sample=11, sample_seed=5)
        assert sorted(document.text for document in corpus) == expected


def test_conversations_are_drawn_by_their_messages(tmp_path):
    rows = [{"id": number, "messages": [{"role": "user", "content": text}]} for number, text in enumerate(TEXTS)]
    drawn = draw(write_jsonl(tmp_path / "c.jsonl", rows), 15)
    assert len({document.messages for document in drawn}) > 10
    assert all(document.messages == (Message("user", TEXTS[int(document.id)]),) for document in drawn)
    assert [d.id for d in draw(pd.DataFrame(rows), 15)] == [document.id for document in drawn]


def test_a_sample_is_noted_and_has_a_digest(tmp_path):
    corpus = open_corpus(TEXTS, sample=11, sample_seed=5)
    documents = list(corpus)
    assert (corpus.num_documents, corpus.sample.size, corpus.sample.population, corpus.sample.seed) == (11, 11, 40, 5)
    assert corpus.notes[0] == "texts: a random sample of 11 of 40 documents, drawn with seed 5"
    rows = [{"id": document.id, "text": document.text} for document in documents]
    alone = open_corpus(write_jsonl(tmp_path / "c.jsonl", rows))
    list(alone)
    assert corpus.digest == alone.digest
    assert corpus.digest_of_first(3) == open_digest(rows[:3], tmp_path)


def open_digest(rows, tmp_path):
    corpus = open_corpus(write_jsonl(tmp_path / "few.jsonl", rows))
    list(corpus)
    return corpus.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sample": 3, "limit": 3},
            r"sample: expected a sample or the first documents, got both \(limit 3\); leave one",
        ),
        ({"sample": 0}, "sample: expected a positive number of documents, got 0"),
        ({"sample": 2.5}, "sample: expected a whole number, got 2.5"),
        ({"sample": 2, "sample_seed": 0.5}, "sample_seed: expected a whole number, got 0.5"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(CorpusError, match=message):
        open_corpus(TEXTS, **options)


def test_whatever_is_wrong_with_the_corpus_is_found_in_drawing(tmp_path):
    rows = [*ROWS, {"id": "d0", "text": "One more."}]
    for size in (1, 41):
        with pytest.raises(CorpusError, match=r"c\.jsonl, line 41: expected unique ids, got 'd0' a second time"):
            open_corpus(write_jsonl(tmp_path / "c.jsonl", rows), sample=size)
    with pytest.raises(CorpusError, match="texts: expected at least one document, found none"):
        open_corpus([" "], sample=3)
    with pytest.raises(CorpusError, match="this corpus is open already"):
        open_corpus(open_corpus(TEXTS), sample=3)
