"""What the stages say about a corpus and its columns."""

import json

import numpy as np
import pytest

from capture.test_run import TEXTS, make_checkpoint
from listening import Listener
from planted import plant_document_labels
from planted.stored import store_trace
from specialize.errors import AnnotationError, CorpusError
from specialize.pipeline.syntax import syntax
from specialize.pipeline.topics import topics
from specialize.pipeline.trace import trace_corpus


def test_columns_of_a_corpus_that_are_no_labels_are_named_once(tmp_path):
    path = tmp_path / "corpus.jsonl"
    rows = [{"text": text, "kind": "ab"[row % 2], "score": row / 2} for row, text in enumerate([*TEXTS, TEXTS[0]])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    listener = Listener()
    trace = trace_corpus(make_checkpoint(), path, tmp_path / "run", context=16, reporter=listener)
    assert trace.manifest["corpus"]["labels"] == ["kind"]
    assert listener.notes[:2] == [
        f"{path}: columns that are not used as labels: score (float); set labels to use one",
        f"{path}: texts that repeat an earlier text exactly: 1; intervals keep copies together; remove them if they "
        "should not be counted twice",
    ]


def test_labels_that_cannot_be_measured_are_passed_over(tmp_path):
    planted = plant_document_labels(np.full(2, 0.5), np.array([[0.7, 0.3], [0.3, 0.7]]), num_documents=200,
                                    tokens_per_document=4)  # fmt: skip
    people = ["b" if row == 7 else "a" for row in range(200)]
    genre = ["ab"[row % 2] for row in range(200)]
    routing = {0: planted.experts}
    store_trace(tmp_path / "run", planted.documents, routing, num_experts=2, labels={"person": people, "genre": genre})
    reason = "all but 1 of 200 documents have one value; 5 others are needed"
    for asked in (None, ["person", "genre"]):
        listener = Listener()
        frame = topics(tmp_path / "run", labels=asked, fit=False, permutations=9, reporter=listener)
        assert set(frame["label_set"].dropna()) == {"genre"}
        assert listener.notes == [f"columns that are not measured as labels: person ({reason})"]
    assert not list((tmp_path / "run").rglob("person*"))
    with pytest.raises(AnnotationError, match="expected a label column with 2 to 100 values"):
        topics(tmp_path / "run", labels=["person"], fit=False)


@pytest.mark.parametrize(
    ("asked", "labels", "found"),
    [
        ({}, ["kind", "group"], "group"),
        ({"labels": ["kind"]}, ["kind", "group"], "group"),
        ({"labels": ["group"]}, ["group"], None),
        ({"group": "kind"}, ["kind", "group"], "kind"),
        ({"group": "kind", "labels": []}, ["kind"], "kind"),
    ],
)
def test_the_column_of_groups_is_found_or_named(tmp_path, asked, labels, found):
    rows = [{"text": text, "kind": "abc"[row % 3], "group": f"g{row // 2}"} for row, text in enumerate(TEXTS)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    listener = Listener()
    trace = trace_corpus(make_checkpoint(), path, tmp_path / "run", context=16, reporter=listener, **asked)
    assert (trace.manifest["corpus"]["labels"], trace.manifest["corpus"]["group"]) == (labels, found)
    told = [note for note in listener.notes if "belong together" in note]
    if found is None:
        assert told == []
        assert len(set(trace.groups)) == len(TEXTS)
    else:
        values = [row[found] for row in rows]
        assert told == [
            f"{path}: documents that belong together, by the column {found}: {len(set(values))} groups; intervals from "
            "so few groups are wide"
        ]
        assert [values.index(value) for value in values] == [list(trace.groups).index(each) for each in trace.groups]


def test_another_column_of_groups_is_not_passed_over_in_silence(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text, "book": f"b{row // 2}"}) + "\n" for row, text in enumerate(TEXTS))
    )
    first = trace_corpus(make_checkpoint(), path, tmp_path / "run", context=16)
    with pytest.raises(CorpusError, match=r"belong together by no column, as in the trace in .*, got 'book'; choose"):
        trace_corpus(make_checkpoint(), path, tmp_path / "run", context=16, group="book")
    assert trace_corpus(make_checkpoint(), path, tmp_path / "run", context=16).manifest == first.manifest
    trace_corpus(make_checkpoint(), path, tmp_path / "grouped", context=16, group="book")
    with pytest.raises(CorpusError, match=r"belong together by 'book', as in the trace in .*, got no column; choose"):
        trace_corpus(make_checkpoint(), path, tmp_path / "grouped", context=16)


def test_words_of_a_chat_template_are_told_where_they_are_tagged(tmp_path):
    checkpoint = make_checkpoint()
    checkpoint.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in TEXTS))
    trace = trace_corpus(checkpoint, path, tmp_path / "run", context=64)
    share = trace.tokens()["role"].value_counts(normalize=True)["template"]
    told = f"note: {100 * share:.0f} % of the tokens are the chat template's"
    for tags, notes in ((["upos"], [told]), (["role"], [])):
        listener = Listener()
        syntax(trace.path, tags=tags, language="en", permutations=9, reporter=listener)
        assert [note.split(", and what")[0] for note in listener.notes if "chat template" in note] == notes
