"""Each mistake in a source is one line that names the place."""

import gzip
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specialize.corpus import open_corpus
from specialize.errors import CorpusError

GOOD = b'{"text": "One."}\n'
WORD = b"1\tOne\t_\tNUM\t_\t_\t0\troot\t_\t_\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "c.jsonl",
            GOOD + b'{"text": \n',
            r"c\.jsonl, line 2: expected a JSON object, got broken JSON \(Expecting value, ",
        ),
        ("c.jsonl", GOOD + b'["text"]\n', r"c\.jsonl, line 2: expected a JSON object, got list"),
        ("c.jsonl", GOOD + b"[" * 100_000, r"c\.jsonl, line 2: expected a JSON object, got "),
        (
            "c.jsonl",
            GOOD + b'\n{"body": "x"}\n',
            r"c\.jsonl, line 3: expected the text column 'text', got body",
        ),
        (
            "c.jsonl",
            GOOD + b'{"text": 5}\n',
            r"c\.jsonl, line 2: expected a string in text column 'text', got int",
        ),
        (
            "c.jsonl",
            b'{"text": [1]}\n',
            r"c\.jsonl, line 1: expected a string in text column 'text', got list",
        ),
        ("c.jsonl", GOOD + b'{"text": "caf\xe9"}\n', r"line 2: expected UTF-8, got the byte 0xe9 at byte 14"),
        (
            "c.jsonl",
            b'{"text": "a", "id": 1}\n{"text": "b"}\n',
            r"line 2: expected a string or an integer as id in 'id'",
        ),
        (
            "c.jsonl",
            b'{"text": "a", "x": 1}\n' * 100 + b'{"text": "b", "x": {}}\n',
            r"line 101: .* label column 'x', got dict",
        ),
        ("c.jsonl", b"", r"expected at least one document, found none$"),
        ("c.jsonl", b'{"text": " "}\n', r"found none \(1 empty ones were skipped\)$"),
        (
            "c.jsonl",
            b'{"a": "x", "b": "y"}\n',
            r"c\.jsonl: expected a column 'text' or a single string column, got a, b",
        ),
        (
            "c.jsonl",
            b'{"turns": [{"role": "user", "content": "Hello."}]}\n',
            r"expected a column 'text' or a single string column, got turns; set text_column or messages_column",
        ),
        ("c.jsonl.gz", GOOD, r"c\.jsonl\.gz: expected an intact gzip file, got a damaged one"),
        (
            "c.jsonl.gz",
            gzip.compress(GOOD * 99, mtime=0)[:-12],
            r"c\.jsonl\.gz: expected an intact gzip file, got a damaged one",
        ),
        (
            "c.txt",
            b"One.\nTwo \xff.\n",
            r"c\.txt, line 2: expected UTF-8, got the byte 0xff at byte 5 of the line",
        ),
        ("c.txt", b" \n", r"found none \(1 empty ones were skipped\)"),
        ("c.csv", b"text,a\nOne.,1\nTwo.\n", r"c\.csv, line 3: expected 2 fields as in the header, got 1"),
        ("c.csv", b"text,a,a\nOne.,1,2\n", r"c\.csv, line 1: expected distinct column names, got 'a' twice"),
        ("c.csv", b'text,a\n"One.,1\n', r"c\.csv, line 2: expected a table of separated values, "),
        ("c.csv", b"text\nOne.\n\xff\n", r"c\.csv, line 3: expected UTF-8"),
        ("c.csv", b"", r"expected at least one document, found none"),
        ("c.tsv", b"a\tb\n1\t2\n", r"c\.tsv: expected a column 'text' or a single string column, got a, b"),
        (
            "c.parquet",
            b"PAR1 not really",
            r"c\.parquet: expected a Parquet file, got a file that cannot be read",
        ),
        ("c.parquet", b"", r"c\.parquet: expected a Parquet file, got a file that cannot be read"),
        ("c.arrow", b"not really arrow", r"c\.arrow: expected an Arrow file, got a file that cannot be read"),
        ("c.arrow", b"", r"c\.arrow: expected an Arrow file, got a file that cannot be read"),
        ("c.conllu", WORD + b"2 Two\n", r"c\.conllu, line 2: expected 10 tab-separated columns, got 1"),
        (
            "c.conllu",
            WORD.replace(b"1", b"x", 1),
            r"c\.conllu, line 1: expected a word number in .*, got 'x'",
        ),
        ("c.conllu", WORD.replace(b"1", b"0", 1), r"c\.conllu, line 1: expected a word number .*, 1 or more, got '0'"),
        ("c.conllu", WORD.replace(b"1", b"9" * 5000, 1), r"c\.conllu, line 1: expected a word number"),
        ("c.conllu", WORD.replace(b"1", b"3-2", 1), r"c\.conllu, line 1: expected a range of words such as 3-4"),
        ("c.jsonl", GOOD + b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", r"line 2: .* an integer of thousands of dig"),
        ("c.jsonl", b'{"id": "\\ud800", "text": "a"}\n', r"line 1: expected valid Unicode, got the lone surrogate"),
        (
            "c.jsonl",
            GOOD.decode().encode("utf-16"),
            r"c\.jsonl: expected UTF-8, got UTF-16; convert the file, .* iconv",
        ),
        ("c.csv", "text\nOne.\n".encode("utf-16-be"), r"c\.csv: expected UTF-8, got UTF-16; convert"),
        ("c.txt", "One.\n".encode("utf-32"), r"c\.txt: expected UTF-8, got UTF-32; convert"),
        ("c.csv", b"text;kind\nOne; two;a\n", r"c\.csv: expected columns separated by commas, got .* semicolons in it"),
        ("c.conllu", b"# newdoc\n\n", r"expected at least one document, found none"),
        ("c.pdf", b"%PDF", r"c\.pdf: expected a file ending in \.txt, .*\.feather, got '\.pdf'"),
        ("corpus", b"text", r"corpus: expected a file ending in .*, got 'no extension'"),
    ],
)
def test_each_mistake_is_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        list(open_corpus(path))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_of_typed_tables_are_named(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "c.parquet")
    with pytest.raises(CorpusError, match=r"c\.parquet, row 0: expected a string in text column 'text', got int"):
        open_corpus(tmp_path / "c.parquet")


def test_a_missing_path_suggests_a_sibling(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(GOOD)
    with pytest.raises(CorpusError, match=r"found none\. Did you mean 'corpus\.jsonl'\?$"):
        open_corpus(tmp_path / "corpsu.jsonl")
    with pytest.raises(CorpusError, match="found no folder"):
        open_corpus(tmp_path / "nowhere" / "corpus.jsonl")


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_regular_file_is_refused(tmp_path, inside):
    (tmp_path / "corpus").mkdir()
    os.mkfifo(tmp_path / "corpus" / "pipe.jsonl")
    with pytest.raises(CorpusError, match=r"pipe\.jsonl: expected a regular file, got a pipe; save its contents"):
        open_corpus(tmp_path / "corpus" if inside else tmp_path / "corpus" / "pipe.jsonl")
    with pytest.raises(CorpusError, match="/dev/zero: expected a regular file, got a device"):
        open_corpus("/dev/zero")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(CorpusError, match=r"^a\.txt: expected a regular file, got a broken link"):
        open_corpus(tmp_path / "link")


def test_columns_twice_in_a_typed_table_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["One."]), pa.array(["a"]), pa.array(["b"])], names=["text", "x", "x"])
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(CorpusError, match=r"c\.parquet: expected distinct column names, got 'x' twice"):
        open_corpus(tmp_path / "c.parquet")


def test_a_folder_without_documents_says_what_it_looked_for(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(CorpusError, match=r"expected files ending in \.txt, .*, found none"):
        open_corpus(tmp_path)


def test_a_mistake_in_a_folder_names_the_file_in_it(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c.jsonl").write_bytes(GOOD + b"5\n")
    with pytest.raises(CorpusError, match=r"^a/c\.jsonl, line 2: expected a JSON object, got int"):
        list(open_corpus(tmp_path))


def test_column_options_make_no_sense_for_running_text(tmp_path):
    (tmp_path / "poem.txt").write_text("Poem.")
    with pytest.raises(CorpusError, match=r"a \.txt file has no columns to choose"):
        open_corpus(tmp_path / "poem.txt", text_column="body")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "c.txt"
    path.write_text("One.")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(CorpusError, match=r"c\.txt: expected a readable file, got: Permission denied"):
        open_corpus(path)


def test_text_that_is_not_unicode_in_a_typed_table(tmp_path):
    values = pa.StringArray.from_buffers(1, pa.array([0, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff!"))
    pq.write_table(pa.table({"text": values}), tmp_path / "c.parquet")
    with pytest.raises(
        CorpusError, match=r"c\.parquet: expected a Parquet file, got a file that cannot be read \(.*UTF"
    ):
        open_corpus(tmp_path / "c.parquet")


def test_offsets_beyond_an_arrow_file(tmp_path):
    path = tmp_path / "c.arrow"
    table = pa.table({"text": ["ab", "cd", "ef"]})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 2, 4, 6))
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, offsets[:8] + (2**30).to_bytes(4, "little") * 2))
    with pytest.raises(CorpusError, match=r"c\.arrow: expected an Arrow file, got a file that cannot be read"):
        open_corpus(path)
