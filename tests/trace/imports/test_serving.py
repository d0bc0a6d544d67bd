"""Responses of inference servers: each layout of the same routing gives the same trace; spoiled ones are refused."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from listening import Listener
from planted.served import flat64, npy64, sglang_generate, sglang_openai, vllm_base64, vllm_lists, write_lines
from specialize.errors import TraceError
from specialize.trace.imports import import_trace

MAKE_CASES = Path(__file__).parents[4] / "shared" / "cases" / "make_cases.py"
LAYERS, TOP_K, NUM_EXPERTS = 4, 2, 8
SHAPE = {"num_layers": LAYERS, "top_k": TOP_K}
PROMPTS = {"r1": [5, 9, 11, 70, 5], "r2": [3, 4]}
OUTPUTS = {"r1": [7, 8, 9], "r2": [6]}


def draw(tokens, seed=0):
    return np.random.default_rng(seed).random((tokens, LAYERS, NUM_EXPERTS)).argsort(axis=2)[:, :, :TOP_K]


EXPERTS = {"r1": draw(7), "r2": draw(2, 1)}


def respond(layout, **how):
    return [layout(name, PROMPTS[name], OUTPUTS[name], EXPERTS[name], **how) for name in PROMPTS]


def experts_of(trace):
    return np.stack([trace.experts(router.layer) for router in trace.layers], axis=1)


VLLM = {
    "lists": respond(vllm_lists),
    "int32": respond(vllm_base64),
    "int16": respond(vllm_base64, dtype=np.int16),
    "uint8": respond(vllm_base64, dtype=np.uint8),
    "several a line": [respond(vllm_lists)],
    "ids in the choices": [
        {"id": line["id"], "choices": [{**line["choices"][0], "prompt_token_ids": line["prompt_token_ids"]}]}
        for line in respond(vllm_base64)
    ],
    "a batch": [
        {"id": "batch", "custom_id": line["id"], "response": {"status_code": 200, "body": {**line, "id": "other"}}}
        for line in respond(vllm_base64)
    ],
    "generate": [
        {"request_id": line["id"], "prompt_token_ids": line["prompt_token_ids"], "choices": line["choices"]}
        for line in respond(vllm_base64)
    ],
}
SGLANG = {
    "generate": respond(sglang_generate),
    "openai": respond(sglang_openai),
    "lists": [
        {**line, "meta_info": {**line["meta_info"], "routed_experts": EXPERTS[line["meta_info"]["id"]].tolist()}}
        for line in respond(sglang_generate)
    ],
}


@pytest.mark.parametrize("layout", VLLM)
def test_vllm(tmp_path, layout):
    listener = Listener()
    path = write_lines(tmp_path / "a.jsonl", VLLM[layout])
    trace = import_trace("vllm", path, tmp_path / "run", num_experts=NUM_EXPERTS, reporter=listener)
    np.testing.assert_array_equal(experts_of(trace), np.concatenate(list(EXPERTS.values())))
    tokens = trace.tokens()
    assert tokens["token_id"].tolist() == [*PROMPTS["r1"], 7, 8, *PROMPTS["r2"]]
    assert tokens["position"].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert tokens["phase"].cat.codes.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert trace.documents()["id"].tolist() == ["r1", "r2"]
    assert trace.documents()["text"].isna().all()
    assert listener.notes == []


@pytest.mark.parametrize("layout", SGLANG)
def test_sglang(tmp_path, layout):
    path = write_lines(tmp_path / "a.jsonl", SGLANG[layout])
    shape = {} if layout == "lists" else SHAPE
    trace = import_trace("sglang", path, tmp_path / "run", num_experts=NUM_EXPERTS, **shape)
    np.testing.assert_array_equal(experts_of(trace), np.concatenate(list(EXPERTS.values())))
    tokens = trace.tokens()
    assert tokens["phase"].cat.codes.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]
    generated = [7, 8] if layout != "openai" else [-1, -1]
    assert tokens["token_id"].tolist() == [-1] * 5 + generated + [-1, -1]  # the prompt's are not returned
    assert trace.documents()["id"].tolist() == ["r1", "r2"]


def test_ids_of_the_prompt_that_sglang_returns(tmp_path):
    response = sglang_generate("r1", PROMPTS["r1"], OUTPUTS["r1"], EXPERTS["r1"])
    path = write_lines(tmp_path / "a.jsonl", [{**response, "input_ids": PROMPTS["r1"]}])
    trace = import_trace("sglang", path, tmp_path / "run", **SHAPE)
    assert trace.tokens()["token_id"].tolist() == [*PROMPTS["r1"], 7, 8]


@pytest.mark.parametrize("field", ["input_ids", "prompt"])
def test_ids_of_the_prompt_that_the_request_has(tmp_path, field):
    lines = [
        {"request": {field: PROMPTS[line["meta_info"]["id"]]}, "response": line} for line in respond(sglang_generate)
    ]
    trace = import_trace("sglang", write_lines(tmp_path / "a.jsonl", lines), tmp_path / "run", **SHAPE)
    assert trace.tokens()["token_id"].tolist() == [*PROMPTS["r1"], 7, 8, *PROMPTS["r2"]]
    lines[1]["request"][field] = [1, 2, 3]
    write_lines(tmp_path / "a.jsonl", lines)
    with pytest.raises(TraceError, match="line 2: expected the ids of the 2 tokens of the prompt, got 3"):
        import_trace("sglang", tmp_path / "a.jsonl", tmp_path / "none", **SHAPE)


def test_ids_of_the_prompt_among_log_probabilities(tmp_path):
    lines = respond(sglang_generate)
    for line in lines:
        ids = PROMPTS[line["meta_info"]["id"]]
        line["meta_info"]["input_token_logprobs"] = [
            [None if not n else -0.5, each, None] for n, each in enumerate(ids)
        ]
    del lines[1]["meta_info"]["input_token_logprobs"][0]  # from the second token on: which it is, is not said
    trace = import_trace("sglang", write_lines(tmp_path / "a.jsonl", lines), tmp_path / "run", **SHAPE)
    assert trace.tokens()["token_id"].tolist() == [*PROMPTS["r1"], 7, 8, -1, -1]


def test_a_start_beyond_any_sequence_takes_no_memory(tmp_path):
    response = sglang_generate("r", PROMPTS["r1"], [7, 8, 9], draw(7))
    response["meta_info"] = {"id": "r", "routed_experts": flat64(draw(7)), "routed_experts_start_len": 2**31 - 9}
    trace = import_trace("sglang", write_lines(tmp_path / "a.jsonl", [response]), tmp_path / "run", **SHAPE)
    assert trace.tokens()["position"].tolist()[-1] == 2**31 - 3
    assert (trace.tokens()["token_id"] == -1).all()


def test_findings_of_several_inputs(tmp_path):
    lost = vllm_base64("lost", [1, 2], [3, 4], draw(3))
    lost["choices"][0]["routed_experts"] = None
    paths = {name: write_lines(tmp_path / f"{name}.jsonl", [*respond(vllm_base64), lost]) for name in ("a", "b")}
    listener = Listener()
    trace = import_trace("vllm", paths, tmp_path / "run", num_experts=8, reporter=listener)
    note = "warning: requests without routing, which vLLM preempted: 1; they are left out"
    assert listener.notes == [f"a: {note}", f"b: {note}"]
    assert trace.manifest["found_in_inputs"] == {"a": {"lost_requests": 1}, "b": {"lost_requests": 1}}
    assert trace.num_documents == 4


def test_choices_share_the_prompt(tmp_path):
    first, second = draw(7), np.concatenate([draw(5), draw(3, 2)])
    response = vllm_lists("r", PROMPTS["r1"], OUTPUTS["r1"], first)
    response["choices"].append({"index": 1, "token_ids": [1, 2, 3, 4], "routed_experts": second[5:].tolist()})
    trace = import_trace("vllm", write_lines(tmp_path / "a.jsonl", [response]), tmp_path / "run")
    assert trace.documents()["id"].tolist() == ["r:0", "r:1"]
    np.testing.assert_array_equal(experts_of(trace), np.concatenate([first, second]))
    assert trace.tokens()["token_id"].tolist() == [*PROMPTS["r1"], 7, 8, *PROMPTS["r1"], 1, 2, 3]


def test_routing_without_the_prefix(tmp_path):
    lists = vllm_lists("a", PROMPTS["r1"], [7, 8, 9], draw(7))
    lists |= {"prompt_routed_experts": lists["prompt_routed_experts"][3:], "routed_experts_prompt_start": 3}
    packed = vllm_base64("b", PROMPTS["r1"], [7, 8, 9], draw(7)[3:])
    packed["choices"][0]["routed_experts_prompt_start"] = 3
    none = vllm_lists("c", PROMPTS["r1"], [7, 8, 9], draw(7))
    none |= {"prompt_routed_experts": [], "routed_experts_prompt_start": 5}
    path = write_lines(tmp_path / "a.jsonl", [lists, packed, none])
    trace = import_trace("vllm", path, tmp_path / "run")
    tokens = trace.tokens()
    assert tokens["position"].tolist() == [3, 4, 5, 6, 3, 4, 5, 6, 5, 6]
    assert tokens["token_id"].tolist() == [70, 5, 7, 8, 70, 5, 7, 8, 7, 8]
    assert tokens["phase"].cat.codes.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(experts_of(trace), np.concatenate([draw(7)[3:], draw(7)[3:], draw(7)[5:]]))
    response = sglang_generate("a", PROMPTS["r1"], [7, 8, 9], draw(7)[4:])
    response["meta_info"]["routed_experts_start_len"] = 4
    trace = import_trace("sglang", write_lines(tmp_path / "b.jsonl", [response]), tmp_path / "sglang", **SHAPE)
    assert trace.tokens()["position"].tolist() == [4, 5, 6]
    assert trace.tokens()["phase"].cat.codes.tolist() == [0, 1, 1]


def test_a_cached_prefix_has_no_experts(tmp_path):
    cached = draw(7)
    cached[:4] = -1
    listener = Listener()
    path = write_lines(tmp_path / "a.jsonl", [vllm_base64("r", PROMPTS["r1"], [7, 8, 9], cached, dtype=np.int16)])
    trace = import_trace("vllm", path, tmp_path / "run", num_experts=8, reporter=listener)
    np.testing.assert_array_equal(experts_of(trace), cached)
    each = ", ".join(f"4 in layer {layer}" for layer in range(4))
    assert listener.notes == [f"tokens without experts, which are -1 in all slots of a layer: {each}"]


def test_requests_that_were_preempted_are_left_out_and_counted(tmp_path):
    lost, half = (vllm_lists(name, [1, 2], [3, 4], draw(3)) for name in "ab")
    lost["prompt_routed_experts"] = half["prompt_routed_experts"] = lost["choices"][0]["routed_experts"] = None
    one = vllm_lists("c", [1, 2], [3], draw(2))
    one["choices"][0]["routed_experts"] = None  # of its one generated token, which has none
    listener = Listener()
    path = write_lines(tmp_path / "a.jsonl", [lost, half, one])
    trace = import_trace("vllm", path, tmp_path / "run", num_experts=8, reporter=listener)
    assert trace.documents()["id"].tolist() == ["c"]
    assert listener.notes == ["warning: requests without routing, which vLLM preempted: 2; they are left out"]
    assert trace.manifest["lost_requests"] == 2
    path = write_lines(tmp_path / "a.jsonl", [lost])
    with pytest.raises(TraceError, match=r"routing of at least one token, got none \(warning: requests without.*: 1"):
        import_trace("vllm", path, tmp_path / "none", num_experts=8)


def test_a_response_that_does_not_count_its_tokens(tmp_path):
    response = sglang_openai("r", PROMPTS["r1"], [7, 8, 9], draw(7))
    del response["usage"]
    listener = Listener()
    path = write_lines(tmp_path / "a.jsonl", [response])
    trace = import_trace("sglang", path, tmp_path / "run", num_experts=8, reporter=listener, **SHAPE)
    assert (trace.tokens()["phase"] == "prefill").all()
    assert listener.notes[0].startswith("responses that do not say how long the prompt is: 1; all their tokens count")


def write_config(folder, **more):
    folder.mkdir()
    config = {"num_hidden_layers": 5, "n_routed_experts": 8, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
    (folder / "config.json").write_text(json.dumps(config | more))
    return folder


def test_dense_layers_as_zeros_by_the_configuration(tmp_path):
    whole = np.concatenate([np.zeros((7, 1, TOP_K), int), draw(7)], axis=1)
    model = write_config(tmp_path / "model")
    path = write_lines(tmp_path / "a.jsonl", [vllm_base64("r", PROMPTS["r1"], [7, 8, 9], whole)])
    listener = Listener()
    trace = import_trace("vllm", path, tmp_path / "run", model=model, reporter=listener)
    assert [router.layer for router in trace.layers] == [1, 2, 3, 4]
    np.testing.assert_array_equal(experts_of(trace), draw(7))
    assert listener.notes == [f"the input has all 5 layers of {model}; the dense ones are left out: 0"]
    with pytest.raises(
        TraceError, match=r"layer 0: expected 2 different experts, got expert 0 twice; if this is a dense"
    ):
        import_trace("vllm", path, tmp_path / "none")
    response = sglang_generate("r", PROMPTS["r1"], [7, 8, 9], whole)
    trace = import_trace("sglang", write_lines(tmp_path / "b.jsonl", [response]), tmp_path / "sglang", model=model)
    np.testing.assert_array_equal(experts_of(trace), draw(7))


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("format_name", ["vllm", "tensorrt-llm"])
def test_arrays_with_token_ids_beside(tmp_path, kind, extra, format_name):
    folder = tmp_path / "dump"
    folder.mkdir()
    ids = np.arange(10, 17 + extra)
    if kind == "npy":
        np.save(folder / "r1.npy", draw(7))
        np.save(folder / "r1.token_ids.npy", ids)
        np.save(folder / "r2.npy", draw(2))
    else:
        save_file({"r1": draw(7), "r1.token_ids": ids, "r2": draw(2)}, folder / "all.safetensors")
    trace = import_trace(format_name, folder, tmp_path / "run")
    assert trace.tokens()["token_id"].tolist() == [*range(10, 17), -1, -1]
    assert trace.documents()["id"].tolist() == ["r1", "r2"]


def test_tensorrt_llm_has_the_moe_layers_alone(tmp_path):
    model = write_config(tmp_path / "model")
    np.save(tmp_path / "a.npy", draw(7))
    trace = import_trace("tensorrt-llm", tmp_path / "a.npy", tmp_path / "run", model=model)
    assert [router.layer for router in trace.layers] == [1, 2, 3, 4]
    np.save(tmp_path / "b.npy", draw(7)[:, [0, 0, 1, 2, 3]])
    with pytest.raises(TraceError, match=r"b.npy: expected the 4 MoE layers of .*model, without dense ones, got 5"):
        import_trace("tensorrt-llm", tmp_path / "b.npy", tmp_path / "none", model=model)


def test_a_profiling_batch_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.setattr("specialize.trace.imports.shards.BLOCK_TOKENS", 700)
    experts = draw(4000)
    experts[1500:2900] = experts[1500]
    experts[100:1500] = -1  # not recorded, and no run
    np.save(tmp_path / "a.npy", experts)
    listener = Listener()
    import_trace("vllm", tmp_path / "a.npy", tmp_path / "run", num_experts=8, reporter=listener)
    assert listener.notes[0] == (
        "warning: 1,400 tokens in a row, from token 1,500 of the input on, have the same experts in all layers; "
        "routers rarely do so: were they a profiling batch, or padding?"
    )
    np.save(tmp_path / "a.npy", np.delete(experts, slice(2000, 2401), axis=0))
    listener = Listener()
    import_trace("vllm", tmp_path / "a.npy", tmp_path / "few", num_experts=8, reporter=listener)
    assert len(listener.notes) == 1  # of the tokens without experts


def spoil(change, layout=vllm_base64):
    response = layout("r", PROMPTS["r1"], [7, 8, 9], draw(7))
    change(response, response.get("choices", [{}])[0])
    return response


def set_experts(value):
    return spoil(lambda _, choice: choice.update(routed_experts=value))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (spoil(lambda whole, _: whole.pop("choices")), "line 1: expected a response with choices that have routed_exp"),
        (spoil(lambda _, choice: choice.pop("routed_experts")), "found none; start vLLM with --enable-return-routed"),
        (sglang_generate("r", [1], [2], draw(1)), "found none; .*; the format sglang reads those of SGLang"),
        (
            set_experts(npy64(draw(6))),
            r"tokens 0 to 6, all but the last of 5 tokens .* and 3 generated ones, got 6 rows",
        ),
        (set_experts(npy64(draw(8))), "and 3 generated ones, got 8 rows"),
        (set_experts(npy64(draw(7)[:, 0])), r"expected routed experts as integers .*, got int64 \[7, 2\]"),
        (set_experts(npy64(draw(7) * 1.0)), r"got float64 \[7, 4, 2\]"),
        (set_experts(npy64(draw(7))[:400]), "line 1: expected routed experts in base64 of an array as numpy.save"),
        (set_experts(npy64(draw(7)) + "*"), "expected routed experts in base64, got .*; the response is truncated"),
        (set_experts(flat64(draw(7))), "line 1: expected routed experts in base64 of an array as numpy.save writes it"),
        (set_experts(7), "line 1: expected routed experts in base64, got int"),
        (set_experts([[[0, 1], [2]]]), r"line 1: expected routed experts as lists \[tokens, layers, k\] of integers"),
        (set_experts([[["a", "b"]]]), "line 1: expected routed experts as integers"),
        (spoil(lambda whole, _: whole.update(prompt_token_ids=[1, -2])), "prompt_token_ids as a list of token ids"),
        (spoil(lambda whole, _: whole.update(prompt_token_ids="ab")), "prompt_token_ids as a list of token ids"),
        (spoil(lambda _, choice: choice.update(token_ids=[1.5])), "expected token_ids as a list of token ids"),
        (spoil(lambda whole, _: whole.update(routed_experts_prompt_start=-1)), "prompt_start of 0 or more tokens"),
        (
            spoil(lambda whole, _: whole["prompt_routed_experts"].pop(), vllm_lists),
            "expected prompt_routed_experts of the 5 tokens of the prompt, got 4",
        ),
        (
            spoil(lambda whole, _: whole.update(prompt_routed_experts=draw(5)[:, :3].tolist()), vllm_lists),
            r"the same layers and k for prompt and generated tokens, got \[5, 3, 2\] and \[2, 4, 2\]",
        ),
        (set_experts(npy64(draw(7) + 8)), r"token 0, layer 0: expected an expert id from 0 to 7, got \d+"),
        (set_experts(npy64(np.zeros((7, 4, 1), np.int16))), "got expert 0 for every token in every layer"),
        ([[]], "line 1: expected a response with choices"),
    ],
)
def test_spoiled_responses_of_vllm(tmp_path, response, message):
    write_lines(tmp_path / "a.jsonl", [response])
    with pytest.raises(TraceError, match=message) as caught:
        import_trace("vllm", tmp_path / "a.jsonl", tmp_path / "run", num_experts=NUM_EXPERTS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_object_in_base64_is_not_unpickled(tmp_path):
    array = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "bomb.npy", array, allow_pickle=True)
    payload = base64.b64encode((tmp_path / "bomb.npy").read_bytes()).decode()
    write_lines(tmp_path / "a.jsonl", [set_experts(payload)])
    with pytest.raises(TraceError, match="got Python objects, which are not unpickled"):
        import_trace("vllm", tmp_path / "a.jsonl", tmp_path / "run")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_a_header_that_declares_more_than_there_is(tmp_path):
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 8, 8), }\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    write_lines(tmp_path / "a.jsonl", [set_experts(base64.b64encode(content).decode())])
    with pytest.raises(TraceError, match="declares int64"):
        import_trace("vllm", tmp_path / "a.jsonl", tmp_path / "run")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({}, "line 1: the responses do not state the shape of their routed experts; set top_k and num_layers"),
        (
            {"num_layers": 2, "top_k": 2},
            "3 generated ones, got 14 rows; the response is incomplete, or the number of l",
        ),
        ({"num_layers": 3, "top_k": 2}, "expected int32 of 3 layers with k = 2"),
    ],
)
def test_a_wrong_shape_of_sglang(tmp_path, shape, message):
    write_lines(tmp_path / "a.jsonl", respond(sglang_generate)[:1])
    with pytest.raises(TraceError, match=message):
        import_trace("sglang", tmp_path / "a.jsonl", tmp_path / "run", **shape)


def test_arrays_and_responses_are_not_mixed(tmp_path):
    folder = tmp_path / "dump"
    folder.mkdir()
    write_lines(folder / "a.jsonl", VLLM["int32"])
    np.save(folder / "a.npy", draw(7))
    with pytest.raises(TraceError, match="expected arrays or responses, got both; import them separately"):
        import_trace("vllm", folder, tmp_path / "run")


CASES = {
    "vllm-0.21-lists": ("vllm", {}, slice(0, 11)),
    "vllm-base64": ("vllm", {}, slice(0, 11)),
    "vllm-base64-uint8": ("vllm", {}, slice(0, 9)),
    "vllm-prefix-cached": ("vllm", {}, slice(0, 11)),
    "vllm-all-zero": ("vllm", {}, None),
    "sglang-generate": ("sglang", SHAPE, slice(0, 11)),
    "sglang-openai": ("sglang", SHAPE, slice(0, 11)),
    "sglang-lists": ("sglang", {}, slice(0, 11)),
    "sglang-start-len": ("sglang", SHAPE, slice(4, 11)),
}


@pytest.mark.skipif(not MAKE_CASES.is_file(), reason="the collection of small inputs is not here")
def test_the_collection_of_small_inputs(tmp_path, call):
    made = "import runpy, pathlib, sys; runpy.run_path(sys.argv[1])['serving'](pathlib.Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", made, str(MAKE_CASES), str(tmp_path)], check=True)
    rng = np.random.default_rng(0)
    rng.integers(5, 90, 9)
    full = np.stack([[rng.permutation(8)[:2] for _ in range(4)] for _ in range(11)])
    for name, (format_name, options, rows) in CASES.items():
        path, run = tmp_path / f"{name}.jsonl", tmp_path / name
        if rows is None:
            code, _, err = call("import", format_name, path, "-o", run)
            assert (code, err.count("specialize:"), run.exists()) == (2, 1, False)
            continue
        expected = full[rows].copy()
        if "cached" in name:
            expected[:4] = -1
        np.testing.assert_array_equal(experts_of(import_trace(format_name, path, run, **options)), expected)
