"""Route traces of llama.cpp-based engines: CSV with a row for each slot of each token in each layer.

    # route_trace v1
    # model=<path> arch=<name> n_layer=<int> n_expert=<int> n_expert_used=<int>
    turn,phase,step,layer,slot,expert,weight,…

`step` is the absolute position of the token, phase 0 the prompt and 1 generated text. A turn of a session becomes a
document. A layer without rows for a token, as the last one of most prompt tokens, has no expert there (-1). Gate
weights are kept if all are known: the format marks an unknown one by nan. Further columns are ignored. A file is read
into memory.

Source: https://github.com/Helldez/BigMoeOnEdge, docs/telemetry.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.text import list_names
from specialize.trace.imports.source import (
    Block,
    ImportOptions,
    Source,
    check_file,
    cut_lines,
    guard_parser,
    list_files,
)
from specialize.trace.schema import LAYERS, MOST_EXPERTS, NO_EXPERT, PHASES

_T = TypeVar("_T")
_INTEGERS = ("turn", "phase", "step", "layer", "slot", "expert")
_COLUMNS = (*_INTEGERS, "weight")
_UNKNOWN = ["nan", "-nan", "NaN", ""]
_ALWAYS_FINE = 2**20  # slots
_SPARSEST = 64  # slots for each row; the rows of a trace fill nearly all slots


@dataclass(frozen=True)
class _Preamble:
    """What the comments above the table state; None where they do not."""

    lines: int
    model: str | None = None
    num_experts: int | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class _Table:
    """The columns of a file, each [rows]; weights are NaN where they are not known."""

    path: Path
    preamble: _Preamble
    integers: dict[str, NDArray[np.int32]]
    weights: NDArray[np.float32]

    @property
    def top_k(self) -> int:
        """K, as stated, else the largest slot plus one."""
        return self.preamble.top_k or int(self.integers["slot"].max()) + 1


def open_route_trace(path: Path, options: ImportOptions) -> Source:
    """Open a route trace, or a folder of them."""
    files = list_files(path, ["*.csv"], what="route traces")
    layers: set[int] = set()
    known, preambles, top_ks = True, {}, {}
    for file in files:
        table = _load(file)
        layers |= set(np.unique(table.integers["layer"]).tolist())
        known &= not bool(np.isnan(table.weights).any())
        preambles[file], top_ks[file] = table.preamble, options.top_k or table.top_k
    top_k = _agreed(top_ks, "k")
    num_experts = _agreed({file: each.num_experts for file, each in preambles.items()}, "n_expert")
    model = _agreed({file: each.model for file, each in preambles.items()}, "model")
    numbers = tuple(sorted(layers))
    return Source(
        path=path,
        read=lambda: _read(files, numbers, top_k, with_weights=known),
        size=sum(file.stat().st_size for file in files),
        layers=numbers,
        num_experts=num_experts,
        marks_absent=True,
        notes=() if known else (f"{path}: some gate weights are unknown (nan); gate weights are not imported",),
        facts={} if model is None else {"model": {"name": model}},
    )


def _agreed(stated: dict[Path, _T], what: str) -> _T:
    """Return what all files state; raise TraceError if they state different things."""
    (first, value), *others = stated.items()
    for file, other in others:
        if other != value:
            raise TraceError(
                f"{file}: expected the {what} of {first.name}, {value}, got {other}; import traces of different models "
                "separately"
            )
    return value


def _load(path: Path) -> _Table:
    check_file(path)
    preamble = _read_preamble(path)
    options = pa.csv.ConvertOptions(
        column_types={name: pa.int32() for name in _INTEGERS} | {"weight": pa.float32()},
        include_columns=list(_COLUMNS),
        null_values=_UNKNOWN,
    )
    with guard_parser(path, f"a CSV table with the columns {', '.join(_COLUMNS)}"), path.open("rb") as file:
        table = pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(skip_rows=preamble.lines, use_threads=False),
            convert_options=options,
        )
    if not table.num_rows:
        raise TraceError(f"{path}: expected the routing of at least one token, got a table without rows")
    for name in _INTEGERS:
        if table[name].null_count:
            raise TraceError(f"{path}, column {name}: expected an integer in every row, got an empty value")
    integers = {name: table[name].to_numpy() for name in _INTEGERS}
    found = _Table(path, preamble, integers, table["weight"].to_numpy().astype(np.float32))
    _check_ranges(found)
    return found


def _read_preamble(path: Path) -> _Preamble:
    """Read the comments at the top of a file.

    Raises:
        TraceError: they are of another version, or a number is out of range.
    """
    comments = []
    with path.open("rb") as file:
        for line in cut_lines(file, path):
            if not line.startswith(b"#"):
                break
            comments.append(line.decode(errors="replace"))
    text = "".join(comments)
    version = re.match(r"# *route_trace v(\d{1,9})", text)
    if version and int(version[1]) != 1:
        raise TraceError(f"{path}: expected version 1 of route_trace, got version {version[1]}")
    model = re.search(r"^# *model=(?:.*[\\/])?(.*?)(?: +arch=.*)?\r?$", text, re.MULTILINE)  # of a path, the file
    numbers = {}
    for name in ("n_expert", "n_expert_used"):
        found = re.search(rf"\b{name}=(\d{{1,9}})\b", text)
        numbers[name] = int(found[1]) if found else None
        if found and not 1 <= int(found[1]) <= MOST_EXPERTS:
            raise TraceError(f"{path}: expected {name} from 1 to {MOST_EXPERTS}, got {found[1]}")
    return _Preamble(len(comments), model[1] if model else None, numbers["n_expert"], numbers["n_expert_used"])


def _check_ranges(table: _Table) -> None:
    below = {
        "phase": len(PHASES),
        "layer": LAYERS.stop,
        "slot": table.preamble.top_k or MOST_EXPERTS,
        "expert": MOST_EXPERTS,
    }
    for name, column in table.integers.items():
        limit = below.get(name, 2**31)
        wrong = np.flatnonzero((column < 0) | (column >= limit))
        if len(wrong):
            most = f"from 0 to {limit - 1}" if name in below else "of 0 or more"
            raise TraceError(f"{_row(table, int(wrong[0]))}: expected a {name} {most}, got {column[wrong[0]]}")


def _row(table: _Table, row: int) -> str:
    return f"{table.path}, line {table.preamble.lines + 2 + row}"


def _read(files: list[Path], layers: tuple[int, ...], top_k: int, *, with_weights: bool) -> Iterator[Block]:
    documents = done = 0
    for path in files:
        table = _load(path)
        done += path.stat().st_size
        turn, step, token = _tokens_of(table)
        experts, weights = _spread(table, token, layers, top_k)
        turns, document = np.unique(turn, return_inverse=True)
        phase = np.zeros(len(turn), np.uint8)
        phase[token] = table.integers["phase"]
        if (phase[token] != table.integers["phase"]).any():
            row = int(np.argmax(phase[token] != table.integers["phase"]))
            raise TraceError(f"{_row(table, row)}: expected one phase for all rows of a token, got 0 and 1")
        yield Block(
            document=documents + document,
            keys=[path.stem if len(turns) == 1 else f"{path.stem}:{number}" for number in turns.tolist()],
            experts=experts,
            weights=weights if with_weights else None,
            tokens={"position": step, "phase": phase},
            where=partial(_place, path, turn, step),
            bytes_read=done,
        )
        documents += len(turns)


def _place(path: Path, turn: NDArray[np.int32], step: NDArray[np.int32], token: int) -> str:
    return f"{path}, turn {turn[token]}, step {step[token]}"


def _tokens_of(table: _Table) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Return the turn and the step of each token [tokens], in order, and the token of each row [rows]."""
    keys = table.integers["turn"].astype(np.int64) << 32 | table.integers["step"]
    tokens, token = np.unique(keys, return_inverse=True)
    return (tokens >> 32).astype(np.int32), (tokens & 0xFFFFFFFF).astype(np.int32), token


def _spread(
    table: _Table, token: NDArray[np.int64], layers: tuple[int, ...], top_k: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the experts and gate weights [tokens, layers, k] of a file.

    Raises:
        TraceError: a slot occurs twice, a token has some of the slots of a layer but not all, or most are empty.
    """
    tokens, slots = int(token.max()) + 1, table.integers["slot"]
    size = tokens * len(layers) * top_k
    if size > max(_ALWAYS_FINE, _SPARSEST * len(token)):
        raise TraceError(
            f"{table.path}: expected rows for nearly all of {tokens:,} tokens x {len(layers)} layers x {top_k} slots, "
            f"got {len(token):,} rows; the file is damaged"
        )
    if slots.max() >= top_k:
        raise TraceError(f"{table.path}: expected slots below k = {top_k}, got {slots.max()}; set top_k")
    layer = np.searchsorted(layers, table.integers["layer"])
    cell = token * len(layers) + layer
    place = cell * top_k + slots
    if len(twice := np.flatnonzero(np.bincount(place) > 1)):
        row = int(np.flatnonzero(place == twice[0])[1])
        raise TraceError(f"{_row(table, row)}: expected each slot of a token once, got turn, step, layer, slot again")
    filled = np.bincount(cell)[cell]
    if (filled != top_k).any():
        row = int(np.argmax(filled != top_k))
        raise TraceError(
            f"{_row(table, row)}: expected {top_k} slots for a token in a layer, got {filled[row]}; the file is "
            f"truncated, or k is another ({list_names(sorted(set(filled.tolist())))}): set top_k"
        )
    experts = np.full(size, NO_EXPERT, np.int16)
    weights = np.zeros(size, np.float32)
    experts[place], weights[place] = table.integers["expert"], table.weights
    shape = (tokens, len(layers), top_k)
    return experts.reshape(shape), weights.reshape(shape)
