"""From an opened input to a run folder: checked, cut into shards, and written completely or not at all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from specialize.errors import TraceError
from specialize.events import SILENT, Reporter, Update
from specialize.manifest import versions
from specialize.rate import Rate
from specialize.remote.places import at_addresses
from specialize.trace.folders import whole_folder
from specialize.trace.imports.checks import Checker, largest_expert
from specialize.trace.imports.documents import ImportedDocuments, LabelledDocuments
from specialize.trace.imports.formats import open_source
from specialize.trace.imports.joining import DEFAULT_LABEL, join_sources, name_inputs
from specialize.trace.imports.model_config import fit_layers, read_model
from specialize.trace.imports.plausibility import Plausibility, check_not_all_zero
from specialize.trace.imports.shards import cut_shards
from specialize.trace.imports.source import Block, ImportOptions, Source, read_layers
from specialize.trace.imports.texts import Texts, has_tokenizer
from specialize.trace.imports.usage import UsageChecker
from specialize.trace.reader import RoutingTrace, open_trace
from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import TraceWriter

_SECONDS_OF_RATE = 30.0


@at_addresses(run="written")
def import_trace(
    format_name: str,
    path: str | PathLike[str] | Mapping[str, str | PathLike[str]],
    run: str | PathLike[str],
    *,
    documents: str | PathLike[str] | None = None,
    num_experts: int | None = None,
    top_k: int | None = None,
    layers: str | Sequence[int] | None = None,
    num_layers: int | None = None,
    label: str | None = None,
    model: str | PathLike[str] | None = None,
    tokenizer: Any = None,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> RoutingTrace:
    """Write the routing that another tool recorded as a trace.

    The input is streamed. If the number of experts is not known, the input is read twice, the first time for the
    largest id. Columns of the tokens that the input lacks are filled with UNKNOWN (-1); without a table and a
    tokenizer, texts are null.

    Args:
        format_name: ``esft``, ``olmoe``, ``vllm``, ``sglang``, ``tensorrt-llm``, ``route-trace``, ``megatron``,
            ``usage`` or ``arrays``, a key of `FORMATS`.
        path: the input, a file or folder of that format; or several inputs by name. The documents of all of them are
            in one trace, with the name of their input as a label, and before their ids.
        run: the run folder to create, all of it or nothing.
        documents: a table of the documents (id, text, labels) that `specialize.corpus.open_corpus` reads; rows are
            matched by id if the format has ids, else by number. Not with several inputs.
        num_experts: E; default: as the input says, else its largest id plus one.
        top_k: k, for formats that do not state it.
        layers: numbers of the MoE layers, as the model numbers them, or text such as ``1-26`` or ``0,2,4``; default:
            all layers of the input.
        num_layers: layers per token in the input, dense ones included, for formats that do not state it (sglang).
        label: column of documents for the names of several inputs; default: ``input``.
        model: a folder with the model's config.json, or its hub id: E, k and the MoE layers are read from there unless
            they are given, and an input that cannot be of the model raises an error. No code of the model is run.
        tokenizer: of the model: a folder or hub id, or a tokenizer of transformers. Token ids are decoded to the texts
            of documents without one, and tokens get their characters, as in a trace; special tokens at the ends are no
            text. No code that comes with the tokenizer is run.
        command: the command line, for the manifest.
        reporter: receives messages about what was inferred, and the progress.

    Returns:
        The trace.

    Raises:
        TraceError: the format is unknown, or the input cannot be read, is empty or inconsistent; the message
            names the place.
        CorpusError: the table of documents cannot be read.
        OutputError: the run folder is not empty or cannot be written.
        MissingExtraError: the package that loads tokenizers is not installed.
    """
    options = ImportOptions(
        num_experts=num_experts,
        top_k=top_k,
        layers=read_layers(layers) if isinstance(layers, str) else None if layers is None else tuple(layers),
        num_layers=num_layers,
        documents=None if documents is None else Path(documents),
        model=None if model is None else read_model(model),
    )
    inputs = name_inputs(path, label)
    with reporter.progress("importing", "MB") as update:
        clock = _Clock(update)
        names = label or DEFAULT_LABEL
        _import(
            format_name, inputs, Path(run), options, clock, reporter, label=names, tokenizer=tokenizer, command=command
        )
    return open_trace(run)


def _import(
    format_name: str,
    inputs: Mapping[str, Path],
    run: Path,
    options: ImportOptions,
    clock: "_Clock",
    reporter: Reporter,
    *,
    label: str,
    tokenizer: Any,
    command: str | None,
) -> None:
    told: list[str] = []  # what the run's reader should know, too

    def say(note: str) -> None:
        told.append(note)
        reporter.say(note)

    source, documents = _open(format_name, inputs, options, label)
    texts = None if tokenizer is None else Texts(tokenizer, documents)
    for note in (*documents.notes, *source.notes):
        say(note)
    if options.model is not None:
        layers, notes = fit_layers(options.model, source, options.layers)
        options = replace(options, layers=layers)
        for note in notes:
            say(note)
    clock.total = source.size
    with whole_folder(run) as folder:
        num_experts, facts = _count_experts(source, options, clock, say)
        settings = {
            "import": format_name,
            "source": str(source.path),
            "num_experts": num_experts,
            "top_k": options.top_k,
            "layers": options.layers and list(options.layers),
        }
        kind = UsageChecker if source.is_usage else Checker
        checker = kind(source, num_experts=num_experts, layers=options.layers)
        provenance = {"command": command, "versions": versions(), **source.facts, **facts}
        with TraceWriter(folder, settings=settings, provenance=provenance) as writer:
            for finding in _write(writer, checker, documents, texts, options, format_name, clock):
                say(finding)
            if documents.left_out:
                table, what = documents.table or "the tables", "usage" if source.is_usage else "tokens"
                say(f"{documents.left_out} documents of {table} have no {what} and are left out")
            writer.describe(**({"notes": told} if told else {}))
            writer.finish()


def _count_experts(
    source: Source, options: ImportOptions, clock: "_Clock", say: Callable[[str], None]
) -> tuple[int, dict[str, Any]]:
    """Return E, as given, stated or by the model, else by the largest id; and what the manifest says of it."""
    model = options.model
    facts = {} if model is None else {"model": {"name": model.name, "config": dict(model.config)}}
    num_experts = options.num_experts or source.num_experts or (model.num_experts if model else None)
    if num_experts is not None:
        return num_experts, facts
    clock.total = 2 * source.size
    largest = largest_expert(source, options.layers, clock.count(source.read()))
    check_not_all_zero(str(source.path), largest)
    clock.passed = source.size
    say(f"{largest + 1} experts, inferred from the largest id; set num_experts if there are more")
    return largest + 1, facts | {"num_experts_inferred": True}


def _write(
    writer: TraceWriter,
    checker: Checker,
    documents: ImportedDocuments | LabelledDocuments,
    texts: Texts | None,
    options: ImportOptions,
    format_name: str,
    clock: "_Clock",
) -> Iterator[str]:
    """Write all of the trace but its manifest, and yield what a user should know of its routing."""
    source = checker.source
    plausibility = Plausibility(str(source.path), num_experts=checker.num_experts)
    blocks, has_unread_ids = clock.count(source.read()), False
    for shard in cut_shards(checker, documents, texts.add(blocks) if texts else blocks):
        if not writer.num_shards:
            writer.describe(routers=_routers(checker, format_name), contents=checker.contents)
        writer.write_shard(shard)
        ids, places = shard.tokens["token_id"], shard.tokens["char_start"]
        has_unread_ids |= bool((ids != UNKNOWN).any() and (places == UNKNOWN).all())
        if not source.is_usage:  # which is judged when it is opened
            chosen = (columns["experts"] for columns in shard.routing)
            plausibility.see(dict(zip(checker.layers, chosen, strict=True)))
    findings = (source.findings(), *((texts.findings(),) if texts else ()))
    if not writer.num_shards:
        notes = "; ".join(note for found in findings[:1] for note in found.notes)
        raise TraceError(
            f"{source.path}: expected the routing of at least one token, got none" + (f" ({notes})" if notes else "")
        )
    if not source.is_usage:
        yield from plausibility.judge()
    for found in findings:
        writer.describe(**found.facts)
        yield from found.notes
    if has_unread_ids and not texts and options.model and has_tokenizer(options.model.name):
        yield (
            f"{options.model.name} holds a tokenizer: set tokenizer, and token ids become texts, which topics and "
            "syntax need"
        )
    writer.write_documents(*documents.batches())
    writer.describe(
        corpus={
            "source": str(documents.table or source.path),
            "digest": documents.digest,
            "documents": documents.count,
            "labels": documents.labels,
            "group": documents.group if documents.group in documents.labels else None,
        }
    )


def _open(
    format_name: str, inputs: Mapping[str, Path], options: ImportOptions, label: str
) -> tuple[Source, ImportedDocuments | LabelledDocuments]:
    """Open the inputs, one or several by name, and the tables of their documents."""
    sources = {name: open_source(format_name, path, options) for name, path in inputs.items()}
    if sources.keys() == {""}:
        return sources[""], ImportedDocuments(options.documents or sources[""].documents)
    if options.documents is not None:
        raise TraceError(
            f"{options.documents}: expected no table of documents for several inputs; put documents.parquet beside "
            "each input in the format `arrays`, or import the inputs one at a time"
        )
    tables = {name: ImportedDocuments(source.documents) for name, source in sources.items()}
    return join_sources(sources), LabelledDocuments(tables, label)


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
