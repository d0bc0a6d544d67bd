"""A run whose checksums are right is still not trusted: what it holds is refused where it cannot be."""

import json
import struct

import numpy as np
import pyarrow as pa
import pytest

from specialize.errors import TraceError
from specialize.manifest import digest_of, sha256_of
from specialize.trace import open_trace, validate_trace
from specialize.trace.export import export_parquet
from specialize.trace.files import xxh3_of
from specialize.trace.imports import import_trace


@pytest.fixture
def forged(tmp_path):
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "One two."}\n{"id": "b", "text": "Three four."}\n')
    np.savez(tmp_path / "a.npz", experts=np.arange(8).reshape(2, 2, 2), document=[0, 1])
    import_trace("arrays", tmp_path / "a.npz", tmp_path / "run", documents=tmp_path / "documents.jsonl")
    path = tmp_path / "run/trace/documents.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    with pa.ipc.new_file(path, table.schema) as writer:  # not compressed
        writer.write_table(table)
    offsets = struct.pack("<3q", 0, 8, 19)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, struct.pack("<3q", 0, 2**40, 2**40 + 9)))
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    del manifest["digest"]
    manifest["documents"] |= {"sha256": sha256_of(path), "xxh3": xxh3_of(path)}
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest | {"digest": digest_of(manifest)}))
    return tmp_path / "run"


def test_offsets_outside_the_file_are_refused(forged):
    trace = open_trace(forged)
    for read in (trace.documents, trace.tokens):
        with pytest.raises(TraceError, match=r"documents\.arrow: expected a whole Arrow file, got .*[Oo]ffset"):
            read()
    assert any("offset" in str(check.problem) for check in validate_trace(forged))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gate_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = np.full((3, 2, 2), 0.5)
    np.savez(tmp_path / "a.npz", experts=np.arange(12).reshape(3, 2, 2), weights=weights, document=[0, 0, 1])
    import_trace("arrays", tmp_path / "a.npz", tmp_path / "run")
    [path] = (tmp_path / "run/trace").glob("routing-*.arrow")
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    place = table.schema.get_field_index("weights.1")
    spoiled = np.full((3, 2), 0.5, np.float16)
    spoiled[1, 1] = value
    column = pa.FixedSizeListArray.from_arrays(pa.array(spoiled.ravel()), 2)
    table = table.set_column(place, table.schema.field(place), column.cast(table.schema.field(place).type))
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    del manifest["digest"]
    manifest["shards"][0]["files"][path.name] = sha256_of(path)
    manifest["shards"][0]["xxh3"][path.name] = xxh3_of(path)
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest | {"digest": digest_of(manifest)}))

    expected = rf"layer 1.*expected finite gate weights, got \[0\.5, {value}\] at token 1"
    trace = open_trace(tmp_path / "run")
    assert (trace.weights(0) == 0.5).all()
    with pytest.raises(TraceError, match=expected):
        trace.weights(1)
    with pytest.raises(TraceError, match=expected):
        export_parquet(trace, tmp_path / "out")
    [check] = [check for check in validate_trace(tmp_path / "run") if check.problem]
    assert "finite gate weights" in str(check.problem)
