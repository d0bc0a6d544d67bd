r"""ESFT's text dumps: a folder with one file per layer, `expert_weights_LAYER.txt`.

A line is a sample: k·T expert ids, token after token, separated by tabs; two tabs; as many gate weights. A sample
becomes a document, and the file names number the layers. The files do not state k: unless given, it is the largest
divisor of the lines' lengths for which the experts of every token are distinct.

Source: Wang et al. 2024, https://arxiv.org/abs/2407.01906.
"""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.imports.source import Block, ImportOptions, Source, check_file, cut_lines, list_files

_LINES_TO_JUDGE = 64


def open_esft(path: Path, options: ImportOptions) -> Source:
    """Open a folder of ESFT dumps."""
    files: dict[int, Path] = {}
    for file in list_files(path, ["expert_weights_*.txt"], what="ESFT dumps, one file per layer"):
        number = re.fullmatch(r"expert_weights_([0-9]+)\.txt", file.name)
        if number is None:
            raise TraceError(f"{file}: expected expert_weights_LAYER.txt with the number of the layer; rename the file")
        check_file(file)
        layer = int(number[1])
        if layer in files:
            raise TraceError(
                f"{path}: expected one file for each layer, got {files[layer].name} and {file.name}; remove one"
            )
        files[layer] = file
    layers = tuple(sorted(files))
    paths = [files[layer] for layer in layers]
    top_k = options.expected_top_k or _infer_top_k(paths[0])
    inferred = options.expected_top_k is None
    return Source(
        path=path,
        read=lambda: _read(paths, top_k),
        size=sum(file.stat().st_size for file in paths),
        layers=layers,
        notes=(f"k = {top_k}, inferred from the distinct experts of a token; set top_k if it differs",) * inferred,
        facts={"top_k_inferred": True} if inferred else {},
    )


def _infer_top_k(path: Path) -> int:
    """Return the largest k that divides the length of every line and leaves the experts of each token distinct."""
    samples = []
    with path.open("rb") as file:
        for number, line in enumerate(islice(cut_lines(file, path), _LINES_TO_JUDGE), start=1):
            if line.strip():
                samples.append(_parse(line, f"{path}, line {number}")[0])
    size = math.gcd(*(len(sample) for sample in samples))
    for top_k in sorted((k for k in range(1, size + 1) if size % k == 0), reverse=True):
        groups = [np.sort(sample.reshape(-1, top_k), axis=1) for sample in samples]
        if all((np.diff(group, axis=1) != 0).all() for group in groups):
            return top_k
    raise TraceError(f"{path}: expected samples from which k can be inferred, found none; set top_k")


def _read(paths: list[Path], top_k: int) -> Iterator[Block]:
    done = document = 0
    with ExitStack() as stack:
        files = [cut_lines(stack.enter_context(path.open("rb")), path) for path in paths]
        for number, lines in enumerate(zip_longest(*files, fillvalue=b""), start=1):
            done += sum(map(len, lines))
            if not any(line.strip() for line in lines):
                continue
            parsed = [_parse(line, f"{path}, line {number}") for path, line in zip(paths, lines, strict=True)]
            slots = len(parsed[0][0])
            for path, (ids, _) in zip(paths, parsed, strict=True):
                if len(ids) != slots or slots % top_k:
                    raise TraceError(
                        f"{path}, line {number}: expected the {slots} expert ids of {paths[0].name}, a multiple of "
                        f"k = {top_k}, got {len(ids)}; the dump is truncated, or top_k is wrong"
                    )
            ids, weights = (np.stack(each, axis=1).reshape(-1, top_k, len(paths)) for each in zip(*parsed, strict=True))
            yield Block(
                document=np.full(len(ids), document),
                keys=[document],
                experts=ids.transpose(0, 2, 1),
                weights=weights.transpose(0, 2, 1),
                where=lambda row, line=number: f"{paths[0].parent}, line {line}, token {row}",  # type: ignore[misc]
                bytes_read=done,
            )
            document += 1


def _parse(line: bytes, where: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    parts = line.rstrip(b"\r\n").split(b"\t\t")
    if len(parts) != 2:
        raise TraceError(
            f"{where}: expected expert ids, two tabs and gate weights, got {len(parts)} parts separated by two tabs; "
            "the dump is truncated or of another format"
        )
    ids, weights = _numbers(parts[0], np.int64, where), _numbers(parts[1], np.float64, where)
    if len(ids) != len(weights) or not len(ids):
        raise TraceError(
            f"{where}: expected a gate weight for each expert id, got {len(ids)} ids, {len(weights)} weights"
        )
    return ids, weights


def _numbers(text: bytes, dtype: Any, where: str) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of NumPy before 2.3, for text that is not a number
        try:
            return np.fromstring(text, dtype=dtype, sep="\t")
        except (ValueError, DeprecationWarning):
            kind = "integers" if dtype is np.int64 else "numbers"
            raise TraceError(f"{where}: expected {kind} separated by tabs, got other text") from None
