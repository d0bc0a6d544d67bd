"""Megatron-LM's router traces: a file router_trace_rankN.jsonl for each rank, a record for each step and router.

    {"step": 0, "block": "decoder", "layer": 3, "rank": 0, "num_tokens": T, "topk": k, "top_indices": [[…], …], …}

A step of a rank becomes a document, and each of its micro-batches one if there are several: ranks hold different
tokens. Records of the multi-token prediction head (`mtp_idx`) are of another router than the decoder's layer of that
number; such routers are numbered after the decoder's last layer. A router without a record in a step has no experts
there (-1): the tracer leaves out tokens of which slots were dropped.

Source: https://github.com/NVIDIA/Megatron-LM, megatron/core/transformer/moe/router_trace.py.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specialize.corpus.json_lines import parse_json
from specialize.errors import TraceError
from specialize.trace.imports.source import (
    Block,
    ImportOptions,
    Source,
    check_file,
    guard_parser,
    list_files,
    read_lines,
)
from specialize.trace.schema import LAYERS, NO_EXPERT

_ENOUGH_TO_TELL = 16  # tokens; of fewer, two ranks can have the same experts by chance


class _Router(NamedTuple):
    """What a router is called; routers sort in the order in which tokens pass them."""

    is_mtp: bool
    mtp_index: int
    layer: int

    @property
    def name(self) -> str:
        """Its name in the trace."""
        return f"mtp.{self.mtp_index}.layers.{self.layer}" if self.is_mtp else f"layers.{self.layer}"


@dataclass(frozen=True)
class _Record:
    """A line: the experts [tokens, k] that a router chose in a step."""

    where: str
    rank: int
    step: int
    router: _Router
    experts: NDArray[np.int64]
    bytes_read: int


def open_megatron(path: Path, options: ImportOptions) -> Source:
    """Open the router trace of one rank, or a folder with those of several."""
    patterns = ["*.jsonl"] if path.is_file() else ["*router_trace_rank*.jsonl"]
    files = list_files(path, patterns, what="Megatron's router traces, one file for each rank")
    for file in files:
        check_file(file)
    routers = {file: {record.router for record in _records([file])} for file in files}
    _check_stages(routers)
    first = {file: _first_step(file) for file in files}
    _check_ranks(first)
    numbers = _number(sorted(set.union(*routers.values())), options.model.num_layers if options.model else 0)
    kept = {router: number for router, number in numbers.items() if number in (options.layers or numbers.values())}
    if options.layers is not None and len(kept) < len(options.layers):
        kept = numbers  # a layer that is not there is refused where layers are chosen
    return Source(
        path=path,
        read=lambda: _read(files, list(kept)),
        size=sum(file.stat().st_size for file in files),
        layers=tuple(kept.values()),
        marks_absent=True,
        names={number: router.name for router, number in kept.items() if router.is_mtp},
        notes=_judge_order([record for records in first.values() for record in records]),
    )


def _number(routers: list[_Router], num_layers: int) -> dict[_Router, int]:
    """Return the number of each router as a layer: the decoder's own numbers, and then those of the MTP head.

    Args:
        routers: in order.
        num_layers: layers of the decoder, as far as they are known.
    """
    numbers = {router: router.layer for router in routers if not router.is_mtp}
    first = max([num_layers, *(1 + layer for layer in numbers.values())])
    heads = (router for router in routers if router.is_mtp)
    return numbers | {router: number for number, router in enumerate(heads, start=first)}


def _first_step(file: Path) -> list[_Record]:
    _, records = next(groupby(_records([file]), key=lambda record: record.step))
    return list(records)


def _check_stages(routers: Mapping[Path, set[_Router]]) -> None:
    """Raise TraceError if a file is empty, or two have no router in common."""
    first = next(iter(routers))
    for file, known in routers.items():
        if not known:
            raise TraceError(f"{file}: expected routing, got a file without records")
        if known.isdisjoint(routers[first]):
            raise TraceError(
                f"{file}: expected some of the routers of {first.name}, got other layers alone; import the ranks of "
                "each stage of the pipeline separately"
            )


def _check_ranks(first: Mapping[Path, list[_Record]]) -> None:
    """Raise TraceError if two ranks hold the same tokens."""
    seen: dict[tuple[Any, ...], Path] = {}
    for file, records in first.items():
        key = tuple((record.router, record.experts.shape, record.experts.tobytes()) for record in records)
        if key in seen and sum(len(record.experts) for record in records) >= _ENOUGH_TO_TELL:
            raise TraceError(
                f"{file}: expected other tokens than those of {seen[key].name}, got the same experts in the first "
                "step; of ranks that share their tokens (tensor parallelism), import one"
            )
        seen.setdefault(key, file)


def _judge_order(records: list[_Record]) -> tuple[str, ...]:
    """Return a note if the experts of every token are ordered by their ids, as from a tracer that reads a mask."""
    several = [record.experts for record in records if record.experts.shape[1] > 1]
    count = sum(map(len, several))
    if count < _ENOUGH_TO_TELL or not all((np.diff(experts, axis=1) > 0).all() for experts in several):
        return ()
    return ("the experts of each token are ordered by their ids: slot 0 is not the router's first choice",)


def _read(files: list[Path], routers: list[_Router]) -> Iterator[Block]:
    document = 0
    for (rank, step), records in groupby(_records(files), key=lambda record: (record.rank, record.step)):
        found: dict[_Router, list[_Record]] = defaultdict(list)
        for record in records:
            if record.router in routers:
                found[record.router].append(record)
        for number, batch in enumerate(_micro_batches(found)):
            last = list(batch.values())[-1]
            experts = _stack(batch, routers)
            name = f"rank{rank}-step{step}" + (f"-{number}" if number else "")
            yield Block(
                document=np.full(len(experts), document),
                keys=[name] if len(experts) else [],
                experts=experts,
                where=partial(_place, last.where),
                bytes_read=last.bytes_read,
            )
            document += len(experts) > 0


def _place(where: str, token: int) -> str:
    return f"{where} or before, token {token}"


def _micro_batches(found: Mapping[_Router, list[_Record]]) -> Iterator[dict[_Router, _Record]]:
    """Yield the records of one micro-batch after the other."""
    most = max(map(len, found.values()), default=0)
    for records in found.values():
        if len(records) < most:
            raise TraceError(
                f"{records[0].where}: expected {most} records of {records[0].router.name} in step {records[0].step}, "
                f"as many as micro-batches, got {len(records)}; the step is not complete: remove it"
            )
    for number in range(most):
        yield {router: records[number] for router, records in found.items()}


def _stack(batch: Mapping[_Router, _Record], routers: list[_Router]) -> NDArray[np.int64]:
    """Return the experts [tokens, routers, k]; -1 where a router has no record."""
    first = next(iter(batch.values()))
    experts = np.full((len(first.experts), len(routers), first.experts.shape[1]), NO_EXPERT)
    for router, record in batch.items():
        if record.experts.shape != first.experts.shape:
            raise TraceError(
                f"{record.where}: expected the experts of {first.router.name}, {list(first.experts.shape)}, in every "
                f"router, got {list(record.experts.shape)} of {router.name}; leave that router out with `layers`"
            )
        experts[:, routers.index(router)] = record.experts
    return experts


def _records(files: list[Path]) -> Iterator[_Record]:
    for path, number, line, done in read_lines(files):
        where = f"{path}, line {number}"
        with guard_parser(where, "one JSON object with step, layer, rank and top_indices"):
            value = parse_json(line)
            if not isinstance(value, dict):
                raise ValueError("another value")
        block = value.get("block", "decoder")
        if block not in ("decoder", "mtp"):
            raise TraceError(f"{where}: expected a block of decoder or mtp, got {block!r:.60}")
        is_mtp = block == "mtp" or value.get("mtp_idx") is not None
        router = _Router(
            is_mtp,
            _integer(value, "mtp_idx", where, below=LAYERS.stop) if is_mtp else 0,
            _integer(value, "layer", where, below=LAYERS.stop),
        )
        yield _Record(
            where=where,
            rank=_integer(value, "rank", where),
            step=_integer(value, "step", where),
            router=router,
            experts=_experts(value, where),
            bytes_read=done,
        )


def _integer(record: Mapping[str, Any], name: str, where: str, *, below: int = 2**62) -> int:
    value = record.get(name)
    if type(value) is not int or not 0 <= value < below:
        raise TraceError(f"{where}: expected {name} as an integer from 0 to {below - 1}, got {value!r:.60}")
    return value


def _experts(record: Mapping[str, Any], where: str) -> NDArray[np.int64]:
    top_k = _integer(record, "topk", where) if "topk" in record else None
    lists = record.get("top_indices")
    try:
        experts = np.array(lists)
    except ValueError:
        raise TraceError(f"{where}: expected top_indices with lists of the same length, got others") from None
    if lists == []:
        experts = np.zeros((0, top_k or 1), np.int64)
    if experts.ndim != 2 or experts.dtype.kind != "i" or not experts.shape[1]:
        raise TraceError(f"{where}: expected top_indices as lists of integers [tokens, k], got something else")
    for name, size in zip(("num_tokens", "topk"), experts.shape, strict=True):
        if name in record and record[name] != size:
            raise TraceError(
                f"{where}: expected top_indices of {name} = {record[name]!r:.60}, got {size}; the record is damaged"
            )
    return experts.astype(np.int64)
