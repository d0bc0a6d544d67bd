"""Corpora and traces at addresses: killed, divided into parts, and read again."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import specialize
from remote.buckets import digests
from specialize.corpus import open_corpus
from specialize.errors import CorpusError, StoreError
from specialize.remote.store import Store
from tiny_olmoe import save_olmoe, train_unigram

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, corpus) -> Path:
    texts = [json.loads(line)["text"] for line in corpus.splitlines()]
    return save_olmoe(tmp_path_factory.mktemp("checkpoints") / "tiny", train_unigram(texts))


@pytest.fixture
def address(bucket, corpus) -> str:
    """A corpus of two files, one of them compressed, beside what is none."""
    lines = corpus.splitlines()
    bucket.write("data/a.jsonl.gz", gzip.compress(b"\n".join(lines[:40])))
    bucket.write("data/more/b.jsonl", b"\n".join(lines[40:]))
    bucket.write("data/.hidden.jsonl", b"{")
    bucket.write("data/notes.md", b"none")
    return f"{bucket.address}/data"


def test_a_corpus_at_an_address_is_the_local_one(address, bucket, fresh, tmp_path, monkeypatch):
    (tmp_path / "data/more").mkdir(parents=True)
    (tmp_path / "data/a.jsonl.gz").write_bytes(bucket.read("data/a.jsonl.gz"))
    (tmp_path / "data/more/b.jsonl").write_bytes(bucket.read("data/more/b.jsonl"))
    got: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda *given, **how: got.append(given[1].path) or get(*given, **how))
    local = open_corpus(tmp_path / "data")
    expected = list(local)
    first = open_corpus(address, limit=3)
    assert [each.id for each in first] == [each.id for each in expected[:3]]
    assert got == ["bucket/data/a.jsonl.gz"]  # the others were not read
    for source in (address, f"{address}/**/*.jsonl*", [f"{address}/more/b.jsonl", f"{address}/a.jsonl.gz"]):
        stored = open_corpus(source)
        assert list(stored) == expected
        assert stored.digest == local.digest
    assert got == ["bucket/data/a.jsonl.gz", "bucket/data/more/b.jsonl"]
    single = open_corpus(f"{address}/more/b.jsonl")
    assert list(single) == list(open_corpus(tmp_path / "data/more/b.jsonl"))
    assert single.source == f"{address}/more/b.jsonl"
    bucket.write("data/more/b.jsonl", b'{"text": "another", "kind": "1"}')
    assert [each.text for each in open_corpus(f"{address}/more/b.jsonl")] == ["another"]
    assert [each.text for each in single] == ["another"]
    assert [each.text for each in open_corpus(f"{address}/*/*")] == ["another"]
    fresh()
    for source in (f"{address}/more/b.jsonl", f"{address}/more", address):  # each inside the next
        assert "another" in [each.text for each in open_corpus(source)]
    bucket.write("data/more/b.jsonl", b'{"text": "a third", "kind": "1"}')
    assert list(open_corpus(address))[-1].text == "a third"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://bucket/none.jsonl", "s3://bucket/none.jsonl: expected a file or folder, found none at this address"),
        ("s3://bucket/data/*.csv", r"s3://bucket/data/\*.csv: expected files that match and end in"),
        ("s3://bucket/data/notes.md", "s3://bucket/data/notes.md: expected a file ending in"),
        ("s3://key:hidden-word@bucket/a.jsonl", "s3://…@bucket: expected an address without credentials"),
        (["s3://bucket/data", Path("here.txt")], "corpus: expected paths or addresses, got both"),
        ("https://host/a.jsonl?token=hidden-word", "https://host/…: expected an address without a query"),
    ],
)
def test_what_is_no_corpus_is_one_clear_error(address, source, message):
    with pytest.raises((CorpusError, StoreError), match=f"^{message}") as error:
        open_corpus(source)
    assert "hidden-word" not in str(error.value)


def test_a_list_of_texts_may_hold_links():
    assert [each.text for each in open_corpus(["https://example.org/a.txt", "a text"])] == [
        "https://example.org/a.txt",
        "a text",
    ]


def test_parts_at_addresses_are_merged_to_the_bytes_of_local_ones(address, bucket, checkpoint, tmp_path, one_thread):
    how = {"context": 16, "batch_tokens": 128}
    said: list[str] = []

    class Listener(specialize.events.SilentReporter):
        def say(self, message):
            said.append(message)

    for root in (f"{bucket.address}/", f"{tmp_path}/"):
        for number in (1, 2):
            specialize.trace_corpus(
                str(checkpoint), address, f"{root}x", shard=f"{number}/2", reporter=Listener(), **how
            )
        merged = specialize.merge([f"{root}x.part-{number}-of-2" for number in (2, 1)], f"{root}merged")
        assert merged.num_documents == 90
    assert any(f"specialize merge {bucket.address}/x.part-*-of-2 -o {bucket.address}/x" in line for line in said)
    pattern = specialize.merge([f"{bucket.address}/x.part-*-of-2"], f"{bucket.address}/x")
    assert pattern.digest == merged.digest
    for run in ("x.part-1-of-2", "x.part-2-of-2", "merged"):
        assert bucket.files(run) == digests(tmp_path / run)
    replayed = specialize.trace_corpus(str(checkpoint), f"{bucket.address}/x", f"{bucket.address}/again", **how)
    assert replayed.manifest["corpus"]["source"] == f"{bucket.address}/x"
    assert (replayed.experts(0) == merged.experts(0)).all()


def test_the_command_line_traces_extends_and_repairs_at_an_address(address, bucket, checkpoint, call, fresh):
    command = ("trace", checkpoint, f"{address}/more/b.jsonl", "-o", f"{bucket.address}/x", "--context", 16)
    code, out, err = call(*command, "--limit", 30)
    assert code == 0, err
    assert out.splitlines()[-1] == f"{bucket.address}/x"
    fresh()
    code, out, err = call(*command)
    assert code == 0, err
    assert f"{bucket.address}/x: extending the trace from 30 to 50 documents" in err
    whole = bucket.files("x")
    manifest = json.loads(bucket.read("x/manifest.json"))
    assert "hidden-word" not in json.dumps(manifest)
    assert manifest["corpus"]["source"] == f"{address}/more/b.jsonl"
    bucket.write("x/trace/tokens-00000.arrow", b"damaged")
    bucket.client.delete_object(Bucket="bucket", Key="x/trace/routing-00001.arrow")
    fresh()
    code, out, err = call(*command, "--repair")
    assert code == 0, err
    assert bucket.files("x") == whole


def test_two_traces_of_one_address_at_once_are_noticed(address, bucket, checkpoint, monkeypatch, one_thread):
    put, others = Store.put, [b"{}"]

    def after_another(self, path, place, **how):
        if others:
            bucket.write("x/manifest.json", others.pop())
        return put(self, path, place, **how)

    monkeypatch.setattr(Store, "put", after_another)
    with pytest.raises(StoreError, match=f"^{bucket.address}/x/manifest.json: another process has stored it"):
        specialize.trace_corpus(str(checkpoint), address, f"{bucket.address}/x", context=16)
    assert bucket.read("x/manifest.json") == b"{}"
    monkeypatch.setattr(Store, "put", put)
    bucket.client.delete_object(Bucket="bucket", Key="x/manifest.json")

    def after_two_files(self, path, place, **how):
        stored = put(self, path, place, **how)
        if place.path.endswith("documents.arrow"):
            bucket.write("x/manifest.json", b"{}")
        return stored

    monkeypatch.setattr(Store, "put", after_two_files)
    with pytest.raises(StoreError, match=f"^{bucket.address}/x: another process has changed manifest.json"):
        specialize.trace_corpus(str(checkpoint), address, f"{bucket.address}/x", context=16)
    assert bucket.files("x").keys() == {"manifest.json", "trace/documents.arrow"}


@pytest.mark.slow
def test_killed_at_any_moment_it_is_resumed_elsewhere_to_the_same_bytes(bucket, environment, tmp_path):
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = os.environ | environment | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_at_address.py"), str(tmp_path), bucket.address, "4"]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    *done, summary = map(json.loads, answer.stdout.splitlines())
    assert summary["files"] > 10
    assert [(each["killed"], each["identical"]) for each in done] == [(True, True)] * 8
    left = [each["left"] for each in done if each["work"] == "trace"]
    assert len({*left}) > 2  # killed in very different states
    assert left == sorted(left)  # the later, the more is stored
