"""A corpus through a model, into a trace."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from specialize.capture.batches import ShardTracer
from specialize.capture.documents import describe_corpus, read_windows, write_documents
from specialize.capture.given import identify_checkpoint
from specialize.capture.loading import Checkpoint
from specialize.capture.options import TraceOptions
from specialize.capture.plan import CorpusSurvey, plan_trace, survey_corpus, tokens_of_a_shard
from specialize.capture.recorder import EXTRAS, Recorder
from specialize.capture.resuming import check_corpus, check_files, check_routers, describe_extension, list_parts
from specialize.capture.routers import find_routers
from specialize.capture.shards import TraceClock, trace_shards
from specialize.capture.verification import evaluating
from specialize.capture.windows import Window, group_windows
from specialize.corpus import Corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.events import SILENT, Reporter
from specialize.manifest import digest_of, versions
from specialize.trace import RoutingTrace, TraceWriter, open_trace, validate_trace

LONGEST_DEFAULT_CONTEXT = 2048


def trace_documents(
    checkpoint: Checkpoint,
    corpus: Corpus,
    run: str | PathLike[str],
    *,
    options: TraceOptions | None = None,
    repair: bool = False,
    command: str | None = None,
    reporter: Reporter = SILENT,
    survey: CorpusSurvey | None = None,
) -> RoutingTrace:
    """Run a corpus through a model and write its routing trace.

    An interrupted trace with the same settings is resumed; a complete one is opened as it is. A trace of the first
    documents of the corpus is extended: its shards stay as they are.

    Args:
        checkpoint: the model and its tokenizer.
        corpus: the documents.
        run: the run folder, created if missing.
        options: how the corpus is run, and what is recorded.
        repair: trace missing and damaged shards of an existing trace again, instead of raising an error.
        command: the command line, for the manifest.
        reporter: receives an estimate of what the trace will take before anything is written, and the progress.
        survey: of this corpus, if it was read before.

    Returns:
        The complete trace.

    Raises:
        CaptureError: the routing of the model cannot be captured or is not finite, the head that predictions need is
            missing, or memory does not suffice for one window.
        CorpusError: the corpus cannot be read, is empty, or does not begin with the documents of the trace.
        TraceError: the folder holds something else or a damaged trace, or another process is writing to it.
        OutputError: the disk is full, or the folder cannot be written.
    """
    options, run = options or TraceOptions(), Path(run)
    if options.predictions and checkpoint.missing_head:
        raise CaptureError(
            f"predictions: expected the weights of the language-model head, the checkpoint lacks "
            f"{checkpoint.missing_head[0]}; leave out predictions"
        )
    settings = _settings(checkpoint, corpus, options)
    provenance = {"command": command, "versions": versions(), "model": checkpoint.facts}
    writer = TraceWriter(run, settings=settings, provenance=provenance)
    # before anything is written: a dense model or a broken corpus leaves no folder behind
    points = find_routers(checkpoint.model)
    extras = [name for name in EXTRAS if name in options.contents]
    recorder = Recorder(
        checkpoint.model,
        points,
        control=options.control,
        control_draws=options.control_draws,
        seed=options.seed,
        extras=extras,
    )
    survey = survey or survey_corpus(corpus)
    extends = check_corpus(corpus, run, writer.manifest)
    check_routers(recorder.specs, run, writer.manifest)
    for warning in dict.fromkeys(point.adapter.warning for point in points if point.adapter.warning):
        reporter.say(f"note: {warning}")
    if extends or not writer.is_complete:
        contents, tokens = options.contents, writer.num_tokens
        plan = plan_trace(
            survey,
            corpus,
            checkpoint.tokenizer,
            recorder.specs,
            contents,
            run,
            written=tokens,
            max_tokens=options.max_tokens,
        )
        plan.report(run, reporter)
    with writer:
        extends = check_corpus(corpus, run, writer.manifest)  # another process may have written since
        damaged = _find_damage(writer, repair=repair)
        unfinished = extends or not writer.is_complete
        if not (unfinished or damaged):
            reporter.say(f"{run}: the trace is complete already")
            return open_trace(run)
        facts: dict[str, Any] = {
            "settings": settings,
            "settings_digest": digest_of(settings),
            "routers": [spec.as_dict() for spec in recorder.specs],
            "contents": list(options.contents),
        }
        if extends:
            for note in describe_extension(run, writer.manifest, corpus.num_documents):
                reporter.say(note)
            facts |= {**provenance, "extended_from": list_parts(writer.manifest)}
        elif not writer.manifest.get("corpus"):  # nothing of what an earlier command asked for was written
            facts |= provenance
        if extends or None in damaged or not writer.has_documents():
            write_documents(writer, corpus, survey.labels, expected=corpus.digest)
        if unfinished:
            writer.describe(**facts, corpus=describe_corpus(corpus, survey.labels))
        _trace_shards(checkpoint, corpus, writer, recorder, options, reporter, damaged=damaged)
        if not writer.num_tokens:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        writer.finish()
    return open_trace(run)


def _settings(checkpoint: Checkpoint, corpus: Corpus, options: TraceOptions) -> dict[str, Any]:
    """What determines a trace, with the names of what it is of."""
    return {
        "model": checkpoint.name,
        "revision": checkpoint.facts["revision"],
        **identify_checkpoint(checkpoint),
        "corpus": corpus.source,
        "limit": corpus.limit,
        **options.as_settings(_context_of(checkpoint, options)),
    }


def _find_damage(writer: TraceWriter, *, repair: bool) -> frozenset[int | None]:
    """Return the numbers of the shards to trace again, None for the documents; raise TraceError unless `repair`."""
    if not repair:
        check_files(writer.run, writer.manifest)
        return frozenset()
    problems = [check for check in validate_trace(writer.run) if check.problem]
    return frozenset(check.shard for check in problems if check.file.startswith("trace/"))


def _trace_shards(
    checkpoint: Checkpoint,
    corpus: Corpus,
    writer: TraceWriter,
    recorder: Recorder,
    options: TraceOptions,
    reporter: Reporter,
    *,
    damaged: frozenset[int | None],
) -> None:
    """Trace the shards that are missing or damaged."""
    length = _context_of(checkpoint, options)
    cut = 0

    def windows() -> Iterator[Window]:
        nonlocal cut
        for window in read_windows(
            writer.run, checkpoint.tokenizer, length=length, stride=options.stride, max_tokens=options.max_tokens
        ):
            cut += window.is_cut
            yield window

    largest = options.shard_tokens or tokens_of_a_shard(recorder.specs, options.contents, options.batch_tokens)
    written = [shard["tokens"] for shard in writer.manifest["shards"]]
    groups = group_windows(windows(), first=min(options.batch_tokens, largest), largest=largest, written=written)
    tracer = ShardTracer(checkpoint.model, recorder, with_predictions=options.predictions)
    with reporter.progress("tracing", "documents") as update, evaluating(checkpoint.model), recorder:
        clock = TraceClock(corpus.num_documents, options.batch_tokens, update, reporter)
        trace_shards(tracer, groups, writer, clock, damaged=damaged)
    if options.max_tokens is not None:
        reporter.say(
            f"{writer.run}: documents of more than {options.max_tokens:,} tokens, of which the rest is not traced: "
            f"{cut:,} of {corpus.num_documents:,}"
        )


def _context_of(checkpoint: Checkpoint, options: TraceOptions) -> int:
    longest = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if options.context is None:
        return min(longest or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if longest is not None and options.context > longest:
        raise TraceError(
            f"context: expected at most {longest} tokens, the longest sequence of the model, got {options.context}"
        )
    return options.context
