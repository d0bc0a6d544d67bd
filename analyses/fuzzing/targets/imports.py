"""Every importer: what it accepts becomes a trace that holds what a trace promises."""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from analyses.fuzzing.harness import Target, join, require, split
from analyses.fuzzing.mutation import (
    mutate_bytes,
    mutate_cells,
    mutate_json_line,
    mutate_member,
    mutate_safetensors,
)
from analyses.fuzzing.tables import write_random
from safetensors.numpy import save

from specialize.errors import SpecializeError
from specialize.trace import NO_EXPERT
from specialize.trace.imports import import_trace

_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"num_experts": 8},
    {"top_k": 2},
    {"layers": "0-1"},
    {"layers": "1", "num_experts": 8, "top_k": 2},
    {"num_layers": 2, "top_k": 2},
    {"num_layers": 2, "top_k": 2, "layers": "1"},
    {"num_experts": 300},
)
_ARRAYS = (
    *("experts", "weights", "document", "token_id", "position", "char_start", "char_end", "layers", "num_experts"),
    "others",
)
_COLUMNS = (
    *("experts_0", "experts_1", "weights_0", "weights_1", "document", "token_id", "position", "char_start", "char_end"),
    "experts_00",
)
_LIKELY = {
    **{name: (pa.list_(pa.int16()), lambda rng: rng.sample(range(8), 2)) for name in ("experts_0", "experts_1")},
    **{name: (pa.list_(pa.float32()), lambda rng: [rng.random(), 0.5]) for name in ("weights_0", "weights_1")},
    **{name: (pa.int32(), lambda rng: 0) for name in ("document", "token_id", "position", "char_start", "char_end")},
}
_DOCUMENTS = b'{"id": "a", "text": "One two three.", "topic": "x"}\n{"id": "b", "text": "Four five."}\n'


def _import(format_name: str, source: Path, folder: Path, options: Mapping[str, Any]) -> None:
    run = folder / "out" / "run"
    run.parent.mkdir()
    try:
        trace = import_trace(format_name, source, run, **options)
    except SpecializeError:
        require(not list(run.parent.iterdir()), "an import that fails leaves nothing")
        raise
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


def _choose(rng: np.random.Generator, tokens: int) -> np.ndarray:
    return rng.random((tokens, 2, 8)).argsort(axis=2)[:, :, :2]


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _parquet(columns: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="none")
    return buffer.getvalue()


def _seeds_of_esft() -> Mapping[str, bytes]:
    layer = b"0\t1\t3\t2\t\t0.5\t0.25\t0.5\t0.125\n7\t1\t\t0.9\t0.1\n"
    return {"one layer": join(0, 0, layer), "two layers": join(0, 2, layer, layer)}


def _read_esft(data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "dump"
    source.mkdir()
    for number, content in enumerate(members[:4]):
        (source / f"expert_weights_{'0' * (kind % 2)}{number}.txt").write_bytes(content)
    _import("esft", source, folder, _OPTIONS[option % len(_OPTIONS)])


def _seeds_of_olmoe() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    lines = [
        {
            "input_ids": [1, 2, 3],
            "predicted_token_ids": [2, 3, 4],
            "exp_ids": _choose(rng, 3).transpose(0, 2, 1).tolist(),
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
    payload = base64.b64encode(_choose(np.random.default_rng(0), 5).astype("<i4").tobytes()).decode()
    native = {"text": "x", "meta_info": {"id": "r1", "prompt_tokens": 3, "routed_experts": payload}}
    choices = [{"index": place, "text": "x", "sgl_ext": {"routed_experts": payload}} for place in range(2)]
    served = {"id": "r2", "choices": choices}
    lines = "\n".join(map(json.dumps, (native, served))).encode()
    return {"responses": join(0, 5, lines), "a list": join(1, 6, json.dumps([native, served]).encode())}


def _read_lines(format_name: str, data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "in"
    source.mkdir()
    suffix = ".json" if kind % 2 and format_name == "sglang" else ".jsonl"
    for number, content in enumerate(members[:3]):
        (source / f"{number}{suffix}").write_bytes(content)
    _import(
        format_name, source if len(members) > 1 else source / f"0{suffix}", folder, _OPTIONS[option % len(_OPTIONS)]
    )


def _seeds_of_vllm() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    tensors = {f"r{number}": _choose(rng, number + 1).astype(np.int32) for number in range(3)}
    return {
        "npy": join(0, 0, _npy(_choose(rng, 4).astype(np.int16)), _npy(_choose(rng, 1).astype(np.uint8))),
        "absent": join(0, 1, _npy(np.full((2, 2, 2), 65535, np.uint16)), _npy(_choose(rng, 2).astype(np.uint16))),
        "safetensors": join(1, 0, save(tensors)),
        "fortran": join(0, 1, _npy(np.asfortranarray(_choose(rng, 3)))),
    }


def _read_vllm(data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "in"
    source.mkdir()
    suffix = (".npy", ".safetensors")[kind % 2]
    for number, content in enumerate(members[:3]):
        (source / f"{number}{suffix}").write_bytes(content)
    _import("vllm", source if len(members) > 1 else source / f"0{suffix}", folder, _OPTIONS[option % len(_OPTIONS)])


def _seeds_of_arrays() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    experts = _choose(rng, 4)
    arrays = {
        "experts": experts.astype(np.int16),
        "weights": rng.random(experts.shape).astype(np.float32),
        "document": np.array([0, 0, 1, 1]),
        "token_id": np.arange(4),
        "position": np.array([0, 1, 0, 1]),
        "char_start": np.array([0, 4, 0, 5]),
        "char_end": np.array([3, 7, 4, 9]),
        "layers": np.array([3, 5]),
        "num_experts": np.array(8),
    }
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    lists = {f"experts_{layer}": experts[:, layer].tolist() for layer in range(2)}
    lists |= {f"weights_{layer}": rng.random((4, 2)).tolist() for layer in range(2)}
    files = [_npy(array) for array in arrays.values()]
    return {
        "folder": join(0, 0, *files),
        "folder with documents": join(0, 16, *files, _parquet({"id": ["a", "b"], "text": ["One two.", "Three four."]})),
        "packed": join(1, 0, *files),
        "npz": join(2, 0, archive.getvalue()),
        "Parquet": join(3, 0, _parquet({"document": ["a", "a", "b", "b"], **lists})),
        "Parquet with documents": join(3, 8, _parquet({"document": [0, 0, 1, 1], **lists}), _DOCUMENTS),
        "random": join(4, 0, b"1"),
    }


def _read_arrays(data: bytes, folder: Path) -> None:
    """Kinds: a folder of .npy, an .npz of such members, an .npz as it is, Parquet, random Parquet."""
    kind, option, members = split(data)
    options = dict(_OPTIONS[option % len(_OPTIONS)])
    last = None
    if option & 24 and len(members) > 1:
        last = members.pop()
    source = folder / "in"
    source.mkdir()
    if kind % 5 == 0:
        for name, content in zip(_ARRAYS, members, strict=False):
            if content:
                (source / f"{name}.npy").write_bytes(content)
    elif kind % 5 == 1:
        source = source / "a.npz"
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in zip(_ARRAYS, members, strict=False):
                if content:
                    archive.writestr(f"{name}.npy", content)
    elif kind % 5 == 2:
        source = source / "a.npz"
        source.write_bytes(members[0])
    else:
        content = members[0] if kind % 5 == 3 else write_random(members[0], ".parquet", _COLUMNS, _LIKELY)
        source = source / "a.parquet"
        source.write_bytes(content)
    if last is not None and option & 8:
        options["documents"] = folder / "documents.jsonl"
        options["documents"].write_bytes(last)
    elif last is not None:
        (folder / "in" / "documents.parquet").write_bytes(last)
    _import("arrays", source, folder, options)


def _members(mutate: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    return lambda data, rng: mutate_member(data, rng, mutate)


def _mutate_esft(data: bytes, rng: Random) -> bytes:
    return mutate_member(data, rng, mutate_cells if rng.random() < 0.7 else mutate_bytes)


def _mutate_array(data: bytes, rng: Random) -> bytes:
    """Change a .npy file: another array of the same numbers, its header, or bytes."""
    if rng.random() < 0.5:
        return mutate_bytes(data, rng)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        changed = array.copy()
        if changed.size and rng.random() < 0.6:
            values = (-2, -1, 0, 1, 7, 8, 2**15, 2**31, 2**63 - 1, 65535, np.nan, np.inf, 1e6)
            with np.errstate(all="ignore"):
                changed.reshape(-1)[rng.randrange(changed.size)] = rng.choice(values)
        else:
            kinds = ("u1", "i1", "<u2", ">i2", "<u8", "<f2", "f8", "U1", "S2", "?", "c8", "M8[s]", "<i4")
            with np.errstate(all="ignore"):
                changed = changed.astype(rng.choice(kinds))
            changed = changed[rng.randrange(2) :] if changed.ndim and rng.random() < 0.3 else changed
        return _npy(changed)
    except Exception:  # whatever cannot be read or converted
        return mutate_bytes(data, rng)


def _mutate_vllm(data: bytes, rng: Random) -> bytes:
    return mutate_member(data, rng, mutate_safetensors if data and data[0] % 2 else _mutate_array)


def _mutate_arrays(data: bytes, rng: Random) -> bytes:
    return mutate_member(data, rng, _mutate_array if data and data[0] % 5 < 2 else mutate_bytes)


_NPY_TOKENS = (
    *(
        b"\x93NUMPY\x01\x00",
        b"'descr': '<i8'",
        b"'descr': '|O'",
        b"'fortran_order': True",
        b"'shape': ()",
        b"(1000000000,)",
    ),
    *(b"'<u8'", b"'>f4'", b"'|V8'", b"'<U4'", b"-1", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
)
_JSON_TOKENS = (b"null", b"[[", b"]]", b"-1", b"1e999", b"99999999999", b'"id"', b"\\ud800", b"NaN", b"{}")

ESFT = Target(
    "esft", "ESFT's text dumps", _seeds_of_esft, _read_esft, _mutate_esft, (b"\t\t", b"\t", b"nan", b"inf", b"-1")
)
OLMOE = Target(
    "olmoe",
    "OLMoE's analysis in JSON Lines",
    _seeds_of_olmoe,
    partial(_read_lines, "olmoe"),
    _members(mutate_json_line),
    (b'"exp_ids"', b'"input_ids"', b'"predicted_token_ids"', *_JSON_TOKENS),
)
VLLM = Target("vllm", "vLLM's arrays: .npy and safetensors", _seeds_of_vllm, _read_vllm, _mutate_vllm, _NPY_TOKENS)
SGLANG = Target(
    "sglang",
    "SGLang's responses in JSON Lines",
    _seeds_of_sglang,
    partial(_read_lines, "sglang"),
    _members(mutate_json_line),
    (b'"meta_info"', b'"routed_experts"', b'"choices"', b'"sgl_ext"', b"AAAA", b"/////w==", *_JSON_TOKENS),
)
ARRAYS = Target(
    "arrays", "arrays: folders of .npy, .npz and Parquet", _seeds_of_arrays, _read_arrays, _mutate_arrays, _NPY_TOKENS
)
