"""Conversations: which column is read, what a message is, and that every form gives the same ones."""

import json
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specialize.corpus import Document, Message, open_corpus
from specialize.errors import CorpusError

ROWS = [
    {
        "id": "a",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Wie geht’s?\n🙂"}],
        "kind": "chat",
    },
    {"id": "b", "messages": [{"role": "user", "content": "Two."}], "kind": None},
    {"id": "c", "messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": ""}], "kind": "chat"},
    {"id": "d", "messages": [{"role": "user", "content": "Two."}], "kind": "copy"},
    {"id": "e", "messages": None, "kind": "chat"},
]
EXPECTED = [
    Document("a", "", {"kind": "chat"}, (Message("system", "Be brief."), Message("user", "Wie geht’s?\n🙂"))),
    Document("b", "", {}, (Message("user", "Two."),)),
    Document("d", "", {"kind": "copy"}, (Message("user", "Two."),)),
]


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Rows:
    """What the package ``datasets`` gives: rows, the names of the columns and their features."""

    def __init__(self, rows):
        self.rows, self.column_names = rows, list(rows[0])
        self.features = {name: SimpleNamespace() for name in self.column_names}

    def __iter__(self):
        return iter(self.rows)


def write_arrow(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def turn_round(messages):
    """What ``datasets`` gives of a Sequence of objects."""
    return messages and {key: [message[key] for message in messages] for key in ("role", "content")}


FORMS = {
    "JSON Lines": lambda folder: write_json_lines(folder / "c.jsonl", ROWS),
    "Parquet": lambda folder: write_parquet(folder / "c.parquet"),
    "Arrow": lambda folder: write_arrow(folder / "c.arrow"),
    "frame": lambda folder: pd.DataFrame(ROWS),
    "frame from Parquet": lambda folder: pd.read_parquet(write_parquet(folder / "c.parquet")),
    "dataset": lambda folder: Rows(ROWS),
    "dataset of sequences": lambda folder: Rows([row | {"messages": turn_round(row["messages"])} for row in ROWS]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_conversations(form, tmp_path):
    plain = open_corpus(write_json_lines(tmp_path / "plain.jsonl", ROWS))
    corpus = open_corpus(FORMS[form](tmp_path))
    assert list(corpus) == list(plain) == EXPECTED
    assert corpus.digest == plain.digest
    assert (corpus.skipped, corpus.repeated) == (2, 1)


def test_the_digest_covers_roles_and_contents_and_is_unchanged_without_messages(tmp_path):
    def digest_of(*messages):
        corpus = open_corpus(write_json_lines(tmp_path / "c.jsonl", [{"id": "a", "messages": list(messages)}]))
        list(corpus)
        return corpus.digest

    first = {"role": "user", "content": "One."}
    variants = [(first,), (first | {"role": "tool"},), (first | {"content": "Two."},), (first, first)]
    assert len({digest_of(*variant) for variant in variants}) == len(variants)
    texts = open_corpus(["One."])
    list(texts)
    # by sha256sum of the line ["0", "One.", {}]
    assert texts.digest == "0506992ee94e7ed5d8bb6212b74930bc0db28e339b67a3ffba2d2caafdaadbfa"


def test_sharegpt_is_read_with_the_roles_of_chat_templates(tmp_path):
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "One?"},
        {"from": "gpt", "value": "Two."},
        {"from": "observation", "value": "3"},
    ]
    for column in ("conversations", "conversation", "messages"):
        (document,) = open_corpus(write_json_lines(tmp_path / "c.jsonl", [{column: turns}]))
        assert [message.role for message in document.messages] == ["system", "user", "assistant", "observation"]
        assert [message.content for message in document.messages] == ["Be brief.", "One?", "Two.", "3"]


def test_parts_of_a_content_are_joined(tmp_path):
    parts = [{"type": "text", "text": "One, "}, {"type": "text", "text": "two."}]
    rows = [{"messages": [{"role": "user", "content": parts, "tool_calls": None}]}]
    expected = (Message("user", "One, two."),)
    assert next(iter(open_corpus(write_json_lines(tmp_path / "c.jsonl", rows)))).messages == expected
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    assert next(iter(open_corpus(tmp_path / "c.parquet"))).messages == expected
    assert next(iter(open_corpus(pd.read_parquet(tmp_path / "c.parquet")))).messages == expected


TURN = [{"role": "user", "content": "Turn."}]


@pytest.mark.parametrize(
    ("row", "options", "text", "messages", "labels"),
    [
        ({"messages": TURN, "text": "Text."}, {}, "Text.", (), {}),
        ({"messages": TURN, "body": "Text."}, {}, "", (Message("user", "Turn."),), {"body": "Text."}),
        ({"messages": TURN, "body": "Text."}, {"text_column": "body"}, "Text.", (), {}),
        ({"turns": TURN, "text": "Text."}, {"messages_column": "turns"}, "", (Message("user", "Turn."),), {}),
        ({"turns": TURN, "text": "Text.", "n": 1}, {"messages_column": "turns", "labels": ["n"]}, "", None, {"n": "1"}),
        ({"messages": 3.5, "body": "Text."}, {}, "Text.", (), {}),
        ({"messages": "Text."}, {}, "Text.", (), {}),
    ],
)
def test_which_column_is_read(tmp_path, row, options, text, messages, labels):
    (document,) = open_corpus(write_json_lines(tmp_path / "c.jsonl", [row]), **options)
    assert (document.text, document.labels) == (text, labels)
    assert document.messages == ((Message("user", "Turn."),) if messages is None else messages)


PICTURE = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": None}], r"line 2, message 0: expected text as content, got nothing; leave"),
        ([*TURN, {"role": "user", "content": [PICTURE]}], r"message 1: expected parts of type text, got one of type '"),
        ([{"role": "user", "content": ["One."]}], r"expected parts of type text, got str; leave the conversation out"),
        ([{"role": "user", "content": 3}], r"message 0: expected text as content, got int"),
        ([{"role": "assistant", "content": "a", "tool_calls": [{"id": 1}]}], r"expected text alone, got tool_calls; "),
        ([{"role": "", "content": "a"}], r"message 0: expected a string as role, got str"),
        ([{"content": "a"}], r"message 0: expected a string as role, got nothing"),
        ([{"from": 3, "value": "a"}], r"message 0: expected a string as from, got int"),
        ([{"from": "gpt", "content": "a"}], r"message 0: expected text as value, got nothing"),
        (["One."], r"line 2, message 0: expected an object with role and content, got str"),
        ({"role": ["user"], "content": []}, r"line 2: expected a list of messages in column 'messages'"),
        ({"role": "user"}, r"line 2: expected a list of messages in column 'messages', each with .*, got dict"),
        ([{"role": "user", "content": "\ud800"}], r"line 2: expected valid Unicode, got the lone surrogate"),
    ],
)
def test_what_is_not_text_is_one_line(tmp_path, messages, message):
    rows = [{"messages": TURN}] + [{"messages": TURN}] * 99 + [{"messages": messages}]  # the column is judged before
    path = write_json_lines(tmp_path / "c.jsonl", rows)
    with pytest.raises(CorpusError, match=message.replace("line 2", "line 101")) as caught:
        list(open_corpus(path))
    assert "\n" not in str(caught.value)


def test_a_text_and_a_conversation_are_not_both_read(tmp_path):
    path = write_json_lines(tmp_path / "c.jsonl", [{"text": "One.", "messages": TURN}])
    with pytest.raises(CorpusError, match="expected text_column or messages_column, got both"):
        open_corpus(path, text_column="text", messages_column="messages")
