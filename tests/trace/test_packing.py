"""Ids of experts are read as they were written, packed or not, and counted alike."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import specialize
from planted.stored import store_trace
from specialize.annotation import Annotation
from specialize.errors import TraceError
from specialize.measure import count_contingency_tables
from specialize.trace import RouterSpec, Shard, TraceWriter
from specialize.trace.files import write_arrow, xxh3_of
from specialize.trace.packing import PackedExperts, pack_experts, stored_experts, unpacked_experts
from specialize.trace.schema import TOKEN_SCHEMA, packed_bytes


def column_of(packed: pa.Array) -> pa.ChunkedArray:
    return pa.chunked_array([packed])


@pytest.mark.parametrize(
    ("num_experts", "top_k", "size"),
    [
        (2, 2, 1), (4, 4, 1), (8, 2, 1), (16, 16, 8), (60, 4, 3), (64, 8, 6), (64, 10, 8), (128, 8, 7), (256, 8, 8),
        (300, 4, 5), (512, 7, 8), (2**14, 4, 7),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tokens", [0, 1, 2, 9, 1000])
def test_what_is_packed(num_experts, top_k, size, tokens):
    router = RouterSpec(0, "experts", num_experts, top_k)
    experts = np.random.default_rng(0).integers(0, num_experts, (tokens, top_k)).astype(np.int16)
    experts[-1:] = num_experts - 1
    packed = pack_experts(experts, router)
    assert packed.type == pa.binary(size)
    assert packed.type == pa.binary(packed_bytes(router))
    for start in (0, tokens // 3):  # a part of a column begins elsewhere in its memory
        column = column_of(packed[start:])
        np.testing.assert_array_equal(unpacked_experts(column, router), experts[start:])
        stored = stored_experts(column, router)
        assert stored.always_valid == (num_experts.bit_count() == 1)
        cut = np.empty((len(stored[1:3]), top_k), np.int16)
        stored[1:3].unpack_to(cut)
        np.testing.assert_array_equal(cut, experts[start:][1:3])
    bits = max(1, (num_experts - 1).bit_length())
    integers = [sum(int(each) << slot * bits for slot, each in enumerate(row)) for row in experts]
    assert packed.to_pylist() == [each.to_bytes(size, "little") for each in integers]


@pytest.mark.parametrize(
    ("num_experts", "top_k"),
    [(64, 1), (255, 8), (512, 8)],  # not shorter; more than 64 bits
)
def test_what_packing_does_not_shorten_or_one_integer_cannot_hold(num_experts, top_k):
    router = RouterSpec(0, "experts", num_experts, top_k)
    assert packed_bytes(router) is None
    assert pack_experts(np.zeros((3, top_k), np.int16), router) is None


@pytest.mark.parametrize("expert", [-1, 6, 7, 300])
def test_an_id_that_is_no_expert_is_not_packed(expert):
    """It would change the ids beside it."""
    assert pack_experts(np.array([[0, 1], [expert, 2]], np.int16), RouterSpec(0, "experts", 6, 2)) is None


EXPERTS, SLOTS = {0: 8, 1: 6, 2: 64}, {0: 3, 1: 3, 2: 8}  # by layer
DOCUMENTS, LENGTH = 7, 11
TOKENS = DOCUMENTS * LENGTH


def write(run: Path, routing: dict[int, np.ndarray], sizes: list[int] | None = None) -> Path:
    store_trace(run, np.repeat(np.arange(DOCUMENTS), LENGTH), routing, num_experts=EXPERTS, sizes=sizes)
    return run


@pytest.fixture
def routing() -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    return {layer: rng.random((TOKENS, each)).argsort(axis=1)[:, : SLOTS[layer]] for layer, each in EXPERTS.items()}


def test_packed_experts_are_counted_as_listed_ones(tmp_path, routing, monkeypatch):
    sizes, codes = [20, 1, 56], np.random.default_rng(2).integers(-1, 4, TOKENS).astype(np.int32)
    annotation = Annotation("kind", "token", tuple("abcd"), codes)
    packed = specialize.open_trace(write(tmp_path / "packed", routing, sizes))
    monkeypatch.setattr("specialize.trace.writer.pack_experts", lambda experts, router: None)
    listed = specialize.open_trace(write(tmp_path / "listed", routing, sizes))
    kinds = [[type(each) for each in trace.shard_experts(0, trace.layers)] for trace in (packed, listed)]
    assert kinds == [[PackedExperts, np.ndarray, PackedExperts], [np.ndarray] * 3]
    tables = [count_contingency_tables(trace, annotation, num_blocks=3) for trace in (packed, listed)]
    for router in packed.layers:
        experts = routing[router.layer]
        np.testing.assert_array_equal(packed.experts(router.layer), experts)
        np.testing.assert_array_equal(*(each[router.name] for each in tables))
        expected = np.zeros((4, router.num_experts))
        for label, chosen in zip(codes, experts, strict=True):
            if label >= 0:
                expected[label, chosen] += 1 / router.top_k
        np.testing.assert_allclose(tables[0][router.name].sum(axis=0), expected)
    folders = [specialize.export(trace.path, tmp_path / f"{trace.path.name}.out") for trace in (packed, listed)]
    first, second = (pa.parquet.read_table(Path(folder) / "routing.parquet") for folder in folders)
    assert first.equals(second)


@pytest.mark.parametrize("slots", [2, 4])
def test_slots_that_the_router_does_not_have_are_refused(tmp_path, routing, slots):
    """Packed, a fourth expert of three would be lost."""
    run = write(tmp_path / "run", routing)
    rows = np.zeros(5, np.int64)
    wrong = [{"experts": each[:5]} for each in routing.values()]
    wrong[0] = {"experts": np.zeros((5, slots), np.int64)}
    columns = dict.fromkeys(TOKEN_SCHEMA.names, rows)
    with (
        TraceWriter(run, settings={}, provenance={}) as writer,
        pytest.raises(TraceError, match=rf"experts\.0: expected an array \[5, 3\], got one of shape \(5, {slots}\)"),
    ):
        writer.write_shard(Shard(columns, wrong))


@pytest.mark.parametrize("change", [{"num_experts": 16}, {"top_k": 4}])
def test_experts_that_are_packed_for_another_router_are_refused(tmp_path, routing, change):
    """Three ids of three bits take as many bytes as three of four bits, or as four of three."""
    run = write(tmp_path / "run", routing)
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["digest"]  # as earlier versions wrote it
    manifest["routers"][0] |= change
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TraceError, match=r"got experts\.0 of type fixed_size_binary\[2\] \(bits 3, slots 3\)"):
        specialize.open_trace(run).experts(0)


def test_packed_ids_that_are_no_expert_are_refused(tmp_path, routing):
    """E = 6 leaves two values of three bits without an expert."""
    run = write(tmp_path / "run", routing)
    path = run / "trace" / "routing-00000.arrow"
    table = next(specialize.open_trace(run).shards("routing"))
    wrong = pa.array([(7 << 3).to_bytes(2, "little")] * table.num_rows, pa.binary(2))
    changed = table.set_column(1, table.schema.field("experts.1"), wrong)
    checksum = write_arrow(path, changed.schema, changed.to_batches())
    with TraceWriter(run, settings={}, provenance={}) as writer:
        [shard] = writer.manifest["shards"]
        names = {"files": checksum, "xxh3": xxh3_of(path)}
        writer.describe(shards=[shard | {kind: shard[kind] | {path.name: value} for kind, value in names.items()}])
    trace = specialize.open_trace(run)
    message = r"layers\.1 \(layer 1\): expected ids of experts from 0 to 5, got 7"
    for read in (lambda: trace.experts(1), lambda: trace.shard_experts(0, trace.layers)):
        with pytest.raises(TraceError, match=message):
            read()
    with pytest.raises(TraceError, match=message):
        specialize.export(run, tmp_path / "out")
