"""From an opened input to a run folder: checked, cut into shards, and written completely or not at all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.events import SILENT, Reporter, Update
from specialize.manifest import versions
from specialize.rate import Rate
from specialize.trace.folders import whole_folder
from specialize.trace.imports.checks import Checker, largest_expert
from specialize.trace.imports.documents import ImportedDocuments
from specialize.trace.imports.formats import open_source
from specialize.trace.imports.plausibility import Plausibility, check_not_all_zero
from specialize.trace.imports.source import BLOCK_TOKENS, Block, ImportOptions, read_layers
from specialize.trace.reader import RoutingTrace, open_trace
from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import Shard, TraceWriter

_SECONDS_OF_RATE = 30.0
_KNOWN_TO_INPUT = ("token_id", "char_start", "char_end")


def import_trace(
    format_name: str,
    path: str | PathLike[str],
    run: str | PathLike[str],
    *,
    documents: str | PathLike[str] | None = None,
    num_experts: int | None = None,
    top_k: int | None = None,
    layers: str | Sequence[int] | None = None,
    num_layers: int | None = None,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> RoutingTrace:
    """Write the routing that another tool recorded as a trace.

    The input is streamed. If the number of experts is not known, the input is read twice, the first time for the
    largest id. Columns of the tokens that the input lacks are filled with UNKNOWN (-1); texts are null.

    Args:
        format_name: ``esft``, ``olmoe``, ``vllm``, ``sglang``, ``route-trace``, ``megatron`` or ``arrays``, a key of
            `FORMATS`.
        path: the input, a file or folder of that format.
        run: the run folder to create, all of it or nothing.
        documents: a table of the documents (id, text, labels) that `specialize.corpus.open_corpus` reads; rows are
            matched by id if the format has ids, else by number.
        num_experts: E; default: as the input says, else its largest id plus one.
        top_k: k, for formats that do not state it.
        layers: numbers of the MoE layers, as the model numbers them, or text such as ``1-26`` or ``0,2,4``; default:
            all layers of the input.
        num_layers: layers per token in the input, dense ones included, for formats that do not state it (sglang).
        command: the command line, for the manifest.
        reporter: receives messages about what was inferred, and the progress.

    Returns:
        The trace.

    Raises:
        TraceError: the format is unknown, or the input cannot be read, is empty or inconsistent; the message
            names the place.
        CorpusError: the table of documents cannot be read.
        OutputError: the run folder is not empty or cannot be written.
    """
    options = ImportOptions(
        num_experts=num_experts,
        top_k=top_k,
        layers=read_layers(layers) if isinstance(layers, str) else None if layers is None else tuple(layers),
        num_layers=num_layers,
        documents=None if documents is None else Path(documents),
    )
    with reporter.progress("importing", "MB") as update:
        clock = _Clock(update)
        _import(format_name, Path(path), Path(run), options, command, clock, reporter)
    return open_trace(run)


def _import(
    format_name: str,
    path: Path,
    run: Path,
    options: ImportOptions,
    command: str | None,
    clock: "_Clock",
    reporter: Reporter,
) -> None:
    source = open_source(format_name, path, options)
    documents = ImportedDocuments(options.documents or source.documents)
    for note in (*documents.notes, *source.notes):
        reporter.say(note)
    num_experts = options.num_experts or source.num_experts
    clock.total = source.size
    facts = dict(source.facts)
    with whole_folder(run) as folder:
        if num_experts is None:
            clock.total = 2 * source.size
            largest = largest_expert(source, options.layers, clock.count(source.read()))
            check_not_all_zero(str(path), largest)
            num_experts = 1 + largest
            clock.passed = source.size
            facts["num_experts_inferred"] = True
            reporter.say(f"{num_experts} experts, inferred from the largest id; set num_experts if there are more")
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
            plausibility = Plausibility(str(path), num_experts=num_experts)
            for shard in _shards(checker, documents, clock.count(source.read())):
                if not writer.num_shards:
                    writer.describe(routers=_routers(checker, format_name), contents=checker.contents)
                writer.write_shard(shard)
                for layer, columns in zip(checker.layers, shard.routing, strict=True):
                    plausibility.see(layer, columns["experts"])
            if not writer.num_shards:
                raise TraceError(f"{path}: expected the routing of at least one token, got none")
            for finding in plausibility.judge():
                reporter.say(finding)
            writer.write_documents(*documents.batches())
            writer.describe(
                corpus={
                    "source": str(documents.table or path),
                    "digest": documents.digest,
                    "documents": documents.count,
                    "labels": documents.labels,
                    "group": documents.group if documents.group in documents.labels else None,
                }
            )
            writer.finish()
    if documents.left_out:
        reporter.say(f"{documents.left_out} documents of {documents.table} have no tokens and are left out")


def _routers(checker: Checker, format_name: str) -> list[dict[str, Any]]:
    return [
        RouterSpec(
            layer=number,
            name=checker.source.names.get(number, f"layers.{number}"),
            num_experts=checker.num_experts,
            top_k=checker.top_k,
            found_by=f"import of {format_name}",
        ).as_dict()
        for number in checker.layers
    ]


class _Clock:
    """Reports the bytes read, in megabytes, over one pass or two.

    Attributes:
        total: bytes to read in all passes.
        passed: bytes read in the passes before the current one.
    """

    def __init__(self, update: Update) -> None:
        self.total = self.passed = 0
        self._update = update
        self._speed = Rate(_SECONDS_OF_RATE)

    def count(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks of a pass, reporting each once it has been dealt with."""
        for block in blocks:
            yield block
            self._speed.count(len(block.experts))
            done = (self.passed + block.bytes_read) // 10**6
            self._update(done, -(-self.total // 10**6), rate=f"{self._speed.value:,.0f} tokens/s")


def _shards(checker: Checker, documents: ImportedDocuments, blocks: Iterator[Block]) -> Iterator[Shard]:
    """Check the blocks and cut them into shards of `BLOCK_TOKENS` tokens."""
    held: list[dict[str, NDArray[Any]]] = []
    count = 0
    last_document, seen = -1, 0
    for block in blocks:
        documents.take(block.keys, block.where(0) if len(block.experts) else str(checker.source.path))
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
    tokens |= {name: column for name, column in columns.items() if name not in ("experts", "weights")}
    routing = []
    for layer in range(len(checker.layers)):
        parts = {"experts": columns["experts"][:, layer]}
        if "weights" in columns:
            parts["weights"] = columns["weights"][:, layer]
        routing.append(parts)
    return Shard(tokens, routing)
