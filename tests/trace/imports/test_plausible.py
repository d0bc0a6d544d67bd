"""What no router writes is refused, or warned about where it may be true."""

import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from listening import Listener
from planted.dumps import NUM_EXPERTS, write_esft
from specialize.errors import TraceError
from specialize.trace.imports import import_trace
from specialize.trace.imports.source import natural_key


def refuse(tmp_path, message, kind, path, **options):
    with pytest.raises(TraceError, match=message) as caught:
        import_trace(kind, path, tmp_path / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([1, 1, 2], "a.npz: layers: expected every layer once, got 1 twice"),
        ([2**40, 0, 1], "a.npz: layers: expected numbers from 0 to 32767, got 1099511627776"),
        ([-1, 0, 1], "a.npz: layers: expected numbers from 0 to 32767, got -1"),
    ],
)
def test_layer_numbers(tmp_path, planted, layers, message):
    experts = np.concatenate(planted.experts)
    np.savez(tmp_path / "a.npz", experts=experts, layers=layers)
    refuse(tmp_path, message, "arrays", tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", experts)
    refuse(tmp_path, message.removeprefix("a.npz: "), "vllm", tmp_path / "b.npy", layers=layers)
    np.savez(tmp_path / "a.npz", experts=experts, layers=[32767, 0, 1])
    assert next(router.layer for router in import_trace("arrays", tmp_path / "a.npz", tmp_path / "run").layers) == 32767


def test_a_layer_written_twice(tmp_path, planted):
    folder = write_esft(tmp_path / "dump", planted)
    (folder / "expert_weights_009.txt").write_bytes((folder / "expert_weights_9.txt").read_bytes())
    refuse(tmp_path, r"one file for each layer, got expert_weights_\w+.txt and expert_weights_\w+.txt", "esft", folder)

    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    message = "expected each column once, got '{0}_0' and '{0}_00'; remove one"
    refuse(tmp_path, message.format("experts"), "arrays", write(experts_0=[[1, 2]], experts_00=[[2, 1]]))
    weights = {"weights_0": [[0.5]], "weights_00": [[0.5]]}
    refuse(tmp_path, message.format("weights"), "arrays", write(experts_0=[[1]], **weights))
    refuse(tmp_path, "expected columns document, ", "arrays", write(**{"experts_" + "9" * 5000: [[1]]}))
    trace = import_trace("arrays", write(experts_00=[[1, 0]], experts_07=[[0, 1]]), tmp_path / "padded")
    assert [router.layer for router in trace.layers] == [0, 7]
    assert trace.experts(7).tolist() == [[0, 1]]


@pytest.mark.parametrize("options", [{}, {"num_experts": 8}])
@pytest.mark.parametrize("top_k", [1, 2])
def test_captures_of_zeros(tmp_path, top_k, options):
    np.save(tmp_path / "a.npy", np.zeros((30, 2, top_k), np.int16))
    refuse(tmp_path, r"expert 0 (for every token in every layer; nothing was recorded|twice)", "vllm",
           tmp_path / "a.npy", **options)  # fmt: skip


def test_no_slot_with_an_expert(tmp_path):
    np.save(tmp_path / "a.npy", np.full((30, 2, 2), -1, np.int16))
    refuse(tmp_path, "found no slot with an expert", "vllm", tmp_path / "a.npy", num_experts=8)


def test_one_expert_is_a_model_that_someone_may_have(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3000, 2, 1), np.int16))
    listener = Listener()
    import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", num_experts=1, reporter=listener)
    assert listener.notes == []


def test_a_constant_choice_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.setattr("specialize.trace.imports.shards.BLOCK_TOKENS", 700)
    experts = np.random.default_rng(0).random((2000, 3, 8)).argsort(axis=2)[:, :, :2]
    experts[:, 1] = np.where(np.arange(2000)[:, None] % 2, [4, 3], [3, 4])
    experts[5, 1] = -1
    np.save(tmp_path / "a.npy", experts)
    listener = Listener()
    import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", num_experts=8, reporter=listener)
    assert listener.notes == [
        "warning: all 1,999 tokens have the same experts in 1 of 3 layers (1; in layer 1: 3, 4); a router rarely does "
        "so: is it a dense layer, or was nothing recorded?",
        "tokens without experts, which are -1 in all slots of a layer: 1 in layer 1",
    ]
    np.save(tmp_path / "a.npy", experts[:900])
    listener = Listener()
    import_trace("vllm", tmp_path / "a.npy", tmp_path / "few", num_experts=8, reporter=listener)
    assert len(listener.notes) == 1  # of the slots without experts


def test_a_table_of_ids_and_labels_keeps_its_labels(tmp_path, planted):
    table = tmp_path / "labels.csv"
    table.write_text("id,task\na,sums\nb,verse\nc,sums\n")
    (tmp_path / "v").mkdir()
    for name, experts in zip("cab", planted.experts, strict=True):
        np.save(tmp_path / "v" / f"{name}.npy", experts)
    listener = Listener()
    options = {"documents": table, "num_experts": NUM_EXPERTS, "reporter": listener}
    trace = import_trace("vllm", tmp_path / "v", tmp_path / "run", **options)
    documents = trace.documents()
    assert documents["task"].tolist() == ["sums", "verse", "sums"]
    assert documents["text"].isna().all()
    assert trace.manifest["corpus"]["labels"] == ["task"]
    assert listener.notes == [f"{table}: documents have no texts; texts are read from a column named text"]


def test_ids_that_no_file_can_hold(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"meta_info": {"id": "\\ud800", "routed_experts": "AAAAAAEAAAA="}}\n')
    options = {"num_layers": 1, "top_k": 2}
    message = "expected a document id of valid Unicode"
    refuse(tmp_path, message, "sglang", tmp_path / "a.jsonl", **options)
    (tmp_path / "a.jsonl").write_text('{"id": ' + "9" * 5000 + "}\n")
    refuse(tmp_path, "line 1: expected one JSON response", "sglang", tmp_path / "a.jsonl", **options)
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    refuse(tmp_path, "line 1: expected one JSON response", "sglang", tmp_path / "a.jsonl", **options)


def test_names_are_sorted_by_numbers_of_any_length():
    names = ["r10", "r9", "r²", "r09b", "r" + "8" * 5000, "x"]
    assert sorted(names, key=natural_key) == ["r9", "r09b", "r10", "r" + "8" * 5000, "r²", "x"]


def make_header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HUGE = make_header(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 8, 8), }\n")


@pytest.mark.parametrize(
    "content",
    [make_header(b"(" * 5119 + b"\n"), HUGE, make_header(b"\xff\n"), b"\x93NUMPY\x09\x00" + HUGE[8:], HUGE[:9], b"x"],
)
def test_headers_of_numpy(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    refuse(tmp_path, "a.npy: expected an intact .npy file of numbers, got .", "vllm", tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("experts.npy", content)
    refuse(tmp_path, "a.npz: expected an .npz of arrays of numbers, got .", "arrays", tmp_path / "a.npz")


def test_members_that_are_no_arrays(tmp_path, planted):
    np.savez(tmp_path / "a.npz", experts=np.concatenate(planted.experts))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("layers", b"0, 1, 2")
    refuse(tmp_path, "expected an .npz of arrays of numbers, got a member 'layers'", "arrays", tmp_path / "a.npz")


def test_document_names_that_are_not_unicode(tmp_path):
    names = pa.StringArray.from_buffers(1, pa.array([0, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff!"))
    pq.write_table(pa.table({"document": names, "experts_0": [[1, 2]]}), tmp_path / "a.parquet")
    refuse(tmp_path, "expected a whole Parquet file, got .*UTF", "arrays", tmp_path / "a.parquet")


def test_durations_are_no_expert_ids(tmp_path, planted):
    experts = np.concatenate(planted.experts).astype("m8[s]")
    np.save(tmp_path / "a.npy", experts)
    refuse(tmp_path, r"expected integers \[tokens, layers, k\], got timedelta64\[s\]", "vllm", tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", experts=experts)
    refuse(tmp_path, r"expected experts as integers .*, got timedelta64\[s\]", "arrays", tmp_path / "a.npz")


@pytest.mark.parametrize("before", [0, 1])
def test_two_objects_in_a_line(tmp_path, before):
    line = '{"input_ids": [1], "predicted_token_ids": [1], "exp_ids": [[[0], [1]]]}'
    (tmp_path / "a.jsonl").write_text((line + "\n") * before + line + line + "\n")
    message = f"line {before + 1}: expected one JSON object .*, got something else \\(2 objects\\)"
    refuse(tmp_path, message, "olmoe", tmp_path / "a.jsonl")


def test_ids_beyond_signed_integers(tmp_path):
    experts = np.array([[[2**63 + 1, 2]]] * 3, np.uint64)
    np.save(tmp_path / "a.npy", experts)
    refuse(tmp_path, "expected ids of experts below 32767, got 9223372036854775809", "vllm", tmp_path / "a.npy")
    message = r"token 0, layer 0: expected an expert id from 0 to 7, got 9223372036854775809"
    refuse(tmp_path, message, "vllm", tmp_path / "a.npy", num_experts=8)
