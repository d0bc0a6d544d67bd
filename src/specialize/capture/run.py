"""A corpus through a model, into a trace."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from specialize.capture.batches import ShardTracer
from specialize.capture.loading import Checkpoint
from specialize.capture.plan import (
    CorpusSurvey,
    TraceOptions,
    TracePlan,
    plan_trace,
    survey_corpus,
    tokens_of_a_shard,
)
from specialize.capture.recorder import Recorder
from specialize.capture.routers import find_routers
from specialize.capture.windows import Window, cut_windows, group_windows, plan_batches
from specialize.corpus import Corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.manifest import versions
from specialize.trace import RoutingTrace, Shard, TraceWriter, open_trace, validate_trace

LONGEST_DEFAULT_CONTEXT = 2048
DOCUMENTS_AT_ONCE = 512
CHARACTERS_AT_ONCE = 2**22


@dataclass(frozen=True)
class TraceProgress:
    """How far a trace is.

    Attributes:
        documents_done, documents: documents traced, and of how many.
        tokens: tokens traced in this process.
        tokens_per_second: over this process.
        batch_tokens: padded tokens of a forward pass, fewer than asked for after memory ran out.
    """

    documents_done: int
    documents: int
    tokens: int
    tokens_per_second: float
    batch_tokens: int


def trace_corpus(
    checkpoint: Checkpoint,
    corpus: Corpus,
    run: Path,
    *,
    options: TraceOptions | None = None,
    repair: bool = False,
    command: str | None = None,
    on_plan: Callable[[TracePlan], None] = lambda plan: None,
    on_progress: Callable[[TraceProgress], None] = lambda progress: None,
) -> RoutingTrace:
    """Run a corpus through a model and write its routing trace.

    An interrupted trace of the same settings is gone on with; a complete one is opened as it is.

    Args:
        checkpoint: the model.
        corpus: the documents.
        run: the run folder, made when missing.
        options: how the corpus is run, and what is recorded.
        repair: check what is there, and make anew the shards that are missing or damaged.
        command: the command line, for the manifest.
        on_plan: called with what the trace will take, before anything is written.
        on_progress: called after each batch.

    Raises:
        CaptureError: the model has no routing that can be captured, or memory does not suffice for one window.
        CorpusError: the corpus cannot be read, is empty, or changed since the trace was begun.
        TraceError: the folder holds something else, or another process is writing to it.
        OutputError: the disk is full, or the folder cannot be written.
    """
    options = options or TraceOptions()
    context_length = _context_length(checkpoint, options)
    settings = {
        "model": checkpoint.name,
        "revision": checkpoint.facts["revision"],
        "config_digest": checkpoint.facts["config_digest"],
        "dtype": checkpoint.facts["dtype"],
        "device": checkpoint.model.device.type,
        "corpus": corpus.source,
        "limit": corpus.limit,
        "context_length": context_length,
        "stride": options.stride or context_length,
        "batch_tokens": options.batch_tokens,
        "shard_tokens": options.shard_tokens,
        "contents": list(options.contents),
        "control": options.control,
        "seed": options.seed if options.control else None,
    }
    provenance = {"command": command, "versions": versions(), "model": checkpoint.facts}
    writer = TraceWriter(run, settings=settings, provenance=provenance)
    # before anything is written: a dense model or a broken corpus leaves no folder behind
    extras = [name for name in ("logits", "norms") if name in options.contents]
    points = find_routers(checkpoint.model)
    recorder = Recorder(checkpoint.model, points, control=options.control, seed=options.seed, extras=extras)
    survey = survey_corpus(corpus)
    _refuse_changed(corpus, writer)
    warnings = tuple(dict.fromkeys(point.adapter.warning for point in points if point.adapter.warning))
    on_plan(plan_trace(survey, corpus, checkpoint.tokenizer, recorder.specs, options.contents, run, warnings))
    with writer:
        _refuse_changed(corpus, writer)
        damaged = [check for check in validate_trace(run) if check.problem] if repair and writer.num_shards else []
        if writer.is_complete and not damaged:
            return open_trace(run)
        if not writer.has_documents() or any(check.file == "trace/documents.arrow" for check in damaged):
            _write_documents(writer, corpus, survey)
        writer.describe(
            routers=[spec.as_dict() for spec in recorder.specs],
            contents=list(options.contents),
            corpus=_about(corpus, survey),
        )
        shard_tokens = options.shard_tokens or tokens_of_a_shard(recorder.specs, options.contents, options.batch_tokens)
        windows = _windows(run, checkpoint, context_length, options.stride)
        tracer = ShardTracer(checkpoint.model, recorder, with_predictions=options.predictions)
        clock = _Clock(corpus.num_documents, options.batch_tokens, on_progress)
        broken = frozenset(check.shard for check in damaged if check.shard is not None)
        with recorder, _Background(writer) as background:
            _trace_shards(tracer, group_windows(windows, tokens=shard_tokens), background, broken, clock)
        if not writer.num_tokens:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        writer.finish()
    return open_trace(run)


def _trace_shards(
    tracer: ShardTracer,
    groups: Iterator[list[Window]],
    background: "_Background",
    broken: frozenset[int],
    clock: "_Clock",
) -> None:
    """Trace the shards that are not there, or not whole."""
    writer = background.writer
    there = list(writer.manifest["shards"])
    sequence = 0
    for number, windows in enumerate(groups):
        if number < len(there):
            clock.batch_tokens = there[number].get("batch_tokens", clock.batch_tokens)
        if number >= len(there) or number in broken:
            shard = _trace_shard(tracer, windows, sequence, clock)
            background.write(shard, number if number < len(there) else None)
        else:
            clock.count(0, windows[-1].document + 1)
        sequence += len(windows)


def _trace_shard(tracer: ShardTracer, windows: list[Window], sequence: int, clock: "_Clock") -> Shard:
    """Trace one shard, in smaller and smaller batches for as long as memory does not suffice.

    The size is the same for all batches of a shard, and written down with it: tokens decide ties between experts
    otherwise in another batch, and a shard that is made anew must be the same.
    """
    while True:
        clock.begin(windows)
        try:
            return tracer.trace(
                windows, first_sequence=sequence, batch_tokens=clock.batch_tokens, on_batch=clock.count_windows
            )
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not _is_out_of_memory(error):
                raise
            longest = max(len(window.token_ids) for window in windows)
            if max(map(len, plan_batches(windows, tokens=clock.batch_tokens))) == 1:
                raise CaptureError(
                    f"out of memory with a single window of {longest} tokens: expected it to fit; lower --context, "
                    "or load the model in bfloat16 or over several devices (--device-map auto)"
                ) from error
            clock.batch_tokens = max(1, min(clock.batch_tokens, sum(len(w.token_ids) for w in windows)) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class _Background:
    """Writes shards in a thread of its own, one at a time: the model runs on while a shard is compressed."""

    def __init__(self, writer: TraceWriter) -> None:
        self.writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trace-writer")
        self._last: Future[None] | None = None

    def __enter__(self) -> "_Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()

    def write(self, shard: Shard, number: int | None) -> None:
        """Hand a shard over, when the one before is written: at most two are held in memory."""
        self._wait()
        self._last = self._thread.submit(self.writer.write_shard, shard, number=number)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


def _context_length(checkpoint: Checkpoint, options: TraceOptions) -> int:
    limit = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if options.context_length is None:
        return min(limit or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if limit is not None and options.context_length > limit:
        raise TraceError(
            f"context length: the model takes at most {limit} tokens, got {options.context_length}; lower --context"
        )
    return options.context_length


def _refuse_changed(corpus: Corpus, writer: TraceWriter) -> None:
    before = writer.manifest.get("corpus")
    if before is not None and before["digest"] != corpus.digest:
        raise CorpusError(
            f"{corpus.source}: its documents are not those that {writer.run} was begun with; "
            "choose another folder with -o"
        )


def _about(corpus: Corpus, survey: CorpusSurvey) -> dict[str, object]:
    return {
        "source": corpus.source,
        "digest": corpus.digest,
        "documents": corpus.num_documents,
        "skipped_empty": corpus.skipped,
        "labels": list(survey.labels),
    }


def _write_documents(writer: TraceWriter, corpus: Corpus, survey: CorpusSurvey) -> None:
    taken = {"id", "text"} & set(survey.labels)
    if taken:
        raise CorpusError(f"{corpus.source}: a label column cannot be called {' or '.join(sorted(taken))}; rename it")
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", *survey.labels)])

    def batches() -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, str | None]] = []
        characters = 0
        for document in corpus:
            rows.append({"id": document.id, "text": document.text, **document.labels})
            characters += len(document.text)
            if len(rows) == DOCUMENTS_AT_ONCE or characters > CHARACTERS_AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, schema=schema)
                rows, characters = [], 0
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    writer.write_documents(schema, batches())


def _windows(run: Path, checkpoint: Checkpoint, length: int, stride: int | None) -> Iterator[Window]:
    """Windows of the stored documents, read through a memory map a batch at a time."""
    first = 0
    with pa.memory_map(str(run / "trace" / "documents.arrow")) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            texts = reader.get_batch(number).column("text").to_pylist()
            yield from cut_windows(texts, checkpoint.tokenizer, length=length, stride=stride, first_document=first)
            first += len(texts)


class _Clock:
    """Counts what is done and tells of it."""

    def __init__(self, documents: int, batch_tokens: int, on_progress: Callable[[TraceProgress], None]) -> None:
        self.documents = documents
        self.batch_tokens = batch_tokens
        self.tokens = 0
        self.started = time.perf_counter()
        self.on_progress = on_progress

    def begin(self, windows: Sequence[Window]) -> None:
        """A shard begins, or begins again."""
        self._windows, self._finished = windows, 0

    def count_windows(self, tokens: int, finished: int) -> None:
        """So many more tokens and windows of the shard are done."""
        self._finished += finished
        first, end = self._windows[0].document, self._windows[-1].document + 1
        self.count(tokens, first + round(self._finished / len(self._windows) * (end - first)))

    def count(self, tokens: int, documents_done: int) -> None:
        """So many more tokens are done, and so many documents in all."""
        self.tokens += tokens
        rate = self.tokens / max(time.perf_counter() - self.started, 1e-9)
        self.on_progress(TraceProgress(documents_done, self.documents, self.tokens, rate, self.batch_tokens))
