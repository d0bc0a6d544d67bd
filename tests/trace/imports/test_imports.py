"""What is imported is what the other tool wrote, by format; every way of writing the same routing gives one trace."""

import base64
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

import specialize.trace.imports.shards as shards_module
from listening import Listener
from planted.dumps import LAYERS, LENGTHS, NUM_EXPERTS, TOP_K, Planted, write_esft
from specialize.errors import CorpusError, OutputError, TraceError
from specialize.trace import NO_EXPERT, open_trace, validate_trace
from specialize.trace.imports import FORMATS, import_trace


def check(trace, planted: Planted, *, layers=range(LAYERS), weights=False) -> None:
    assert all(each.problem is None for each in validate_trace(trace.path))
    assert [router.layer for router in trace.layers] == list(layers)
    assert {(router.num_experts, router.top_k) for router in trace.layers} == {(NUM_EXPERTS, TOP_K)}
    for index, layer in enumerate(layers):
        np.testing.assert_array_equal(trace.experts(layer), np.concatenate(planted.experts)[:, index])
        if weights:
            expected = np.concatenate(planted.weights)[:, index].astype(np.float16)
            np.testing.assert_array_equal(trace.weights(layer), expected.astype(np.float32))
    assert trace.contents[:1] == (("weights",) if weights else trace.contents[:1])
    tokens = trace.tokens()
    np.testing.assert_array_equal(tokens["document"], planted.document)
    np.testing.assert_array_equal(tokens["position"], np.concatenate([np.arange(n) for n in LENGTHS]))
    assert trace.num_documents == len(LENGTHS)


def test_esft(tmp_path, planted):
    listener = Listener()
    folder = write_esft(tmp_path / "dump", planted)
    trace = import_trace("esft", folder, tmp_path / "run", reporter=listener)
    check(trace, planted, layers=(9, 10, 11), weights=True)
    assert [note.split(",")[0] for note in listener.notes] == [f"k = {TOP_K}", f"{NUM_EXPERTS} experts"]
    assert {step[:2] for step in listener.steps} == {("importing", "MB")}
    assert [step.done <= step.total == 1 for step in listener.steps] == [True] * 6  # three samples, read twice
    assert (trace.manifest["top_k_inferred"], trace.manifest["num_experts_inferred"]) == (True, True)
    assert (trace.tokens()[["token_id", "char_start", "char_end"]] == -1).all(axis=None)
    assert trace.documents()["text"].isna().all()
    some = import_trace("esft", folder, tmp_path / "some", layers=(11, 9), num_experts=NUM_EXPERTS)
    assert "num_experts_inferred" not in some.manifest
    np.testing.assert_array_equal(some.experts(9), trace.experts(9))
    assert [router.layer for router in some.layers] == [11, 9]


def olmoe_lines(planted: Planted) -> list[dict]:
    return [
        {
            "input_ids": list(range(len(experts))),
            "predicted_token_ids": [7] * len(experts),
            "exp_ids": experts.transpose(0, 2, 1).tolist(),
        }
        for experts in planted.experts
    ]


@pytest.mark.parametrize("at_once", [1, 2**23])
def test_olmoe(tmp_path, planted, monkeypatch, at_once):
    monkeypatch.setattr("specialize.trace.imports.olmoe._BYTES_AT_ONCE", at_once)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in olmoe_lines(planted)))
    trace = import_trace("olmoe", path, tmp_path / "run")
    check(trace, planted)
    assert trace.contents == ("predictions",)
    tokens = trace.tokens()
    np.testing.assert_array_equal(tokens["token_id"], tokens["position"])
    assert (tokens["predicted_token_id"] == 7).all()
    assert tokens["next_token_loss"].isna().all()
    with pytest.raises(TraceError, match="expected gate weights of the chosen experts; the trace holds predictions"):
        trace.weights(0)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.int64])
def test_vllm_arrays(tmp_path, planted, dtype):
    folder = tmp_path / "requests"
    folder.mkdir()
    for number, experts in zip((2, 10, 11), planted.experts, strict=True):
        np.save(folder / f"request-{number}.npy", experts.astype(dtype))
    trace = import_trace("vllm", folder, tmp_path / "run")
    check(trace, planted)
    assert trace.contents == ()
    assert trace.documents()["id"].tolist() == ["request-2", "request-10", "request-11"]


def test_vllm_safetensors_and_slots_that_were_not_recorded(tmp_path, planted):
    planted.experts[1][0, 1] = NO_EXPERT
    arrays = {str(n): each.astype(np.int16) for n, each in zip((9, 10, 100), planted.experts, strict=True)}
    save_file(arrays, tmp_path / "all.safetensors")
    trace = import_trace("vllm", tmp_path / "all.safetensors", tmp_path / "run")
    check(trace, planted)
    assert trace.documents()["id"].tolist() == ["9", "10", "100"]
    assert (trace.experts(1)[LENGTHS[0]] == NO_EXPERT).all()


def test_the_sentinel_of_unsigned_arrays(tmp_path, planted):
    experts = np.concatenate(planted.experts).astype(np.uint16)
    experts[4, 2, 1] = 0xFFFF
    np.save(tmp_path / "a.npy", experts)
    assert import_trace("vllm", tmp_path / "a.npy", tmp_path / "run").experts(2)[4, 1] == NO_EXPERT


def test_dense_layers_are_noticed_and_can_be_left_out(tmp_path, planted):
    experts = np.concatenate(planted.experts)
    whole = np.concatenate([np.zeros_like(experts[:, :1]), experts], axis=1)
    np.save(tmp_path / "a.npy", whole)
    with pytest.raises(
        TraceError, match=r"token 0, layer 0: expected 2 different experts, got expert 0 twice.*`layers`"
    ):
        import_trace("vllm", tmp_path / "a.npy", tmp_path / "run")
    trace = import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", layers=(1, 2, 3))
    np.testing.assert_array_equal(trace.experts(3), experts[:, 2])


def encode(experts: np.ndarray) -> str:
    return base64.b64encode(experts.astype("<i4").tobytes()).decode()


def test_sglang(tmp_path, planted):
    first, second, third = (encode(each) for each in planted.experts)
    path = tmp_path / "responses.jsonl"
    choices = [{"sgl_ext": {"routed_experts": each}} for each in (second, third)]
    lines = [{"text": "x", "meta_info": {"id": "one", "routed_experts": first}}, {"id": "two", "choices": choices}]
    path.write_text("\n".join(map(json.dumps, lines)))
    trace = import_trace("sglang", path, tmp_path / "run", num_layers=LAYERS, top_k=TOP_K)
    check(trace, planted)
    assert trace.documents()["id"].tolist() == ["one", "two:0", "two:1"]


def test_sglang_without_the_experts_of_a_prefix(tmp_path, planted, monkeypatch):
    monkeypatch.setattr("specialize.trace.imports.serving.BLOCK_TOKENS", 2)
    starts = [0, 7, None]
    lines = [
        {"meta_info": {"routed_experts": encode(each), "routed_experts_start_len": start}}
        for each, start in zip(planted.experts, starts, strict=True)
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    trace = import_trace("sglang", path, tmp_path / "run", num_layers=LAYERS, top_k=TOP_K)
    expected = np.concatenate([(start or 0) + np.arange(n) for start, n in zip(starts, LENGTHS, strict=True)])
    np.testing.assert_array_equal(trace.tokens()["position"], expected)
    np.testing.assert_array_equal(trace.experts(1), np.concatenate(planted.experts)[:, 1])


def array_layout(planted: Planted) -> dict[str, np.ndarray]:
    tokens = len(planted.document)
    return {
        "experts": np.concatenate(planted.experts),
        "weights": np.concatenate(planted.weights),
        "document": planted.document,
        "token_id": np.arange(tokens),
        "char_start": np.arange(tokens) % 3,
        "char_end": np.arange(tokens) % 3 + 1,
        "layers": np.array([4, 6, 8]),
        "num_experts": np.array(NUM_EXPERTS),
    }


def write_arrays(tmp_path, layout, kind):
    if kind == "npz":
        np.savez(tmp_path / "a.npz", **layout)
        return tmp_path / "a.npz"
    if kind == "folder":
        (tmp_path / "a").mkdir()
        for name, array in layout.items():
            np.save(tmp_path / "a" / f"{name}.npy", array)
        return tmp_path / "a"
    columns = {name: layout[name] for name in ("document", "token_id", "char_start", "char_end")}
    for index, layer in enumerate(layout["layers"]):
        for name, absent in (("experts", layout["experts"][:, index] < 0), ("weights", None)):
            values = pa.array(layout[name][:, index].ravel(), mask=None if absent is None else absent.ravel())
            columns[f"{name}_{layer}"] = pa.FixedSizeListArray.from_arrays(values, TOP_K).cast(pa.list_(values.type))
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("kind", ["npz", "folder", "parquet"])
def test_arrays(tmp_path, planted, kind, monkeypatch):
    for module in ("arrays", "shards"):  # so that blocks and shards cut across documents
        monkeypatch.setattr(f"specialize.trace.imports.{module}.BLOCK_TOKENS", 3 if module == "arrays" else 4)
    monkeypatch.setattr("specialize.trace.imports.arrays._PARQUET_ROWS", 3)
    planted.experts[2][1, 1, 1] = NO_EXPERT
    path = write_arrays(tmp_path, array_layout(planted), kind)
    trace = import_trace("arrays", path, tmp_path / "run", num_experts=NUM_EXPERTS)
    planted.weights[2][1, 1, 1] = 0
    check(trace, planted, layers=(4, 6, 8), weights=True)
    assert [shard["tokens"] for shard in trace.manifest["shards"]] == [4, 4, 2]
    np.testing.assert_array_equal(trace.tokens()["char_end"], np.arange(10) % 3 + 1)


def test_documents_by_row_and_by_id(tmp_path, planted):
    rows = [{"id": name, "text": f"text of {name}", "kind": name.upper()} for name in ("a", "b", "c", "d")]
    table = tmp_path / "documents.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    layout = array_layout(planted)
    layout["document"] = np.array([3, 0, 1])[planted.document]
    np.savez(tmp_path / "a.npz", **layout)
    listener = Listener()
    trace = import_trace("arrays", tmp_path / "a.npz", tmp_path / "run", documents=table, reporter=listener)
    assert trace.documents().to_dict("list") == {
        "id": ["d", "a", "b"],
        "text": ["text of d", "text of a", "text of b"],
        "kind": ["D", "A", "B"],
    }
    assert trace.manifest["corpus"]["labels"] == ["kind"]
    assert listener.notes == [f"1 documents of {table} have no tokens and are left out"]
    assert trace.manifest["notes"] == listener.notes  # for who reads the run later
    (tmp_path / "v").mkdir()
    for name, experts in zip("cab", planted.experts, strict=True):
        np.save(tmp_path / "v" / f"{name}.npy", experts)
    trace = import_trace("vllm", tmp_path / "v", tmp_path / "by-id", documents=str(table))
    assert trace.documents()["text"].tolist() == ["text of a", "text of b", "text of c"]
    np.testing.assert_array_equal(trace.experts(0)[: LENGTHS[1]], planted.experts[1][:, 0])


def test_documents_that_do_not_fit(tmp_path, planted):
    table = tmp_path / "d.jsonl"
    table.write_text('{"text": "one"}\n{"text": "two"}\n')
    np.savez(tmp_path / "a.npz", **array_layout(planted))
    with pytest.raises(TraceError, match=r"document 2 is not among the 2 rows of .*d\.jsonl"):
        import_trace("arrays", tmp_path / "a.npz", tmp_path / "run", documents=table)
    table.write_text('{"text": "one"}\n{"text": " "}\n{"text": "two"}\n')
    with pytest.raises(CorpusError, match="1 are empty"):
        import_trace("arrays", tmp_path / "a.npz", tmp_path / "run", documents=table)
    assert not (tmp_path / "run").exists()


def test_shards_are_as_long_as_they_are_said_to_be(tmp_path):
    tokens = shards_module.BLOCK_TOKENS + 5
    experts = np.arange(tokens, dtype=np.int32).reshape(-1, 1, 1) % 300
    np.save(tmp_path / "a.npy", experts)
    trace = import_trace("vllm", tmp_path / "a.npy", tmp_path / "run")
    assert [shard["tokens"] for shard in trace.manifest["shards"]] == [shards_module.BLOCK_TOKENS, 5]
    np.testing.assert_array_equal(trace.experts(0)[:, 0], np.arange(tokens) % 300)
    np.testing.assert_array_equal(trace.tokens()["position"], np.arange(tokens))


def cut_line(folder, planted):
    write_esft(folder, planted)
    path = folder / "expert_weights_10.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].split("\t\t")[0], lines[2]]))


def drop_weight(folder, planted):
    write_esft(folder, planted)
    path = folder / "expert_weights_10.txt"
    path.write_text(path.read_text()[:-4].rsplit("\t", 1)[0])


def drop_line(folder, planted):
    write_esft(folder, planted)
    path = folder / "expert_weights_11.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))


def spell(folder, planted):
    write_esft(folder, planted)
    path = folder / "expert_weights_9.txt"
    path.write_text(path.read_text().replace("6\t0", "six\t0", 1))


def not_a_number(folder, planted):
    planted.weights[2][3, 1, 0] = np.nan
    write_esft(folder, planted)


def large_id(folder, planted):
    planted.experts[2][1, 2, 1] = 99
    write_esft(folder, planted)


def twice(folder, planted):
    planted.experts[2][1, 2] = (3, 3)
    write_esft(folder, planted)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut_line, r"weights_10\.txt, line 2: expected expert ids, two tabs and gate weights, got 1"),
        (drop_weight, r"weights_10\.txt, line 3: expected a gate weight for each expert id, got 8 ids, 7 weights"),
        (drop_line, r"weights_11\.txt, line 3: expected expert ids, two tabs"),
        (spell, r"weights_9\.txt, line 1: expected integers separated by tabs"),
        (not_a_number, r"line 3, token 3, layer 10: expected a finite gate weight within half precision, got nan"),
        (large_id, r"line 3, token 1, layer 11: expected an expert id from 0 to 6, got 99"),
        (twice, r"line 3, token 1, layer 11: expected 2 different experts, got expert 3 twice"),
        (lambda folder, _: folder.mkdir(), r"expected a folder with ESFT dumps"),
        (lambda folder, _: None, r"found no such file or folder"),
    ],
)
def test_a_harmed_dump_is_one_line_and_leaves_nothing(tmp_path, planted, harm, message):
    harm(tmp_path / "dump", planted)
    with pytest.raises(TraceError, match=message) as caught:
        import_trace("esft", tmp_path / "dump", tmp_path / "run", num_experts=NUM_EXPERTS, top_k=TOP_K)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "dump"] == []


GOOD = {"input_ids": [1, 2], "predicted_token_ids": [1, 2], "exp_ids": [[[0, 1], [1, 0]]] * 2}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (json.dumps(GOOD)[:-9], r"line 2: expected one JSON object"),
        ({**GOOD, "input_ids": [1]}, r"line 2: expected input_ids for the 2 tokens of exp_ids, got 1"),
        ({**GOOD, "input_ids": [1, None]}, r"expected integers in input_ids, got null"),
        ({**GOOD, "exp_ids": [[[0, 1], [1, 0]], [[0, 1]]]}, r"line 2, token 1: expected exp_ids .* number of k"),
        ({**GOOD, "exp_ids": [[[0, 1], [1, 0]], [[0, 1], [1]]]}, r"line 2, token 1: .* number of layers"),
        ({**GOOD, "exp_ids": [[[0, 1.5], [1, 0]]] * 2}, r"line 2: expected one JSON object"),
        ({"input_ids": [1, 2]}, r"line 2: expected exp_ids, found none"),
        ({**GOOD, "exp_ids": [[[0, 1], [-1, 0]]] * 2}, r"line 2, token 0, layer 0: expected an expert id .* got -1"),
    ],
)
def test_bad_lines_of_olmoe(tmp_path, bad, message):
    line = bad if isinstance(bad, str) else json.dumps(bad)
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(TraceError, match=message):
        import_trace("olmoe", tmp_path / "a.jsonl", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_arrays(tmp_path, planted):
    def refuse(message, *, name="a.npz", kind="arrays", options=None, **layout):
        path = tmp_path / name
        if layout:
            np.savez(path, **layout)
        with pytest.raises(TraceError, match=message) as caught:
            import_trace(kind, path, tmp_path / "run", **(options or {}))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    experts = np.concatenate(planted.experts)
    refuse("expected an array called experts", weights=experts.astype(float))
    refuse(r"got 'expert'\. Did you mean 'experts'", expert=experts)
    refuse(
        r"expected weights as floats \[10, 3, 2\], got float64 \[9, 3, 2\]", experts=experts, weights=experts[1:] * 1.0
    )
    refuse(r"expected experts as integers", experts=experts * 1.0)
    refuse(r"shape \[tokens, layers, k\], got \[10, 3\]", experts=experts[:, :, 0])
    refuse("Object arrays cannot be loaded", experts=np.array([{}], dtype=object))
    refuse("document 0 occurs a second time", experts=experts, document=np.arange(10) % 2)
    refuse("token_id within 32 bits", experts=experts, token_id=np.full(10, 2**40))
    refuse("at least one token, got none", experts=experts[:0])
    refuse("1 to 1, the number of experts, got 3 layers with k = 2", experts=experts, options={"num_experts": 1})
    refuse(r"a\.npz: expected ids of experts below 32767, got 4", experts=experts + 40000)
    refuse(r"layers among 0 to 2 \(3 of them\), got 5", experts=experts, options={"layers": (5,)})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    refuse("expected an .npz of arrays", name="cut.npz")
    (tmp_path / "empty.npy").write_bytes(b"")
    refuse("got an empty file", name="empty.npy", kind="vllm")
    (tmp_path / "b.npy").write_bytes(b"not an array")
    refuse("expected an intact .npy file", name="b.npy", kind="vllm")
    np.save(tmp_path / "c.npy", experts * 1.0)
    refuse(r"expected integers \[tokens, layers, k\], got float64 \[10, 3, 2\]", name="c.npy", kind="vllm")
    (tmp_path / "d.safetensors").write_bytes(b"12345678901")
    refuse("expected arrays of integers in safetensors", name="d.safetensors", kind="vllm")
    (tmp_path / "e.txt").write_text("x")
    refuse("got a file of another kind", name="e.txt", kind="vllm")
    (tmp_path / "requests").mkdir()
    np.save(tmp_path / "requests/1.npy", experts)
    np.save(tmp_path / "requests/2.npy", experts[:, :2])
    refuse(r"2\.npy, token 0: expected 3 layers with k = 2 .* got 2 layers", name="requests", kind="vllm")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"meta_info": {}}', "line 1: expected a response with meta_info.routed_experts"),
        ('{"meta_info": {"routed_experts": "AAAA"}}', r"line 1: expected int32 of 3 layers with k = 2 .* got 3 bytes"),
        ('{"meta_info": {"routed_experts": "A*"}}', "line 1: expected routed experts in base64"),
        ('{"meta_info": {"routed_experts": [[[0, 1]]]}}', "line 1: expected num_layers = 3, as given, got .* with 1"),
        ('{"meta_info": {"routed_experts": [[[0, 1], [1]]]}}', r"line 1: expected routed experts as lists \[tokens, l"),
        ('{"choices": [{"sgl_ext": {"routed_experts": 7}}]}', "line 1: expected routed experts in base64, got int"),
        (
            json.dumps({"meta_info": {"routed_experts": "A" * 32, "routed_experts_start_len": -1}}),
            "line 1: expected routed_experts_start_len of 0 or more tokens, got -1",
        ),
        ('{"step": 0, "layer": 1, "top_indices": [[1, 2]]}', "line 1: expected a response with meta_info.routed_exp"),
        ('{"meta_info"', "line 1: expected one JSON response"),
        ('"text"', "line 1: expected a response"),
    ],
)
def test_bad_responses_of_sglang(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(TraceError, match=message):
        import_trace("sglang", tmp_path / "a.jsonl", tmp_path / "run", num_layers=3, top_k=2)


def test_what_is_refused_before_it_is_opened(tmp_path, planted):
    (tmp_path / "recorded.pt").write_bytes(b"PK")
    with pytest.raises(TraceError, match="torch files are pickles, and reading one runs the code"):
        import_trace("sglang", tmp_path / "recorded.pt", tmp_path / "run")
    (tmp_path / "a.jsonl").write_text('{"meta_info": {"routed_experts": "AAAAAAEAAAA="}}')
    with pytest.raises(TraceError, match=r"line 1: .* set top_k and num_layers"):
        import_trace("sglang", tmp_path / "a.jsonl", tmp_path / "run")
    with pytest.raises(TraceError, match=r"got 'ollmoe'\. Did you mean 'olmoe'"):
        import_trace("ollmoe", tmp_path, tmp_path / "run")
    np.save(tmp_path / "a.npy", planted.experts[0])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/precious").write_text("x")
    with pytest.raises(OutputError, match="expected a new or empty folder"):
        import_trace("vllm", tmp_path / "a.npy", tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["precious"]


def test_a_parquet_file_of_another_make(tmp_path):
    def refuse(message, **columns):
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(TraceError, match=message):
            import_trace("arrays", tmp_path / "a.parquet", tmp_path / "run")

    refuse(r"got 'tokenid'\. Did you mean 'token_id'", tokenid=[1])
    refuse("expected columns experts_LAYER", token_id=[1])
    refuse("lists of equal length k, got lengths 1 to 2", experts_0=[[1], [1, 2]])
    refuse("expected lists of integers, got list<.*double>", experts_0=[[1.5]])
    refuse("for all layers or none", experts_0=[[1]], experts_1=[[1]], weights_0=[[0.5]])
    refuse("the same length k in all layers, got 1 and, in layer 1, 2", experts_0=[[1]], experts_1=[[1, 2]])
    unsigned = pa.array([[1, 2]], pa.list_(pa.uint64()))
    refuse("one type of integers in all layers, got int64, uint64", experts_0=unsigned, experts_1=[[1, 2]])
    refuse("column token_id: expected an integer for each token", experts_0=[[1]], token_id=["x"])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TraceError, match="expected a Parquet file"):
        import_trace("arrays", tmp_path / "a.parquet", tmp_path / "run")


def test_every_format_says_what_it_is():
    assert list(FORMATS) == [
        *("esft", "olmoe", "vllm", "sglang", "tensorrt-llm", "route-trace", "megatron", "usage", "arrays")
    ]
    assert all(each.what for each in FORMATS.values())


def test_documents_named_by_text_in_parquet(tmp_path):
    columns = {"document": ["x", "x", "y"], "experts_2": [[0, 1], [1, None], [2, 0]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["y", "x"], "text": ["Y", "X"]}), tmp_path / "documents.parquet")
    import_trace("arrays", tmp_path / "a.parquet", tmp_path / "run")
    trace = open_trace(tmp_path / "run")
    assert trace.documents()["text"].tolist() == ["X", "Y"]
    np.testing.assert_array_equal(trace.experts(2), [[0, 1], [1, NO_EXPERT], [2, 0]])
