"""Arrays that are imported: those of vLLM, and folders of .npy, .npz and Parquet."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from analyses.fuzzing.harness import Target, join, split
from analyses.fuzzing.mutation import (
    mutate_bytes,
    mutate_member,
    mutate_safetensors,
)
from analyses.fuzzing.tables import write_random
from analyses.fuzzing.targets.imports import OPTIONS, choose, import_source
from safetensors.numpy import save

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


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _parquet(columns: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="none")
    return buffer.getvalue()


def _seeds_of_vllm() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    tensors = {f"r{number}": choose(rng, number + 1).astype(np.int32) for number in range(3)}
    return {
        "npy": join(0, 0, _npy(choose(rng, 4).astype(np.int16)), _npy(choose(rng, 1).astype(np.uint8))),
        "absent": join(0, 1, _npy(np.full((2, 2, 2), 65535, np.uint16)), _npy(choose(rng, 2).astype(np.uint16))),
        "safetensors": join(1, 0, save(tensors)),
        "fortran": join(0, 1, _npy(np.asfortranarray(choose(rng, 3)))),
    }


def _read_vllm(data: bytes, folder: Path) -> None:
    kind, option, members = split(data)
    source = folder / "in"
    source.mkdir()
    suffix = (".npy", ".safetensors")[kind % 2]
    for number, content in enumerate(members[:3]):
        (source / f"{number}{suffix}").write_bytes(content)
    import_source("vllm", source if len(members) > 1 else source / f"0{suffix}", folder, OPTIONS[option % len(OPTIONS)])


def _seeds_of_usage() -> Mapping[str, bytes]:
    counts = np.random.default_rng(0).integers(0, 9, (3, 2, 4))
    shares = counts / counts.sum(axis=2, keepdims=True)
    return {
        "counts": join(0, 0, _npy(counts)),
        "shares": join(0, 2, _npy(shares.astype(np.float16))),
        "numbered": join(1, 3, _npy(2 * counts), _npy([1, 0])),
    }


def _read_usage(data: bytes, folder: Path) -> None:
    """Kinds: an .npy, or an .npz with the numbers of layers."""
    kind, option, members = split(data)
    source = folder / ("in.npz" if kind % 2 else "in.npy")
    if kind % 2:
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in zip(("usage", "layers", "others"), members, strict=False):
                archive.writestr(f"{name}.npy", content)
    else:
        source.write_bytes(members[0])
    import_source("usage", source, folder, OPTIONS[option % len(OPTIONS)])


def _seeds_of_arrays() -> Mapping[str, bytes]:
    rng = np.random.default_rng(0)
    experts = choose(rng, 4)
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
    options = dict(OPTIONS[option % len(OPTIONS)])
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
    import_source("arrays", source, folder, options)


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
VLLM = Target("vllm", "vLLM's arrays: .npy and safetensors", _seeds_of_vllm, _read_vllm, _mutate_vllm, _NPY_TOKENS)
USAGE = Target(
    "usage",
    "usage by document: .npy and .npz",
    _seeds_of_usage,
    _read_usage,
    lambda data, rng: mutate_member(data, rng, _mutate_array),
    _NPY_TOKENS,
)
ARRAYS = Target(
    "arrays", "arrays: folders of .npy, .npz and Parquet", _seeds_of_arrays, _read_arrays, _mutate_arrays, _NPY_TOKENS
)
