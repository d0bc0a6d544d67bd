"""Blocks of an input cut into shards of equal size, with the columns that every trace has."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.trace.imports.checks import Checker
from specialize.trace.imports.documents import ImportedDocuments, LabelledDocuments
from specialize.trace.imports.source import BLOCK_TOKENS, Block
from specialize.trace.schema import UNKNOWN
from specialize.trace.writer import Shard

_KNOWN_TO_INPUT = ("token_id", "char_start", "char_end")


def cut_shards(
    checker: Checker, documents: ImportedDocuments | LabelledDocuments, blocks: Iterator[Block]
) -> Iterator[Shard]:
    """Check the blocks and cut them into shards of `BLOCK_TOKENS` tokens.

    Args:
        checker: of the blocks.
        documents: receives the documents that begin in each block.
        blocks: the input, in order.

    Raises:
        TraceError: as `Checker.check`, or as the documents.
    """
    held: list[dict[str, NDArray[Any]]] = []
    count = 0
    last_document, seen = -1, 0
    for block in blocks:
        documents.take(block, block.where(0) if len(block.experts) else str(checker.source.path))
        if not len(block.experts):
            continue
        held.append(checker.check(block))
        documents.check_places(block)
        count += len(block.experts)
        while count >= BLOCK_TOKENS:
            joined = {name: np.concatenate([part[name] for part in held]) for name in held[0]}
            ready = {name: column[:BLOCK_TOKENS] for name, column in joined.items()}
            held = [{name: column[BLOCK_TOKENS:] for name, column in joined.items()}]
            count -= BLOCK_TOKENS
            yield _shard(checker, ready, last_document, seen)
            last_document, seen = _carry(ready["document"], last_document, seen)
    if count:
        joined = {name: np.concatenate([part[name] for part in held]) for name in held[0]}
        yield _shard(checker, joined, last_document, seen)


def _carry(document: NDArray[np.integer], last_document: int, seen: int) -> tuple[int, int]:
    """Return the last document of a shard and the number of its tokens so far."""
    last = int(document[-1])
    count = int((document == last).sum())
    return last, count + (seen if last == last_document else 0)


def _shard(checker: Checker, columns: Mapping[str, NDArray[Any]], last_document: int, seen: int) -> Shard:
    document = columns["document"]
    position = np.arange(len(document)) - np.searchsorted(document, document)
    position[document == last_document] += seen
    unknown = {name: np.full(len(document), UNKNOWN) for name in _KNOWN_TO_INPUT}
    tokens = unknown | {"position": position, "sequence": document, "phase": np.zeros(len(document), np.uint8)}
    tokens |= {name: column for name, column in columns.items() if name not in (checker.column, "weights")}
    routing = []
    for layer in range(len(checker.layers)):
        parts = {checker.column: columns[checker.column][:, layer]}
        if "weights" in columns:
            parts["weights"] = columns["weights"][:, layer]
        routing.append(parts)
    return Shard(tokens, routing)
