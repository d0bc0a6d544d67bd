"""Routed experts that inference servers return: arrays, or responses in JSON Lines.

A slot without a record is -1. vLLM and SGLang return the MoE layers or, by version, all layers, with zeros for dense
ones, which are left out if the MoE layers are named or a model is given; TensorRT-LLM returns the MoE layers. None of
them returns gate weights.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.corpus.json_lines import parse_json
from specialize.errors import TraceError
from specialize.trace.imports.npy import load_array
from specialize.trace.imports.responses import ServedTokens, read_sglang, read_vllm
from specialize.trace.imports.source import (
    BLOCK_TOKENS,
    Block,
    Findings,
    ImportOptions,
    Source,
    check_file,
    guard_parser,
    list_files,
    natural_key,
    read_lines,
)
from specialize.trace.schema import UNKNOWN

_TORCH_ENDINGS = (".pt", ".pth", ".pkl", ".bin")
_ARRAYS = ("*.npy", "*.safetensors")
_RESPONSES = ("*.jsonl", "*.json")
_ASKED = ("input_ids", "prompt_token_ids", "token_ids", "prompt")  # token ids of a prompt, as requests name them
_IDS = ".token_ids"  # ends the name of an array of token ids beside the one with their experts


def open_vllm(path: Path, options: ImportOptions) -> Source:
    """Open routed experts of vLLM: arrays as of `open_served_arrays`, or responses of its server in JSON Lines."""
    reject_torch(path)
    files = _list_files(path, (*_ARRAYS, *_RESPONSES), what="routed experts as arrays, or responses in JSON Lines")
    are_responses = {f"*{file.suffix}" in _RESPONSES for file in files}
    if len(are_responses) > 1:
        raise TraceError(f"{path}: expected arrays or responses, got both; import them separately")
    return _open_responses(path, files, read_vllm, options) if are_responses.pop() else _open_arrays(path, files)


def open_sglang(path: Path, options: ImportOptions) -> Source:
    """Open responses of SGLang in JSON Lines.

    Those with experts in base64 do not state the shape: k and the number of layers must be given.
    """
    reject_torch(path)
    num_layers, top_k = options.expected_num_layers or len(options.layers or ()), options.expected_top_k
    shape = (num_layers, top_k) if num_layers and top_k else None
    files = _list_files(path, _RESPONSES, what="SGLang's responses, one JSON object per line")
    return _open_responses(path, files, partial(read_sglang, shape=shape), options)


def open_tensorrt_llm(path: Path, options: ImportOptions) -> Source:
    """Open routed experts of TensorRT-LLM: arrays as of `open_served_arrays`, of the MoE layers alone.

    Raises:
        TraceError: the model whose configuration is given has another number of MoE layers.
    """
    source = open_served_arrays(path)
    block = next(source.read(), None) if options.model and options.layers is None else None
    if options.model and block is not None and block.experts.shape[1] != len(options.model.moe_layers):
        raise TraceError(
            f"{path}: expected the {len(options.model.moe_layers)} MoE layers of {options.model.name}, without dense "
            f"ones, got {block.experts.shape[1]} layers"
        )
    return source


def open_served_arrays(path: Path) -> Source:
    """Open integers [tokens, layers, k], .npy or .safetensors, a file or a folder of them.

    Each array is a document, whose id is the name of the file, or of the array if a file holds several. Beside
    NAME.npy, NAME.token_ids.npy may hold its token ids, and beside an array NAME of a file, one called NAME.token_ids;
    there may be one more of them than rows, because servers do not run the last token.
    """
    reject_torch(path)
    return _open_arrays(path, _list_files(path, _ARRAYS, what="routed experts as arrays"))


def reject_torch(path: Path) -> None:
    """Raise TraceError for a torch file: it is a pickle, and reading it would run the code in it."""
    if path.suffix in _TORCH_ENDINGS:
        raise TraceError(
            f"{path}: torch files are pickles, and reading one runs the code in it; if you trust the file, load it, "
            "save the experts with numpy.save and import those as `arrays` or `vllm`"
        )


def _list_files(path: Path, patterns: tuple[str, ...], *, what: str) -> list[Path]:
    files = list_files(path, patterns, what=what)
    for file in files:
        check_file(file)
    return files


def _open_arrays(path: Path, files: list[Path]) -> Source:
    files = [file for file in files if not (file.suffix == ".npy" and file.stem.endswith(_IDS))]
    size = sum(file.stat().st_size for file in files)
    return Source(path=path, read=lambda: _read_arrays(files), size=size, marks_absent=True)


def _read_arrays(files: list[Path]) -> Iterator[Block]:
    document = done = 0
    for file in files:
        for name, array, ids in _arrays_of(file):
            place = f"{file}, array {name!r}" if file.suffix == ".safetensors" else str(file)
            if array.ndim != 3 or array.dtype.kind not in "iu":
                raise TraceError(
                    f"{place}: expected integers [tokens, layers, k], got {array.dtype} {list(array.shape)}"
                )
            tokens = {"token_id": _check_ids(ids, len(array), place)}
            key = file.stem if file.suffix == ".npy" else name if len(files) == 1 else f"{file.stem}:{name}"
            yield from _cut(array, tokens, document, key, place, done)
            document += len(array) > 0
            done += array.nbytes


def _check_ids(ids: NDArray[Any] | None, count: int, place: str) -> NDArray[Any]:
    """Return the token ids of the rows of an array; UNKNOWN if there are none."""
    if ids is None:
        return np.broadcast_to(np.int32(UNKNOWN), count)  # of an array that may be larger than the memory
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or len(ids) - count not in (0, 1):
        raise TraceError(
            f"{place}: expected token ids as integers [{count}], or one more, got {ids.dtype} {list(ids.shape)}"
        )
    return ids[:count]


def _cut(
    experts: NDArray[np.integer], tokens: dict[str, NDArray[Any]], document: int, key: str, place: str, done: int
) -> Iterator[Block]:
    for start in range(0, len(experts), BLOCK_TOKENS):
        part = experts[start : start + BLOCK_TOKENS]
        yield Block(
            document=np.full(len(part), document),
            keys=[] if start else [key],
            experts=part,
            tokens={name: column[start : start + BLOCK_TOKENS] for name, column in tokens.items()},
            where=lambda row, start=start: f"{place}, token {start + row}",  # type: ignore[misc]
            bytes_read=done + start * experts[:1].nbytes,
        )


def _arrays_of(file: Path) -> Iterator[tuple[str, NDArray[Any], NDArray[Any] | None]]:
    """Yield the name, the experts and the token ids of each document of a file."""
    if file.suffix == ".npy":
        beside = file.with_name(f"{file.stem}{_IDS}.npy")
        yield "", load_array(file), load_array(beside) if beside.is_file() else None
        return
    from safetensors import safe_open

    with guard_parser(file, "arrays of integers in safetensors"), safe_open(file, framework="numpy") as tensors:
        names = set(tensors.keys())
        for name in sorted((name for name in names if not name.endswith(_IDS)), key=natural_key):
            ids = tensors.get_tensor(name + _IDS) if name + _IDS in names else None
            yield name, tensors.get_tensor(name), ids


def _open_responses(
    path: Path, files: list[Path], read: Callable[[Any, str], list[Any]], options: ImportOptions
) -> Source:
    counts: Counter[str] = Counter()
    return Source(
        path=path,
        read=lambda: _read_responses(files, read, options, counts),
        size=sum(file.stat().st_size for file in files),
        marks_absent=True,
        findings=lambda: _describe(counts),
    )


def _read_responses(
    files: list[Path],
    read: Callable[[Any, str], list[ServedTokens | None]],
    options: ImportOptions,
    counts: Counter[str],
) -> Iterator[Block]:
    counts.clear()
    document = 0
    for path, number, line, done in read_lines(files):
        place = f"{path}, line {number}"
        with guard_parser(place, "one JSON response"):
            value = parse_json(line)
        for response in value if isinstance(value, list) else [value]:
            for served in read(_unwrap(response), place):
                if served is None:
                    counts["lost"] += 1
                    continue
                counts["without_prompt"] += served.prompt_tokens is None
                _check_shape(served.experts.shape, options, place)
                tokens: dict[str, NDArray[Any]] = {
                    "position": served.position,
                    "token_id": served.token_ids,
                    "phase": served.phase,
                }
                for block in _cut(served.experts, tokens, document, served.key or str(document), place, 0):
                    yield replace(block, bytes_read=done)
                document += len(served.experts) > 0


def _check_shape(shape: tuple[int, ...], options: ImportOptions, place: str) -> None:
    """Raise TraceError if a response has another number of layers, or another k, than the user gave."""
    given = {"num_layers": (options.num_layers, shape[1]), "top_k": (options.top_k, shape[2])}
    for name, (expected, got) in given.items():
        if expected not in (None, got):
            raise TraceError(f"{place}: expected {name} = {expected}, as given, got routed experts with {got}")


def _unwrap(value: Any) -> Any:
    """Return the response in a line that has more: that of a batch, or one with the request that was made.

    They are {"custom_id": …, "response": {"body": …}} and {"request": …, "response": …}. A request with token ids gives
    those of the prompt.
    """
    response = value.get("response") if isinstance(value, dict) else None
    if not isinstance(response, dict):
        return value
    response = response["body"] if isinstance(response.get("body"), dict) else response
    name, request = value.get("custom_id"), value.get("request")
    asked = (request.get(field) for field in _ASKED) if isinstance(request, dict) else ()
    prompt = next((ids for ids in asked if isinstance(ids, list) and ids and isinstance(ids[0], int)), None)
    known = {} if prompt is None else {"prompt_token_ids": prompt}
    return known | response | ({} if name is None else {"id": name})


def _describe(counts: Counter[str]) -> Findings:
    notes = []
    if counts["lost"]:
        notes.append(f"warning: requests without routing, which vLLM preempted: {counts['lost']:,}; they are left out")
    if counts["without_prompt"]:
        notes.append(
            f"responses that do not say how long the prompt is: {counts['without_prompt']:,}; all their tokens count "
            "as prefill, and it cannot be verified that no token is missing"
        )
    return Findings(tuple(notes), {"lost_requests": counts["lost"]} if counts["lost"] else {})
