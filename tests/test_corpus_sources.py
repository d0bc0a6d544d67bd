"""Folders, patterns and lists of files are one corpus; so are a file and what standard input brings of it."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from specialize.cli.capture_options import choose_corpus
from specialize.corpus import Document, open_corpus
from specialize.errors import CorpusError, OutputError


@pytest.fixture
def data(tmp_path):
    """A folder with files of several kinds, and others that are not read."""
    folder = tmp_path / "data"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.jsonl").write_text('{"id": "x", "text": "One.", "t": "1"}\n{"id": "y", "text": "Two."}\n')
    (folder / "b" / "poem.txt").write_text("Poem.\nSecond line.\n")
    (folder / "b" / "deep" / "c.csv").write_text("text\nThree.\n")
    (folder / "b-c.json").write_text('["Four."]')
    (folder / ".hidden" / "d.txt").write_text("Not this one.")
    (folder / "b" / ".d.txt").write_text("Nor this one.")
    (folder / "notes.md").write_text("Not a document.")
    return folder


def read(source, **options):
    corpus = open_corpus(source, **options)
    return list(corpus), corpus.digest


FILES = ("b/deep/c.csv", "a.jsonl", "b-c.json", "b/poem.txt")  # in another order than that of their paths


def test_a_folder_its_pattern_and_its_files_are_one_corpus(data, monkeypatch):
    expected = read(data)
    assert [document.id for document in expected[0]] == [
        *("a.jsonl:x", "a.jsonl:y", "b/deep/c.csv:0", "b/poem.txt", "b-c.json:0"),
    ]
    files = [data / name for name in FILES]
    others = [f"{data}/**", f"{data}/**/*", f"{data}/**/*.*", files, [data], [data / "a.jsonl", data], (*files, data)]
    others += [[data / "*.json*", *files[:1], data / "b" / "*"]]
    for source in others:
        assert read(source) == expected, source
    monkeypatch.chdir(data)
    for source in (".", "**", "./**/*", [Path(name) for name in FILES], [Path("../data/a.jsonl"), *files]):
        assert read(source) == expected, source


def test_a_pattern_opens_the_files_that_match(data):
    assert [document.id for document in read(f"{data}/*.json*")[0]] == ["a.jsonl:x", "a.jsonl:y", "b-c.json:0"]
    assert [document.id for document in read(data / "b" / "**" / "*.csv")[0]] == ["deep/c.csv:0"]
    assert [document.id for document in read(f"{data}/?.jsonl")[0]] == ["a.jsonl:x", "a.jsonl:y"]
    assert [document.id for document in read([data / "b" / "poem.txt"])[0]] == ["poem.txt"]


def test_a_file_may_have_the_name_of_a_pattern(data):
    (data / "a[1]*.txt").write_text("Starred.")
    assert read(f"{data}/a[1]*.txt")[0] == [Document("a[1]*.txt", "Starred.")]


def test_sources_are_named(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert open_corpus("data/*.json*").source == "data/*.json*"
    assert open_corpus([Path("data/a.jsonl"), Path("data/b-c.json")]).source == "2 paths in data"
    monkeypatch.chdir(data)
    assert open_corpus([data / "a.jsonl", data / "b"]).source == "2 paths in ."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda data: f"{data}/*.gz", r"\*\.gz: expected files that match and end in \.txt, .*, found none"),
        (lambda data: f"{data}/none/*.txt", r"expected files that match and end in \.txt, .*, found none"),
        (lambda data: [data / "a.jsonl", data / "notes.md"], r"notes\.md: expected a file ending in .*, got '\.md'"),
        (
            lambda data: [data / "a.jsonl", data / "b-c.jsn"],
            r"b-c\.jsn: expected a .*, found none\. Did you mean 'b-c\.",
        ),
        (lambda data: [data / "a.jsonl", "b.jsonl"], "expected a list of texts or one of paths, got both"),
        (lambda data: [], "texts: expected at least one document"),
    ],
)
def test_what_is_missing_is_one_line(data, source, message):
    with pytest.raises(CorpusError, match=message) as caught:
        open_corpus(source(data))
    assert "\n" not in str(caught.value)


def test_several_paths_of_the_command_line_are_files(data):
    files = [str(data / name) for name in FILES]
    assert read(choose_corpus(files)) == read(data)
    assert choose_corpus(files[:1]) == files[0]
    assert choose_corpus(["-"]) == "-"
    for other in ("-", "hf://owner/name"):
        with pytest.raises(CorpusError, match=f"expected {other} alone, or several paths"):
            choose_corpus([files[0], other])


LINES = "One.\r\n\n  \nTwo é.\u2028Still two.\nThree."


def test_each_line_may_be_a_document(tmp_path, data):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf" + LINES.encode())
    texts = ["One.", "", "  ", "Two é.\u2028Still two.", "Three."]
    assert read(tmp_path / "c.txt", unit="line") == read(texts)
    assert [document.id for document in read(texts)[0]] == ["0", "3", "4"]
    assert [document.id for document in read(data / "b", unit="line")[0]] == [
        *("deep/c.csv:0", "poem.txt:0", "poem.txt:1"),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda data: data / "a.jsonl", r"a\.jsonl: unit line: expected it for text alone, got \.jsonl, which says"),
        (lambda data: f"{data}/*.json*", r"unit line: expected \.txt files among those of the corpus, found none"),
        (lambda data: ["One."], "corpus of type list: unit line: expected it for .txt files alone; leave it out"),
        (lambda data: "hf://owner/name", "hf://owner/name: unit line: expected it for .txt files alone"),
    ],
)
def test_lines_are_those_of_text(data, source, message):
    with pytest.raises(CorpusError, match=message):
        open_corpus(source(data), unit="line")
    with pytest.raises(CorpusError, match=r"unit: expected one of file, line, got 'lines'. Did you mean"):
        open_corpus(source(data), unit="lines")


@pytest.fixture
def pipe(monkeypatch, tmp_path):
    """A function that puts bytes on standard input; copies of them lie in a folder of their own."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


@pytest.mark.parametrize(
    ("name", "content", "how", "unit"),
    [
        (
            "c.jsonl",
            '\ufeff\n {"id": "a", "text": "One.", "t": 1}\n{"id": "b", "text": "Two."}\n',
            "JSON Lines",
            "file",
        ),
        ("c.json", ' [\n{"id": "a", "text": "One.", "t": 1}]', "an array of JSON", "file"),
        ("c.json", '["One.", "Two."]', "an array of JSON", "file"),
        ("stdin.txt", "[One] and {two}.\nThree.\n", "one text", "file"),
        ("c.txt", LINES, "one text a line", "line"),
    ],
)
def test_standard_input_is_the_file_that_it_comes_from(tmp_path, pipe, name, content, how, unit):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    pipe(content.encode())
    corpus = open_corpus("-", unit=unit)
    documents = list(corpus)
    assert documents == list(corpus)  # again
    if how == "one text":  # the name is the id
        assert documents == [Document("stdin", content)]
    else:
        assert (documents, corpus.digest) == read(tmp_path / name, unit=unit)
    assert corpus.source == "stdin"
    assert f"stdin: read as {how}" in corpus.notes
    assert len(list((tmp_path / "copies").iterdir())) == 1
    del corpus
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "stdin: expected at least one document, found none"),
        (b'{"text": "One."}\n{"text": 2}\n', {}, "stdin, line 2: expected a string in text column 'text', got int"),
        (b"One.\n\xff", {}, "stdin, line 2: expected UTF-8, got the byte 0xff"),
        (b"\x1f\x8b\x08", {}, "stdin: expected text or JSON Lines, got gzip; decompress it first"),
        (b"PAR1", {}, "stdin: expected text or JSON Lines, got Parquet; give its path"),
        (b"One.", {"id_column": "id"}, "stdin: a .txt file has no columns to choose"),
        (b'{"text": "One."}', {"unit": "line"}, "stdin: unit line: expected it for text alone, got .jsonl"),
    ],
)
def test_mistakes_on_standard_input_are_one_line(tmp_path, pipe, content, options, message):
    pipe(content)
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus("-", **options))
    assert "\n" not in str(caught.value)
    del caught
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_terminal_and_a_disk_without_room_are_one_line(monkeypatch, pipe):
    pipe(b"One.")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(
        OutputError, match="expected room for a copy of stdin, got: No such file or directory; let TMPDIR"
    ):
        open_corpus("-")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(CorpusError, match="stdin: expected documents from a pipe or a file, got none; give a path"):
        open_corpus("-")


def test_the_copy_is_deleted_when_the_program_ends(tmp_path):
    program = "import specialize.corpus as c; corpus = c.open_corpus('-'); print([d.id for d in corpus])"
    lines = "".join(json.dumps({"text": text}) + "\n" for text in "abc")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    how = {"input": lines, "capture_output": True, "text": True, "env": environment, "check": True}
    assert subprocess.run([sys.executable, "-c", program], **how).stdout == "['0', '1', '2']\n"
    assert list(tmp_path.iterdir()) == []
