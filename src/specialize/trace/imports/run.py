"""From an opened input to a run folder: checked, cut into shards, whole or absent."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.manifest import versions
from specialize.trace.folders import whole_folder
from specialize.trace.imports.checks import Checker, largest_expert
from specialize.trace.imports.documents import ImportedDocuments
from specialize.trace.imports.formats import open_source
from specialize.trace.imports.source import BLOCK_TOKENS, Block, ImportOptions, Source
from specialize.trace.reader import RoutingTrace, open_trace
from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import Shard, TraceWriter

_TOLD_BY_INPUT = ("token_id", "char_start", "char_end")


@dataclass(frozen=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        bytes_done, bytes: bytes of the input read, and of how many. Over both passes where there are two.
        tokens: tokens read so far.
    """

    bytes_done: int
    bytes: int
    tokens: int


def import_trace(
    format_name: str,
    path: Path,
    run: Path,
    *,
    options: ImportOptions | None = None,
    command: str | None = None,
    on_progress: Callable[[ImportProgress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> RoutingTrace:
    """Write the routing that another tool recorded as a trace.

    The input is streamed; where nothing tells the number of experts it is read twice, the first time for the
    largest id. What the input does not tell is UNKNOWN (-1) among the tokens' columns; texts are null.

    Args:
        format_name: a key of `FORMATS`.
        path: the input.
        run: the run folder to make; it is there whole, or not at all.
        options: what the input does not tell.
        command: the command line, for the manifest.
        on_progress: called after each block.
        on_note: called with what was inferred.

    Raises:
        TraceError: the format is unknown, or the input cannot be read, is empty or contradicts itself; the message
            names the place.
        CorpusError: the table of documents cannot be read.
        OutputError: the run folder is not empty or cannot be written.
    """
    options = options or ImportOptions()
    source = open_source(format_name, path, options)
    documents = ImportedDocuments(options.documents or source.documents)
    for note in source.notes:
        on_note(note)
    num_experts, passes = options.num_experts or source.num_experts, 1
    facts = dict(source.facts)
    with whole_folder(run) as folder:
        if num_experts is None:
            passes = 2
            highest = largest_expert(source, options.layers, _counting(source, passes, 0, on_progress))
            num_experts = highest + 1
            facts["num_experts_inferred"] = True
            on_note(f"{num_experts} experts, inferred from the largest id; --num-experts says otherwise")
        settings = {
            "import": format_name,
            "source": str(path),
            "num_experts": num_experts,
            "top_k": options.top_k,
            "layers": options.layers and list(options.layers),
        }
        provenance = {"command": command, "versions": versions(), **facts}
        with TraceWriter(folder, settings=settings, provenance=provenance) as writer:
            checker = Checker(source, num_experts=num_experts, layers=options.layers)
            blocks = _counting(source, passes, passes - 1, on_progress)
            for shard in _shards(checker, documents, blocks):
                if not writer.num_shards:
                    writer.describe(routers=_routers(checker, format_name), contents=checker.contents)
                writer.write_shard(shard)
            if not writer.num_shards:
                raise TraceError(f"{path}: expected the routing of at least one token, got none")
            writer.write_documents(*documents.batches())
            writer.describe(
                corpus={
                    "source": str(documents.table or path),
                    "digest": documents.digest,
                    "documents": documents.count,
                    "labels": documents.labels,
                }
            )
            writer.finish()
    if documents.left_out:
        on_note(f"{documents.left_out} documents of {documents.table} have no tokens and are left out")
    return open_trace(run)


def _routers(checker: Checker, format_name: str) -> list[dict[str, Any]]:
    return [
        RouterSpec(
            layer=number,
            name=f"layers.{number}",
            num_experts=checker.num_experts,
            top_k=checker.top_k,
            found_by=f"import of {format_name}",
        ).as_dict()
        for number in checker.layers
    ]


def _counting(
    source: Source, passes: int, passed: int, on_progress: Callable[[ImportProgress], None]
) -> Iterator[Block]:
    tokens = 0  # of this pass
    for block in source.read():
        yield block
        tokens += len(block.experts)
        on_progress(ImportProgress(passed * source.size + block.bytes_read, passes * source.size, tokens))


def _shards(checker: Checker, documents: ImportedDocuments, blocks: Iterator[Block]) -> Iterator[Shard]:
    """Checked blocks, put together and cut into shards of `BLOCK_TOKENS`."""
    held: list[dict[str, NDArray[Any]]] = []
    count = 0
    last_document, seen = -1, 0
    for block in blocks:
        documents.take(block.keys, block.where(0) if len(block.experts) else str(checker.source.path))
        if not len(block.experts):
            continue
        held.append(checker.check(block))
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
    """The last document of a shard, and how many of its tokens there were so far."""
    last = int(document[-1])
    count = int((document == last).sum())
    return last, count + (seen if last == last_document else 0)


def _shard(checker: Checker, columns: Mapping[str, NDArray[Any]], last_document: int, seen: int) -> Shard:
    document = columns["document"]
    position = np.arange(len(document)) - np.searchsorted(document, document)
    position[document == last_document] += seen
    unknown = {name: np.full(len(document), UNKNOWN) for name in _TOLD_BY_INPUT}
    tokens = unknown | {"position": position, "sequence": document, "phase": np.zeros(len(document), np.uint8)}
    tokens |= {name: column for name, column in columns.items() if name not in ("experts", "weights")}
    routing = []
    for layer in range(len(checker.layers)):
        parts = {"experts": columns["experts"][:, layer]}
        if "weights" in columns:
            parts["weights"] = columns["weights"][:, layer]
        routing.append(parts)
    return Shard(tokens, routing)
