"""Routed experts that inference servers return: vLLM's as arrays, SGLang's as base64 in JSON.

Both return every layer of the model, in order; dense layers are filled with zeros, and are left out if the MoE layers
are named. A slot without a record is -1. Servers return neither token ids nor gate weights.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.corpus.json_lines import parse_json
from specialize.errors import TraceError
from specialize.trace.imports.npy import load_array
from specialize.trace.imports.source import (
    BLOCK_TOKENS,
    Block,
    ImportOptions,
    Source,
    check_file,
    guard_parser,
    list_files,
    natural_key,
    read_lines,
)

_TORCH_ENDINGS = (".pt", ".pth", ".pkl", ".bin")
_EXTENSION_FIELDS = ("sgl_ext", "sglext")


def open_vllm(path: Path, options: ImportOptions) -> Source:
    """Open routed experts: integers [tokens, layers, k], .npy or .safetensors, a file or a folder of them.

    Each array is a document, whose id is the name of the file, or of the array if a file holds several.
    """
    reject_torch(path)
    files = list_files(path, ["*.npy", "*.safetensors"], what="routed experts as arrays")
    for file in files:
        check_file(file)
    size = sum(file.stat().st_size for file in files)
    return Source(path=path, read=lambda: _read_vllm(files), size=size, marks_absent=True)


def _read_vllm(files: list[Path]) -> Iterator[Block]:
    document = done = 0
    for file in files:
        for name, array in _arrays_of(file):
            place = f"{file}, array {name!r}" if file.suffix == ".safetensors" else str(file)
            if array.ndim != 3 or array.dtype.kind not in "iu":
                raise TraceError(
                    f"{place}: expected integers [tokens, layers, k], got {array.dtype} {list(array.shape)}"
                )
            key = file.stem if file.suffix == ".npy" else name if len(files) == 1 else f"{file.stem}:{name}"
            yield from _cut(array, document, key, place, done)
            document += len(array) > 0
            done += array.nbytes


def _cut(array: NDArray[np.integer], document: int, key: str, place: str, done: int) -> Iterator[Block]:
    for start in range(0, len(array), BLOCK_TOKENS):
        experts = array[start : start + BLOCK_TOKENS]
        yield Block(
            document=np.full(len(experts), document),
            keys=[] if start else [key],
            experts=experts,
            where=lambda row, start=start: f"{place}, token {start + row}",  # type: ignore[misc]
            bytes_read=done + start * array[:1].nbytes,
        )


def _arrays_of(file: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    if file.suffix == ".npy":
        yield "", load_array(file)
        return
    from safetensors import safe_open

    with guard_parser(file, "arrays of integers in safetensors"), safe_open(file, framework="numpy") as tensors:
        for name in sorted(tensors.keys(), key=natural_key):
            yield name, tensors.get_tensor(name)


def reject_torch(path: Path) -> None:
    """Raise TraceError for a torch file: it is a pickle, and reading it would run the code in it."""
    if path.suffix in _TORCH_ENDINGS:
        raise TraceError(
            f"{path}: torch files are pickles, and reading one runs the code in it; if you trust the file, load it, "
            "save the experts with numpy.save and import those as `arrays` or `vllm`"
        )


def open_sglang(path: Path, options: ImportOptions) -> Source:
    """Open responses in JSON Lines whose routed experts are base64 of int32 [tokens, layers, k].

    They are read from ``meta_info.routed_experts`` and from each choice's ``sgl_ext.routed_experts``; positions count
    from ``routed_experts_start_len`` beside it. The responses do not state the shape: k and the number of layers must
    be given.
    """
    reject_torch(path)
    num_layers, top_k = options.expected_num_layers or len(options.layers or ()), options.expected_top_k
    if not top_k or not num_layers:
        raise TraceError(
            f"{path}: the responses do not state the shape of their routed experts; set top_k and num_layers (all "
            "layers, dense ones included), or model"
        )
    files = list_files(path, ["*.jsonl", "*.json"], what="SGLang's responses, one JSON object per line")
    for file in files:
        check_file(file)
    shape = (num_layers, top_k)
    size = sum(file.stat().st_size for file in files)
    return Source(path=path, read=lambda: _read_sglang(files, shape), size=size, marks_absent=True)


def _read_sglang(files: list[Path], shape: tuple[int, int]) -> Iterator[Block]:
    document = 0
    for path, number, line, done in read_lines(files):
        place = f"{path}, line {number}"
        with guard_parser(place, "one JSON response"):
            value = parse_json(line)
        for response in value if isinstance(value, list) else [value]:
            for key, holder in _holders(response, place):
                experts = _decode(holder["routed_experts"], shape, place)
                position = _start_of(holder, place)
                for block in _cut(experts, document, key or str(document), place, 0):
                    tokens = {"position": position + np.arange(len(block.experts))}
                    position += len(block.experts)
                    yield replace(block, tokens=tokens, bytes_read=done)
                document += len(experts) > 0


def _holders(response: Any, place: str) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the ids of a response, which may have several choices, and the objects with their encoded experts."""
    found: list[tuple[str | None, dict[str, Any]]] = []
    if isinstance(response, dict):
        facts = response.get("meta_info")
        name = (facts if isinstance(facts, dict) else response).get("id")
        name = None if name is None else str(name)
        if isinstance(facts, dict) and facts.get("routed_experts") is not None:
            found.append((name, facts))
        choices = response.get("choices")
        choices = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
        for index, choice in enumerate(choices):
            for extension in (choice.get(field) for field in _EXTENSION_FIELDS):
                if isinstance(extension, dict) and extension.get("routed_experts") is not None:
                    found.append((f"{name}:{index}" if len(choices) > 1 else name, extension))
    if not found:
        raise TraceError(
            f"{place}: expected a response with meta_info.routed_experts, found none; "
            "set return_routed_experts in the request"
        )
    return found


def _start_of(holder: dict[str, Any], place: str) -> int:
    """Return the position of the first token whose experts were returned."""
    start = holder.get("routed_experts_start_len") or 0
    if type(start) is not int or not 0 <= start < 2**31:
        raise TraceError(f"{place}: expected routed_experts_start_len of 0 or more tokens, got {start!r:.60}")
    return start


def _decode(payload: Any, shape: tuple[int, int], place: str) -> NDArray[np.integer]:
    if not isinstance(payload, str):
        raise TraceError(f"{place}: expected routed experts in base64, got {type(payload).__name__}")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TraceError(
            f"{place}: expected routed experts in base64, got {error}; the response is truncated"
        ) from None
    layers, top_k = shape
    if len(data) % (4 * layers * top_k):
        raise TraceError(
            f"{place}: expected int32 of {layers} layers with k = {top_k} for each token, got {len(data)} bytes; "
            "num_layers or top_k is wrong, or the response is truncated"
        )
    return np.frombuffer(data, dtype="<i4").reshape(-1, layers, top_k)
