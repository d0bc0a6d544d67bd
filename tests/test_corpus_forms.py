"""Compressed files and arrays of JSON hold the documents of their plain forms; damage is one line."""

import gzip
import json
import lzma
from random import Random

import pyarrow as pa
import pytest

import specialize.corpus.json_array as json_array
from specialize.corpus import Document, open_corpus
from specialize.errors import CorpusError

ROWS = [
    {"id": f"d{number}", "text": f"Text {number}: “ü”.\nNext 🙂 line.", "topic": topic, "n": number}
    for number, topic in enumerate(["x", None, "y", "x"] * 40)
]
TABLE = [("id", "text", "topic", "n"), *((row["id"], f'"{row["text"]}"', row["topic"] or "", row["n"]) for row in ROWS)]


def compress_zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": compress_zst}
NAMES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
PLAIN = {
    ".txt": "One.\r\n\r\nTwo é.\n",
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    ".json": json.dumps(ROWS),
    ".csv": "".join(",".join(map(str, row)) + "\n" for row in TABLE),
    ".tsv": "".join("\t".join(map(str, row)) + "\r\n" for row in TABLE),
    ".conllu": "# newdoc id = a\n1\tOne\t_\tNUM\t_\t_\t0\troot\t_\t_\n\n# newdoc\n1\tZwei" + "\t_" * 8 + "\n",
}


def read(path, **options):
    corpus = open_corpus(path, **options)
    return list(corpus), corpus.digest


@pytest.mark.parametrize("packed", COMPRESS)
@pytest.mark.parametrize("kind", PLAIN)
def test_compressed_files_hold_the_documents_of_plain_ones(tmp_path, kind, packed):
    content = PLAIN[kind].encode()
    (tmp_path / f"c{kind}").write_bytes(content)
    half = len(content) // 2
    parts = COMPRESS[packed](content[:half]) + COMPRESS[packed](b"") + COMPRESS[packed](content[half:])
    whole = COMPRESS[packed](content)
    expected = read(tmp_path / f"c{kind}")
    for name, data in ((f"c{kind}{packed}", whole), (f"p{kind}{packed}", parts), (f"C{kind}{packed}".upper(), whole)):
        (tmp_path / name).write_bytes(data)
        documents, digest = read(tmp_path / name)
        if kind == ".txt":  # the name is the id
            assert [document.text for document in documents] == [expected[0][0].text]
        else:
            assert (documents, digest) == expected


def test_tables_in_all_forms_are_one_corpus(tmp_path):
    found = []
    for kind in (".jsonl", ".json", ".csv", ".tsv"):
        for packed in ("", *COMPRESS):
            content = PLAIN[kind].encode()
            (tmp_path / f"c{kind}{packed}").write_bytes(COMPRESS[packed](content) if packed else content)
            found.append(read(tmp_path / f"c{kind}{packed}"))
    labels = [{"topic": row["topic"], "n": str(row["n"])} if row["topic"] else {"n": str(row["n"])} for row in ROWS]
    expected = [Document(row["id"], row["text"], own) for row, own in zip(ROWS, labels, strict=True)]
    assert all(documents == expected for documents, _ in found)
    assert len({digest for _, digest in found}) == 1


@pytest.mark.parametrize("packed", COMPRESS)
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-9],
        lambda data: data[: len(data) // 2],
        lambda data: data[:3],
        lambda data: data[:200] + bytes(40) + data[240:],
        lambda data: b"none of these: " + data,
        lambda data: data + b"and so on",
    ],
    ids=["end cut", "half", "start alone", "zeros", "another start", "more after the end"],
)
def test_damage_of_a_compressed_file_is_one_line(tmp_path, packed, harm):
    content = Random(0).randbytes(3000).hex()
    path = tmp_path / f"c.jsonl{packed}"
    path.write_bytes(harm(COMPRESS[packed](f'{{"text": "{content}"}}\n'.encode())))
    with pytest.raises(CorpusError) as caught:
        list(open_corpus(path))
    kind = NAMES[packed]
    damaged = f"c.jsonl{packed}: expected an intact {kind} file, got a damaged one ("
    # the checksum of zstd is optional, and Arrow writes none
    assert damaged in str(caught.value) or (kind == "zstd" and "got broken JSON" in str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", COMPRESS)
def test_damage_of_a_later_part_is_not_taken_for_the_end(tmp_path, packed):
    parts = [COMPRESS[packed](b'{"text": "%d"}\n' % number) for number in range(3)]
    (tmp_path / f"c.jsonl{packed}").write_bytes(b"".join(parts))
    assert len(list(open_corpus(tmp_path / f"c.jsonl{packed}"))) == 3
    (tmp_path / f"c.jsonl{packed}").write_bytes(parts[0] + b"?" + parts[1][1:] + parts[2])
    with pytest.raises(CorpusError, match=f"expected an intact {NAMES[packed]} file"):
        list(open_corpus(tmp_path / f"c.jsonl{packed}"))


def test_streams_of_xz_may_be_padded(tmp_path):
    (tmp_path / "c.txt.xz").write_bytes(lzma.compress(b"One.") + bytes(8) + lzma.compress(b" Two.") + bytes(4))
    assert [document.text for document in open_corpus(tmp_path / "c.txt.xz")] == ["One. Two."]


@pytest.mark.parametrize("packed", COMPRESS)
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".json", ".conllu"])
def test_what_expands_beyond_reason_is_one_line(tmp_path, packed, kind):
    path = tmp_path / f"c{kind}{packed}"
    path.write_bytes(COMPRESS[packed](b"[" * (kind == ".json") + (b" " * 2**20 + b"\n") * 32))
    with pytest.raises(CorpusError, match=r"expected compressed text, got [\d.]+ k?B that expand to") as caught:
        list(open_corpus(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", COMPRESS)
def test_tables_of_columns_are_not_compressed_once_more(tmp_path, packed):
    (tmp_path / f"c.parquet{packed}").write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"expected a file ending in \.txt, .* \(also with \.gz, \.xz, \.zst\), \.parq"
    ):
        open_corpus(tmp_path / f"c.parquet{packed}")


@pytest.mark.parametrize("size", [1, 7, 2**16])
@pytest.mark.parametrize("indent", [None, 2])
def test_items_may_lie_anywhere_in_what_is_read_at_once(tmp_path, monkeypatch, size, indent):
    monkeypatch.setattr(json_array, "_BYTES_AT_ONCE", size)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:9]))
    content = json.dumps(ROWS[:9], ensure_ascii=False, indent=indent)
    (tmp_path / "c.json").write_text(f"\ufeff \n{content}\n ", encoding="utf-8")
    assert read(tmp_path / "c.json") == read(tmp_path / "c.jsonl")


def test_an_array_of_texts_is_a_list_of_texts(tmp_path):
    texts = ["One.", " ", "Two.\nThree."]
    (tmp_path / "c.json").write_text(json.dumps(texts))
    assert read(tmp_path / "c.json") == read(texts)
    assert read(tmp_path / "c.json", text_column="text") == read(texts)


ARRAY = r"c\.json: expected an array of objects or texts, got "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ARRAY + "an empty file; write the list of documents alone"),
        (b" \n", ARRAY + "an empty file"),
        (
            b'{"data": [{"text": "One."}]}',
            ARRAY + "an object; write the list of documents alone, name a file of",
        ),
        (
            b'{"text": "One."}\n{"text": "Two."}\n',
            ARRAY + r"an object; .* name a file of one object per line \.jsonl, or leave",
        ),
        (b'"One."', ARRAY + "something else"),
        (b"[]", "expected at least one document, found none"),
        (b'[{"text": "One."}', r"c\.json, line 1: expected a comma or the end of the array, got the end of the file"),
        (b'[{"text": "One."}\n{"text": "Two."}]', r"line 2: expected a comma or the end of the array, got '\{'"),
        (
            b'[{"text": "One."},\n{"text": "Tw',
            r"line 2, item 1: expected a JSON object or a string, got broken JSON \(",
        ),
        (b'[{"text": "One."},\n{"text":\n\n1x}]', r"line 4, item 1: expected .*, got broken JSON \(Expecting ',' del"),
        (b'["One.", ]', r"line 1, item 1: expected .*, got broken JSON \(Expecting value\)"),
        (b'["One."] ["Two."]', r"line 1: expected nothing after the array, got '\['; write one array"),
        (b'["One.",\n 2]', r"line 2, item 1: expected a string, got int"),
        (b'["One.", {"text": "Two."}]', "line 1, item 1: expected a string, got dict"),
        (b"[1]", "item 0: expected a JSON object or a string, got int"),
        (b'[{"text": "One."}, "Two."]', "item 1: expected a JSON object, got str"),
        (
            b'[{"text": "One."}, {"text": 2}]',
            "c.json, line 1, item 1: expected a string in text column 'text', got int",
        ),
        (b'[{"text": "One.", "text": "Two."}]', "item 0: expected .*, got one with the key 'text' twice"),
        (b'["One.", ' + b"[" * 100_000, "item 1: expected .*, got one nested too deeply"),
        (b'["One.", "\xff"]', r"c\.json: expected UTF-8, got the byte 0xff near byte 11 of the file"),
        ('["One."]'.encode("utf-16"), r"c\.json: expected UTF-8, got UTF-16; convert the file"),
        (b'["One.", "\\ud800"]', "item 1: expected valid Unicode, got the lone surrogate"),
    ],
)
def test_what_is_no_array_is_one_line(tmp_path, content, message):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus(tmp_path / "c.json"))
    assert "\n" not in str(caught.value)


def test_an_item_that_would_fill_the_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(json_array, "LONGEST_LINE", 1000)
    monkeypatch.setattr(json_array, "_BYTES_AT_ONCE", 100)
    (tmp_path / "c.json").write_text(json.dumps(["One.", "a" * 5000]))
    with pytest.raises(CorpusError, match=r"item 1: expected .*, got broken JSON \(.*\), or more than 1\.0 kB"):
        list(open_corpus(tmp_path / "c.json"))


def test_groups_are_found_and_named_in_every_form(tmp_path):
    rows = [row | {"book": f"b{number // 20}"} for number, row in enumerate(ROWS)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "c.jsonl.zst").write_bytes(compress_zst(lines))
    (tmp_path / "c.json.xz").write_bytes(lzma.compress(json.dumps(rows).encode()))
    for source, options in (
        (tmp_path / "c.json.xz", {}),
        (tmp_path / "c.json.xz", {"sample": 150}),
        (tmp_path / "parts", {"labels": ["topic"]}),
        (f"{tmp_path}/parts/*.zst", {}),
        ([tmp_path / "parts" / "c.jsonl.zst"], {}),
    ):
        corpus = open_corpus(source, group="book", **options)
        documents = list(corpus)
        assert corpus.group == "book"
        assert {document.labels["book"] for document in documents} == {f"b{number}" for number in range(8)}
        assert any("belong together, by the column book: 8 groups" in note for note in corpus.notes)
