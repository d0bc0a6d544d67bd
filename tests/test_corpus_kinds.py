"""Every kind of source, read as documents."""

import gzip
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from specialize.corpus import Document, open_corpus
from specialize.errors import CorpusError

ROWS = {
    "id": ["a", "b"],
    "text": ["One, “two”.\nThree.", "Vier 🙂"],
    "topic": ["x", None],
    "year": [1999, 2001],
    "ok": [True, False],
    "score": [0.5, 1.5],
}
EXPECTED = [
    Document("a", ROWS["text"][0], {"topic": "x", "year": "1999", "ok": "true"}),
    Document("b", ROWS["text"][1], {"year": "2001", "ok": "false"}),
]


def test_a_text_file_is_one_document_with_its_line_ends(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\n\r\nTwo \xc3\xa9.\n")
    assert list(open_corpus(path)) == [Document("poem.txt", "One.\r\n\r\nTwo é.\n")]


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz", "CORPUS.JSONL"])
def test_jsonl(tmp_path, name):
    path = tmp_path / name
    lines = [json.dumps({column: ROWS[column][row] for column in ROWS}) for row in range(2)]
    content = f"{lines[0]}\n\n{lines[1]}".encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(open_corpus(path)) == EXPECTED


def test_jsonl_numbers_rows_where_there_is_no_id_and_finds_late_columns(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"body": "One."}\n\n{"body": ""}\n{"body": "Two.", "n": 3}\n')
    assert list(open_corpus(path)) == [Document("0", "One."), Document("2", "Two.", {"n": "3"})]


@pytest.mark.parametrize(("name", "mark"), [("corpus.csv", ","), ("corpus.tsv", "\t"), ("corpus.tsv.gz", "\t")])
def test_separated_values_with_quoted_line_ends(tmp_path, name, mark):
    rows = [["id", "text", "topic"], ["a", '"One, ""two""\r\nthree"', "x"], ["b", "Vier 🙂", ""]]
    content = "".join(mark.join(row) + "\r\n" for row in rows).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(open_corpus(path)) == [
        Document("a", 'One, "two"\r\nthree', {"topic": "x"}),
        Document("b", "Vier 🙂"),
    ]


def test_csv_takes_documents_longer_than_the_csv_module_likes(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text\n" + "a " * 200_000 + "\n")
    assert len(next(iter(open_corpus(path))).text) == 400_000


def test_csv_takes_the_only_column_beside_the_id_for_the_text(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("id,body\n7,One.\n")
    assert list(open_corpus(path)) == [Document("7", "One.")]


def write_arrow_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


def write_arrow_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("corpus.parquet", pq.write_table),
        ("corpus.feather", pyarrow.feather.write_feather),
        ("corpus.arrow", write_arrow_file),
        ("corpus.arrow", write_arrow_stream),
    ],
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_typed_tables(tmp_path, name, write, dictionary):
    table = pa.table(ROWS)
    if dictionary:
        table = table.set_column(2, "topic", table["topic"].dictionary_encode())
    write(table, tmp_path / name)
    corpus = open_corpus(tmp_path / name)
    assert list(corpus) == EXPECTED
    assert list(corpus) == EXPECTED


def test_columns_can_be_chosen(tmp_path):
    pq.write_table(pa.table({"a": ["x", "y"], "b": ["One.", "Two."], "c": [1.5, float("nan")]}), tmp_path / "t.parquet")
    corpus = open_corpus(tmp_path / "t.parquet", text_column="b", id_column="a", labels=["c"])
    assert list(corpus) == [Document("x", "One.", {"c": "1.5"}), Document("y", "Two.")]
    assert next(iter(open_corpus(tmp_path / "t.parquet", text_column="b", labels=[]))).labels == {}


CONLLU = """\
# newdoc id = fr-1
# sent_id = 1
# text = Il parle du chat.
1\tIl\til\tPRON\t_\t_\t2\tnsubj\t_\t_
2\tparle\tparler\tVERB\t_\t_\t0\troot\t_\t_
3-4\tdu\t_\t_\t_\t_\t_\t_\t_\t_
3\tde\tde\tADP\t_\t_\t5\tcase\t_\t_
4\tle\tle\tDET\t_\t_\t5\tdet\t_\t_
5\tchat\tchat\tNOUN\t_\t_\t2\tobl\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

# sent_id = 2
1-2\tDu\t_\t_\t_\t_\t_\t_\t_\t_
1\tDe\tde\tADP\t_\t_\t3\tcase\t_\t_
2\tle\tle\tDET\t_\t_\t3\tdet\t_\t_
3\tthé\tthé\tNOUN\t_\t_\t0\troot\t_\tGloss=tea|SpaceAfter=No
3.1\tbu\tboire\tVERB\t_\t_\t_\t_\t_\t_
4\t!\t!\tPUNCT\t_\t_\t3\tpunct\t_\tSpaceAfter=No

# newpar
1\tOui\toui\tINTJ\t_\t_\t0\troot\t_\t_

# newdoc
1\tFin\tfin\tNOUN\t_\t_\t0\troot\t_\t_
"""


def test_conllu_rebuilds_running_text(tmp_path):
    path = tmp_path / "fr.conllu"
    path.write_text(CONLLU, encoding="utf-8")
    assert list(open_corpus(path)) == [
        Document("fr-1", "Il parle du chat. Du thé!\n\nOui"),
        Document("1", "Fin"),
    ]


def test_conllu_joins_sentences_without_a_space_where_the_last_word_says_so(tmp_path):
    path = tmp_path / "zh.conllu"
    word = "1\t{}\t_\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No\n\n"
    path.write_text(word.format("你好") + word.format("世界"), encoding="utf-8")
    assert list(open_corpus(path)) == [Document("0", "你好世界")]


def test_a_folder_is_all_its_files_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "poem.txt").write_text("Poem.")
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "One.", "t": "1"}\n{"id": "y", "text": "Two."}\n')
    (tmp_path / "c.csv").write_text("text\nThree.\n")
    (tmp_path / "notes.md").write_text("Not a document.")
    (tmp_path / ".hidden" / "d.txt").write_text("Not this one.")
    assert list(open_corpus(tmp_path)) == [
        Document("a.jsonl:x", "One.", {"t": "1"}),
        Document("a.jsonl:y", "Two."),
        Document("b/poem.txt", "Poem."),
        Document("c.csv:0", "Three."),
    ]


class FakeDataset:
    """What `datasets.load_dataset(..., streaming=True)` returns, as far as it is used."""

    def __init__(self, rows, features=None):
        self.rows = rows
        self.features = features

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def fake_hub(monkeypatch):
    calls = []

    def load_dataset(path, name=None, *, split, streaming):
        calls.append((path, name, split, streaming))
        if path == "nobody/nothing":
            raise FileNotFoundError("Dataset 'nobody/nothing' doesn't exist\non the Hub")
        rows = [{"text": "One.", "label": 1}, {"text": "Two.", "label": -1}]
        return FakeDataset(rows, {"text": SimpleNamespace(), "label": SimpleNamespace(names=["neg", "pos"])})

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_a_hub_dataset_is_streamed_and_its_classes_get_their_names(fake_hub):
    corpus = open_corpus("hf://owner/name#en:test")
    assert list(corpus) == [Document("0", "One.", {"label": "pos"}), Document("1", "Two.")]
    assert set(fake_hub) == {("owner/name", "en", "test", True)}
    open_corpus("hf://name")
    assert fake_hub[-1] == ("name", None, "train", True)


def test_a_hub_dataset_that_does_not_load_is_one_line(fake_hub):
    with pytest.raises(CorpusError) as caught:
        open_corpus("hf://nobody/nothing")
    assert str(caught.value) == (
        "hf://nobody/nothing: expected a readable dataset, got FileNotFoundError: "
        "Dataset 'nobody/nothing' doesn't exist"
    )


def test_a_hub_dataset_needs_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="pip install datasets"):
        open_corpus("hf://owner/name")
