"""Corpora of every kind of file, and treebanks."""

import gzip
import io
import json
import lzma
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from analyses.fuzzing.harness import Target, join, require, split
from analyses.fuzzing.mutation import mutate_bytes, mutate_cells, mutate_json, mutate_json_line, mutate_member
from analyses.fuzzing.tables import write_random

from specialize.corpus import Corpus, Document, open_corpus
from specialize.corpus.conllu import read_treebank
from specialize.corpus.source import open_documents

# "packed": the input is compressed before it is read; "random": it determines a random table
_KINDS = (
    *("a.jsonl", "a.csv", "a.tsv", "a.txt", "packed a.jsonl.gz", "packed a.csv.gz", "a.jsonl.gz", "a.txt.gz"),
    *("a.parquet", "a.arrow", "a.feather", "random a.parquet", "random a.arrow"),
    *("a.json", "packed a.json.xz", "packed a.jsonl.zst", "a.jsonl.xz", "a.jsonl.zst"),
)
_COMPRESS = {".gz": lambda content: gzip.compress(content, 1, mtime=0), ".xz": lzma.compress}
_OPTIONS = (
    {},
    {"text_column": "topic"},
    {"id_column": "topic"},
    {"labels": ["topic", "n"]},
    {"labels": ["n", "score"], "limit": 1},
    {"limit": 2},
    {"sample": 2},
    {"messages_column": "messages"},
)
_NAMES = ("text", "id", "topic", "n", "score")
_MOST_AGAIN = 20_000  # bytes; larger inputs are read once

_ROWS = (
    {"id": "a", "text": "One, “two”.\nThree.", "topic": "x", "n": 1999, "score": 0.5, "ok": True},
    {"id": "b", "text": "Vier 🙂", "topic": None, "n": None, "score": None, "ok": False},
    {"id": "c", "text": "Five; six", "topic": "y", "n": 3, "score": 2.0, "ok": True},
)
_CONLLU = """\
# newdoc id = fr-1
# sent_id = 1
# text = Il parle du chat.
1\tIl\til\tPRON\t_\t_\t2\tnsubj\t_\t_
2\tparle\tparler\tVERB\t_\tA=b\t0\troot\t_\t_
3-4\tdu\t_\t_\t_\t_\t_\t_\t_\t_
3\tde\tde\tADP\t_\t_\t5\tcase\t_\t_
4\tle\tle\tDET\t_\t_\t5\tdet\t_\t_
5\tchat\tchat\tNOUN\tNN\t_\t2\tobl\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

# newpar
3.1\tbu\tboire\tVERB\t_\t_\t_\t_\t_\t_
1\tthé\tthé\tNOUN\t_\t_\t0\troot\t_\tGloss=tea|SpaceAfter=No

# newdoc
1\tFin\tfin\tNOUN\t_\t_\t0\troot\t_\t_
"""


_CHAT = """\
{"id": "a", "messages": [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]}
{"id": "b", "messages": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "Two."}]}
{"id": "c", "messages": [{"role": "user", "content": [{"type": "text", "text": "Three."}]}]}
"""


def _compress(content: bytes, ending: str) -> bytes:
    if ending != ".zst":
        return _COMPRESS[ending](content)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def _corpus_seeds() -> Mapping[str, bytes]:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in _ROWS).encode()
    cells = b'id,text,topic,n\na,"One, two.\nThree",x,1\nb,Vier,,2\n\nc,Five,y,\n'
    array = json.dumps(list(_ROWS), ensure_ascii=False, indent=1).encode()
    contents = {
        "a.json": array,
        "packed a.json.xz": b'["One.",\n "Two."]',
        "packed a.jsonl.zst": _CHAT.encode(),
        "a.jsonl.xz": lzma.compress(lines),
        "a.jsonl.zst": _compress(lines, ".zst"),
        "a.jsonl": lines,
        "a.csv": cells,
        "a.tsv": cells.replace(b",", b"\t"),
        "a.txt": "\ufeffOne.\r\n\r\nTwo é.\n".encode(),
        "packed a.jsonl.gz": lines,
        "packed a.csv.gz": cells.replace(b",", b";"),
        "a.jsonl.gz": gzip.compress(lines, mtime=0),
        "a.txt.gz": gzip.compress(b"One.\n", mtime=0) + gzip.compress(b"Two.\n", mtime=0),
        "random a.parquet": b"5",
        "random a.arrow": b"5",
    }
    table = pa.Table.from_pylist(list(_ROWS))
    buffers = {kind: io.BytesIO() for kind in ("a.parquet", "a.arrow", "a.feather")}
    pq.write_table(table, buffers["a.parquet"], compression="none")
    for kind, make in (("a.arrow", pa.ipc.new_stream), ("a.feather", pa.ipc.new_file)):
        with make(buffers[kind], table.schema) as writer:
            writer.write_table(table)
    contents |= {kind: buffer.getvalue() for kind, buffer in buffers.items()}
    seeds = {name: join(_KINDS.index(name), 0, content) for name, content in contents.items()}
    return seeds | {"a folder": join(0, 0, lines, lines.replace(b'"a"', b'"d"'))}


def _read_corpus(data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    how, _, name = _KINDS[kind % len(_KINDS)].rpartition(" ")
    for number, content in enumerate(members[:3]):
        if how == "packed":
            content = _compress(content, Path(name).suffix)
        elif how == "random":
            content = write_random(content, Path(name).suffix, _NAMES)
        (folder / f"{number}{name}").write_bytes(content)
    source = folder / f"0{name}" if len(members) == 1 else folder
    columns = _OPTIONS[option // 2 % len(_OPTIONS)] if ".txt" not in name else {}
    if option % 2:
        _check_corpus(open_documents(source), empty=True, again=len(data) < _MOST_AGAIN)
    else:
        _check_corpus(open_corpus(source, **columns), again=len(data) < _MOST_AGAIN)


def _check_corpus(corpus: Corpus, *, empty: bool = False, again: bool = True) -> None:
    documents = list(corpus)
    require(documents, "a corpus has a document")
    require(len({document.id for document in documents}) == len(documents), "ids are unique")
    for document in documents:
        _check_document(document, empty=empty)
    for note in corpus.notes:
        require(isinstance(note, str) and note, "a note is text", note)
        require(len(note) < 2000, "a note is short", note)
    digest = corpus.digest
    require(corpus.num_documents == len(documents), "documents are counted")
    if again:
        require(list(corpus) == documents and corpus.digest == digest, "a second pass gives the same documents")


def _check_document(document: Document, *, empty: bool) -> None:
    require(isinstance(document.text, str) and (empty or not document.is_blank), "a text is not blank", document.text)
    texts = {"id": document.id, **{f"name of a label {name!r}": name for name in document.labels}}
    texts |= {f"label {name!r}": label for name, label in document.labels.items()}
    for text in texts.values():
        require(isinstance(text, str), "ids and labels are text", text)
    for text in document.labels.values():
        require(text, "a label is not empty")
    turns = [text for message in document.messages for text in (message.role, message.content)]
    for text in (document.text, *turns, *texts.values()):
        require(_is_unicode(text), "all text is Unicode", text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mutate_corpus(data: bytes, rng: Random) -> bytes:
    name = _KINDS[data[0] % len(_KINDS)] if data else ""
    if "jsonl" in name and not name.startswith("a.jsonl."):
        return mutate_member(data, rng, mutate_json_line)
    if "a.json" in name and "jsonl" not in name:
        return mutate_member(data, rng, mutate_json)
    if "csv" in name or "tsv" in name:
        return mutate_member(data, rng, partial(mutate_cells, separator=b"\t" if "tsv" in name else b","))
    return mutate_member(data, rng, mutate_bytes)


def _conllu_seeds() -> Mapping[str, bytes]:
    content = _CONLLU.encode()
    return {
        "a treebank": join(0, 0, content),
        "packed": join(1, 0, content.replace(b"\n", b"\r\n")),
        "two files": join(0, 0, content, content),
    }


def _read_conllu(data: bytes, folder: Path) -> None:
    kind, _, members = split(data)
    paths = [folder / f"{number}.conllu{'.gz' * (kind % 2)}" for number in range(len(members[:3]))]
    for path, content in zip(paths, members, strict=False):
        path.write_bytes(gzip.compress(content, 1, mtime=0) if kind % 2 else content)
    _check_corpus(open_corpus(folder if len(paths) > 1 else paths[0]), again=len(data) < _MOST_AGAIN)
    for path in paths:
        for document in read_treebank(path, path.name):
            require(len(document.words) == len(document.spans), "every word has a span")
            end = 0
            for word, (first, last) in zip(document.words, document.spans, strict=True):
                require(end <= first <= last <= len(document.text), "words are in order in the text")
                require(document.text[first:last] == word.form, "a span holds its word", word.form)
                end = last


CORPUS = Target(
    "corpus",
    "documents in JSON Lines, JSON, CSV, TSV, text (also compressed), Parquet, Arrow and folders of them",
    _corpus_seeds,
    _read_corpus,
    _mutate_corpus,
    (
        b'"text"',
        b'"id"',
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"NaN",
        b"null",
        b'""',
        b"\x1f\x8b\x08",
    ),
)
CONLLU = Target(
    "conllu",
    "treebanks in CoNLL-U: running text, words and their places in it",
    _conllu_seeds,
    _read_conllu,
    lambda data, rng: mutate_member(data, rng, mutate_cells if rng.random() < 0.7 else mutate_bytes),
    (
        b"# newdoc",
        b"# newdoc id = ",
        b"# newpar",
        b"# text = ",
        b"SpaceAfter=No",
        b"1-2\t",
        b"1.1\t",
        b"\t_" * 9,
        b"\n\n",
    ),
)
