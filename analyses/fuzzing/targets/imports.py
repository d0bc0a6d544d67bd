"""Importers: what they accept becomes a trace that holds what a trace promises."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from analyses.fuzzing.harness import Target, join, require, split
from analyses.fuzzing.mutation import (
    mutate_bytes,
    mutate_cells,
    mutate_json_line,
    mutate_member,
)

from specialize.errors import SpecializeError
from specialize.trace import NO_EXPERT, RoutingTrace
from specialize.trace.imports import import_trace

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"num_experts": 8},
    {"top_k": 2},
    {"layers": "0-1"},
    {"layers": "1", "num_experts": 8, "top_k": 2},
    {"num_layers": 2, "top_k": 2},
    {"num_layers": 2, "top_k": 2, "layers": "1"},
    {"num_experts": 300},
)


def import_source(format_name: str, source: Path, folder: Path, options: Mapping[str, Any]) -> None:
    run = folder / "out" / "run"
    run.parent.mkdir()
    try:
        trace = import_trace(format_name, source, run, **options)
    except SpecializeError:
        require(not list(run.parent.iterdir()), "an import that fails leaves nothing")
        raise
    if not trace.has_tokens:
        check_usage(trace)
        return
    try:
        tokens, documents = trace.tokens(), trace.documents()
        experts = {router.layer: trace.experts(router.layer) for router in trace.layers}
        weights = {layer: trace.weights(layer) for layer in experts} if "weights" in trace.contents else {}
    except SpecializeError as error:
        raise AssertionError(f"an imported trace cannot be read: {error}") from error
    require(len(tokens) == trace.num_tokens > 0, "a trace has tokens")
    require(len(experts) == len(trace.layers) > 0, "layers are distinct")
    require(tokens["document"].between(0, len(documents) - 1).all(), "tokens lie in documents")
    require(tokens["document"].is_monotonic_increasing, "tokens of a document are contiguous")
    for router in trace.layers:
        chosen = experts[router.layer]
        require(chosen.shape == (trace.num_tokens, router.top_k), "experts have k slots", chosen.shape)
        require(((chosen >= NO_EXPERT) & (chosen < router.num_experts)).all(), "ids are −1 or from 0 to E − 1")
        ranked = np.sort(chosen, axis=1)
        require(
            ((ranked[:, 1:] != ranked[:, :-1]) | (ranked[:, 1:] == NO_EXPERT)).all(), "experts of a token are distinct"
        )
    for each in weights.values():
        require(np.isfinite(each).all(), "gate weights are finite")
    require(documents["id"].is_unique and documents["id"].notna().all(), "ids of documents are unique")


def check_usage(trace: RoutingTrace) -> None:
    try:
        documents = trace.documents()
        usage = [trace.usage(router.name) for router in trace.layers]
    except SpecializeError as error:
        raise AssertionError(f"an imported trace cannot be read: {error}") from error
    require(len(usage) == len({router.layer for router in trace.layers}) > 0, "layers are distinct")
    require(documents["id"].is_unique and len(documents) == trace.num_documents > 0, "ids of documents are unique")
    for router, each in zip(trace.layers, usage, strict=True):
        require(
            each.shape == (trace.num_documents, router.num_experts), "usage is of documents and experts", each.shape
        )
        require((np.isfinite(each) & (each >= 0)).all(), "usage is finite and not negative")


def choose(rng: np.random.Generator, tokens: int) -> np.ndarray:
    return rng.random((tokens, 2, 8)).argsort(axis=2)[:, :, :2]


def _seeds_of_esft() -> Mapping[str, bytes]:
    layer = b"0\t1\t3\t2\t\t0.5\t0.25\t0.5\t0.125\n7\t1\t\t0.9\t0.1\n"
    return {"one layer": join(0, 0, layer), "two layers": join(0, 2, layer, layer)}


def _read_esft(data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "dump"
    source.mkdir()
    for number, content in enumerate(members[:4]):
        (source / f"expert_weights_{'0' * (kind % 2)}{number}.txt").write_bytes(content)
    import_source("esft", source, folder, OPTIONS[option % len(OPTIONS)])


def _seeds_of_olmoe() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    lines = [
        {
            "input_ids": [1, 2, 3],
            "predicted_token_ids": [2, 3, 4],
            "exp_ids": choose(rng, 3).transpose(0, 2, 1).tolist(),
        }
        for _ in range(2)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    short = json.dumps({"exp_ids": [[[0, 1], [1, 0]], [[2, 3], [5, 6]]]}).encode()
    return {
        "two lines": join(0, 0, content),
        "experts alone": join(0, 1, short),
        "two files": join(0, 3, content, content),
    }


def _seeds_of_sglang() -> Mapping[str, bytes]:
    payload = base64.b64encode(choose(np.random.default_rng(0), 5).astype("<i4").tobytes()).decode()
    native = {"text": "x", "meta_info": {"id": "r1", "prompt_tokens": 3, "routed_experts": payload}}
    choices = [{"index": place, "text": "x", "sgl_ext": {"routed_experts": payload}} for place in range(2)]
    served = {"id": "r2", "choices": choices}
    lines = "\n".join(map(json.dumps, (native, served))).encode()
    rows = choose(np.random.default_rng(1), 4).tolist()
    facts = {"id": "r3", "prompt_tokens": 4, "completion_tokens": 2, "routed_experts_start_len": 1}
    plain = {"text": "x", "output_ids": [5, 6], "meta_info": {**facts, "routed_experts": rows}}
    return {
        "responses": join(0, 5, lines),
        "a list": join(1, 6, json.dumps([native, served]).encode()),
        "lists": join(0, 0, json.dumps(plain).encode()),
        "a request": join(0, 0, json.dumps({"request": {"input_ids": [1, 2, 3, 4]}, "response": plain}).encode()),
    }


def _seeds_of_vllm_responses() -> Mapping[str, bytes]:
    experts = choose(np.random.default_rng(0), 5)
    buffer = io.BytesIO()
    np.save(buffer, experts.astype(np.int16))
    packed = {"index": 0, "token_ids": [4, 5], "routed_experts": base64.b64encode(buffer.getvalue()).decode()}
    later = {"id": "r1", "prompt_token_ids": [1, 2, 3, 9], "choices": [packed]}
    apart = {"index": 0, "token_ids": [4, 5], "routed_experts": experts[4:].tolist()}
    first = {**later, "prompt_routed_experts": experts[:4].tolist(), "choices": [apart, {**apart, "index": 1}]}
    lost = {"id": "r2", "prompt_routed_experts": None, "choices": [{"token_ids": [1, 2], "routed_experts": None}]}
    batch = {"custom_id": "r3", "response": {"body": {**later, "usage": {"prompt_tokens": 4}}}}
    return {
        "base64": join(0, 0, json.dumps(later).encode()),
        "lists": join(0, 1, json.dumps(first).encode()),
        "lines": join(1, 0, "\n".join(map(json.dumps, ([later, lost], batch))).encode()),
    }


def _seeds_of_route_trace() -> Mapping[str, bytes]:
    chosen = choose(np.random.default_rng(0), 4)
    preamble = "# route_trace v1\n# model=m.gguf arch=x n_layer=2 n_expert=8 n_expert_used=2\n"
    header = "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
    rows = "".join(
        f"0,{int(step > 2)},{step},{layer},{slot},{chosen[step, layer, slot]},0.5,0,10\n"
        for step, layer, slot in np.ndindex(chosen.shape)
        if (step, layer) != (0, 1)
    )
    turns = rows + "".join(f"1{row[1:]}\n" for row in rows.splitlines())
    return {
        "one file": join(0, 0, (preamble + header + rows).encode()),
        "two files": join(0, 1, (header + rows).encode(), (header + turns).encode()),
    }


def _seeds_of_megatron() -> Mapping[str, bytes]:
    chosen = choose(np.random.default_rng(0), 3)
    records = [
        {"step": step, "stage": "x", "block": "decoder", "layer": layer, "rank": 0, "num_tokens": 3, "topk": 2,
         "top_indices": chosen[:, layer].tolist()}
        for step in range(2) for layer in range(2)
    ]  # fmt: skip
    head = {**records[0], "block": "mtp", "mtp_idx": 0}
    other = [{**record, "rank": 1} for record in records]
    content, beside = (
        "\n".join(map(json.dumps, each)).encode() for each in ([*records[:2], head, *records[2:]], other)
    )
    return {"one rank": join(0, 0, content), "two ranks": join(0, 1, content, beside)}


def _name_of(format_name: str, kind: int, number: int) -> str:
    """Return the name of a file, as the format has it."""
    names = {"route-trace": f"{number}.csv", "megatron": f"router_trace_rank{number}.jsonl"}
    return names.get(
        format_name, f"{number}.json" if kind % 2 and format_name in ("sglang", "vllm") else f"{number}.jsonl"
    )


def _read_files(format_name: str, data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "in"
    source.mkdir()
    for number, content in enumerate(members[:3]):
        (source / _name_of(format_name, kind, number)).write_bytes(content)
    first = source / _name_of(format_name, kind, 0)
    import_source(format_name, source if len(members) > 1 else first, folder, OPTIONS[option % len(OPTIONS)])


def of_members(mutate: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    return lambda data, rng: mutate_member(data, rng, mutate)


def _mutate_table(data: bytes, rng: Random, *, separator: bytes = b"\t") -> bytes:
    cells = partial(mutate_cells, separator=separator)
    return mutate_member(data, rng, cells if rng.random() < 0.7 else mutate_bytes)


_JSON_TOKENS = (b"null", b"[[", b"]]", b"-1", b"1e999", b"99999999999", b'"id"', b"\\ud800", b"NaN", b"{}")

ESFT = Target(
    "esft", "ESFT's text dumps", _seeds_of_esft, _read_esft, _mutate_table, (b"\t\t", b"\t", b"nan", b"inf", b"-1")
)
OLMOE = Target(
    "olmoe",
    "OLMoE's analysis in JSON Lines",
    _seeds_of_olmoe,
    partial(_read_files, "olmoe"),
    of_members(mutate_json_line),
    (b'"exp_ids"', b'"input_ids"', b'"predicted_token_ids"', *_JSON_TOKENS),
)
SGLANG = Target(
    "sglang",
    "SGLang's responses in JSON Lines",
    _seeds_of_sglang,
    partial(_read_files, "sglang"),
    of_members(mutate_json_line),
    (b'"meta_info"', b'"routed_experts"', b'"choices"', b'"sgl_ext"', b"AAAA", b"/////w==", *_JSON_TOKENS),
)
VLLM_RESPONSES = Target(
    "vllm-responses",
    "vLLM's responses in JSON Lines",
    _seeds_of_vllm_responses,
    partial(_read_files, "vllm"),
    of_members(mutate_json_line),
    (
        b'"prompt_routed_experts"',
        b'"routed_experts"',
        b'"choices"',
        b'"token_ids"',
        b'"prompt_token_ids"',
        b"k05VTVBZ",
        *_JSON_TOKENS,
    ),
)
ROUTE_TRACE = Target(
    "route-trace",
    "route traces of llama.cpp-based engines in CSV",
    _seeds_of_route_trace,
    partial(_read_files, "route-trace"),
    partial(_mutate_table, separator=b","),
    (b"# route_trace v1", b"n_expert=", b"n_expert_used=", b"nan", b",", b"-1", b"2147483648", b"turn", b"weight"),
)
MEGATRON = Target(
    "megatron",
    "Megatron-LM's router traces in JSON Lines",
    _seeds_of_megatron,
    partial(_read_files, "megatron"),
    of_members(mutate_json_line),
    (b'"top_indices"', b'"mtp_idx"', b'"layer"', b'"step"', b'"rank"', b'"block"', *_JSON_TOKENS),
)
