"""Files are compared with their checksums when they are first read, and their values with what can be."""

import os
import shutil

import numpy as np
import pyarrow as pa
import pytest

import specialize
from planted.manifests import edit_manifest
from specialize.errors import TraceError
from specialize.trace import NO_EXPERT, RouterSpec, Shard, TraceWriter, validate_trace, verified
from specialize.trace.files import write_arrow, xxh3_of
from specialize.trace.schema import TOKEN_SCHEMA

ROUTERS = (RouterSpec(0, "layers.0", 6, 2), RouterSpec(1, "layers.1", 300, 1))
TEXTS = ["some text", "Grüße", None]


def make_shard(document, start, end, phase=None, experts=None):
    tokens = len(document)
    zeros = np.zeros(tokens, np.int64)
    columns = {field.name: zeros for field in TOKEN_SCHEMA} | {"document": document, "char_start": start}
    columns |= {"char_end": end, "phase": zeros if phase is None else phase}
    routing = [np.arange(2 * tokens).reshape(-1, 2) % 6, np.full((tokens, 1), 299)]
    if experts:
        routing[experts[0]] = np.full_like(routing[experts[0]], experts[1])
    return Shard({name: np.asarray(values) for name, values in columns.items()}, [{"experts": e} for e in routing])


def write(run, *shards):
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text")])
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch([["a", "b", "c"], TEXTS], schema=schema)])
        writer.describe(routers=[router.as_dict() for router in ROUTERS], contents=[])
        for shard in shards:
            writer.write_shard(shard)
        writer.finish()
    return run


GOOD = [make_shard([0, 0, 0], [0, 4, -1], [4, 9, -1]), make_shard([0, 1, 2], [9, 0, 0], [9, 5, 99])]


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / "run", *GOOD)


def read_all(run):
    trace = specialize.open_trace(run)
    trace.tokens(["document"])
    trace.documents()
    for router in trace.layers:
        trace.experts(router.layer)


def test_a_good_trace_is_read(run):
    read_all(run)
    assert all(check.problem is None for check in validate_trace(run))


@pytest.mark.parametrize("name", ["documents.arrow", "tokens-00001.arrow", "routing-00001.arrow"])
def test_no_flipped_bit_is_read(tmp_path, run, name):
    good = (run / "trace" / name).read_bytes()
    rng = np.random.default_rng(len(name))
    for place in rng.integers(0, 8 * len(good), 25):
        copy = tmp_path / "copy"
        shutil.copytree(run, copy, dirs_exist_ok=True)
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << int(place) % 8
        (copy / "trace" / name).write_bytes(flipped)
        with pytest.raises(TraceError, match=f"{name}: damaged: its checksum differs from the manifest's; .*--repair"):
            read_all(copy)


def test_a_file_that_is_missing_or_none(tmp_path, run):
    path = run / "trace/routing-00000.arrow"
    os.rename(path, tmp_path / "away")
    with pytest.raises(TraceError, match=r"routing-00000\.arrow: expected a file of the trace, found none"):
        read_all(run)
    path.mkdir()
    with pytest.raises(TraceError, match=r"routing-00000\.arrow: expected a file of the trace, got something else"):
        read_all(run)
    path.rmdir()
    path.symlink_to(tmp_path / "away")  # the same bytes, wherever they lie
    read_all(run)


def test_a_file_is_compared_once_and_again_when_it_changed(run, monkeypatch):
    compared = []
    monkeypatch.setattr(verified, "xxh3_of", lambda path: compared.append(path.name) or xxh3_of(path))
    read_all(run)
    assert sorted(compared) == sorted(path.name for path in (run / "trace").glob("*.arrow"))
    compared.clear()
    read_all(run)
    assert compared == []
    path = run / "trace/tokens-00000.arrow"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(TraceError, match="damaged"):
        specialize.open_trace(run).tokens()
    data[100] ^= 1
    path.write_bytes(data)
    read_all(run)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        (make_shard([0, 3], [0, 0], [1, 1]), "expected numbers of documents from 0 to 2, got 3 at token 4"),
        (make_shard([-1], [0], [1]), "expected numbers of documents from 0 to 2, got -1 at token 3"),
        (make_shard([1, 0], [0, 0], [1, 1]), "expected tokens in the order of their documents, got 0 at token 4"),
        (make_shard([1], [0], [6]), "expected character positions inside the text, got 0 to 6 at token 3"),
        (make_shard([1], [3], [2]), "expected character positions inside the text, got 3 to 2 at token 3"),
        (make_shard([1], [-7], [2]), "expected character positions inside the text, got -7 to 2 at token 3"),
        (make_shard([1], [0], [1], [2]), "expected phases below 2, got 2 at token 3"),
        (make_shard([1], [0], [1], experts=(0, 6)), r"layers\.0 \(layer 0\): expected ids .* 0 to 5, got 6 at token 3"),
        (make_shard([1], [0], [1], experts=(1, 300)), r"layers\.1 .* 0 to 299, got 300 at token 3"),
        (make_shard([1], [0], [1], experts=(1, 40_000)), r"layers\.1 .* 0 to 299, got -25536 at token 3"),
    ],
)
def test_values_out_of_range(tmp_path, shard, message):
    run = write(tmp_path / "run", GOOD[0], shard)
    with pytest.raises(TraceError, match=message):
        read_all(run)
    assert any(check.problem and "expected" in check.problem for check in validate_trace(run))
    with pytest.raises(TraceError, match="expected"):
        specialize.export(run, tmp_path / "parquet")
    assert not (tmp_path / "parquet").exists()


def test_empty_slots_are_none(tmp_path):
    run = write(
        tmp_path / "run", make_shard([0], [0], [1], experts=(0, -1)), make_shard([0], [0], [1], experts=(1, -1))
    )
    trace = specialize.open_trace(run)
    assert trace.experts(0).tolist() == [[NO_EXPERT] * 2, [0, 1]]
    assert trace.experts(1).tolist() == [[299], [NO_EXPERT]]
    stored = [[each.tolist() for each in trace.shard_experts(number, trace.layers[::-1])] for number in range(2)]
    # not packed: the largest value of one byte, and of two
    assert stored == [[[[299]], [[255, 255]]], [[[65535]], [[0, 1]]]]


def replace(run, name, table):
    checksum = write_arrow(run / "trace" / name, table.schema, table.to_batches())
    quick = xxh3_of(run / "trace" / name)

    def edit(manifest):
        if name == "documents.arrow":
            return manifest | {"documents": manifest["documents"] | {"sha256": checksum, "xxh3": quick}}
        first, *others = manifest["shards"]
        changed = {"files": first["files"] | {name: checksum}, "xxh3": first["xxh3"] | {name: quick}}
        return manifest | {"shards": [first | changed, *others]}

    edit_manifest(run, edit)


SHORT = pa.array([[1, 2]] * 2, pa.list_(pa.uint8(), 2))


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("documents.arrow", {"id": ["a"], "text": ["b"]}, "expected 3 documents, got 1"),
        ("documents.arrow", {"id": [1, 2, 3], "text": ["b"] * 3}, r"expected columns of text.*id \(int64\)"),
        ("documents.arrow", {"id": ["a"] * 3}, r"among them id and text, got id \(string\)"),
        ("tokens-00000.arrow", {"document": ["x"] * 3}, "expected the columns of a trace, got document of type str"),
        ("tokens-00000.arrow", {"document": pa.array([0] * 3, pa.int32())}, "got char_start of type None"),
        ("routing-00000.arrow", {"experts.0": [[1, 2]] * 3}, r"got experts\.0 of type list<"),
        ("routing-00000.arrow", {"experts.0": SHORT}, "expected 3 rows, got 2"),
    ],
)
def test_files_of_another_shape(run, name, columns, message):
    replace(run, name, pa.table(columns))
    with pytest.raises(TraceError, match=message):
        read_all(run)
    assert any(check.problem for check in validate_trace(run))
