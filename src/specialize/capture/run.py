"""A corpus through a model, into a trace."""

from os import PathLike
from pathlib import Path
from typing import Any

from specialize.capture.batches import ShardTracer
from specialize.capture.documents import check_unchanged, describe_corpus, read_windows, write_documents
from specialize.capture.loading import Checkpoint
from specialize.capture.options import TraceOptions
from specialize.capture.plan import CorpusSurvey, plan_trace, survey_corpus, tokens_of_a_shard
from specialize.capture.recorder import EXTRAS, Recorder
from specialize.capture.routers import find_routers
from specialize.capture.shards import TraceClock, trace_shards
from specialize.capture.verification import evaluating
from specialize.capture.windows import group_windows
from specialize.corpus import Corpus
from specialize.errors import CaptureError, CorpusError, TraceError
from specialize.events import SILENT, Reporter
from specialize.manifest import versions
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

    An interrupted trace with the same settings is resumed; a complete one is opened as it is.

    Args:
        checkpoint: the model and its tokenizer.
        corpus: the documents.
        run: the run folder, created if missing.
        options: how the corpus is run, and what is recorded.
        repair: validate the files of an existing trace, and trace the missing and damaged shards again.
        command: the command line, for the manifest.
        reporter: receives an estimate of what the trace will take before anything is written, and the progress.
        survey: of this corpus, if it was read before.

    Returns:
        The complete trace.

    Raises:
        CaptureError: the routing of the model cannot be captured or is not finite, the head that predictions need is
            missing, or memory does not suffice for one window.
        CorpusError: the corpus cannot be read, is empty, or has changed since the trace was begun.
        TraceError: the folder holds something else, or another process is writing to it.
        OutputError: the disk is full, or the folder cannot be written.
    """
    options, run = options or TraceOptions(), Path(run)
    if options.predictions and checkpoint.missing_head:
        raise CaptureError(
            f"predictions: expected the weights of the language-model head, the checkpoint lacks "
            f"{checkpoint.missing_head[0]}; leave out predictions"
        )
    context = _context_of(checkpoint, options)
    settings = _settings(checkpoint, corpus) | options.as_settings(context)
    provenance = {"command": command, "versions": versions(), "model": checkpoint.facts}
    writer = TraceWriter(run, settings=settings, provenance=provenance)
    # before anything is written: a dense model or a broken corpus leaves no folder behind
    points = find_routers(checkpoint.model)
    extras = [name for name in EXTRAS if name in options.contents]
    recorder = Recorder(checkpoint.model, points, control=options.control, seed=options.seed, extras=extras)
    survey = survey or survey_corpus(corpus)
    check_unchanged(corpus, run, writer.manifest)
    for warning in dict.fromkeys(point.adapter.warning for point in points if point.adapter.warning):
        reporter.say(f"note: {warning}")
    plan_trace(survey, corpus, checkpoint.tokenizer, recorder.specs, options.contents, run).report(run, reporter)
    with writer:
        check_unchanged(corpus, run, writer.manifest)
        damaged = [check for check in validate_trace(run) if check.problem] if repair and writer.num_shards else []
        if writer.is_complete and not damaged:
            reporter.say(f"{run}: the trace is complete already")
            return open_trace(run)
        if not writer.has_documents() or any(check.file == "trace/documents.arrow" for check in damaged):
            write_documents(writer, corpus, survey.labels)
        writer.describe(
            routers=[spec.as_dict() for spec in recorder.specs],
            contents=list(options.contents),
            corpus=describe_corpus(corpus, survey.labels),
        )
        shard_tokens = options.shard_tokens or tokens_of_a_shard(recorder.specs, options.contents, options.batch_tokens)
        windows = read_windows(run, checkpoint.tokenizer, length=context, stride=options.stride)
        tracer = ShardTracer(checkpoint.model, recorder, with_predictions=options.predictions)
        with reporter.progress("tracing", "documents") as update, evaluating(checkpoint.model), recorder:
            clock = TraceClock(corpus.num_documents, options.batch_tokens, update, reporter)
            again = frozenset(check.shard for check in damaged if check.shard is not None)
            trace_shards(tracer, group_windows(windows, tokens=shard_tokens), writer, clock, damaged=again)
        if not writer.num_tokens:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        writer.finish()
    return open_trace(run)


def _settings(checkpoint: Checkpoint, corpus: Corpus) -> dict[str, Any]:
    """What determines a trace, besides the options."""
    facts = checkpoint.facts
    digests = ("weights_digest", "tokenizer_digest")  # of a model that was not loaded by its name
    return {
        "model": checkpoint.name,
        "revision": facts["revision"],
        "config_digest": facts["config_digest"],
        "dtype": facts["dtype"],
        "device": checkpoint.model.device.type,
        "corpus": corpus.source,
        "limit": corpus.limit,
        **{name: facts[name] for name in digests if name in facts},
        # a trace with random weights is not resumed with the right ones
        **{name: facts[name]["number"] for name in ("missing_weights", "unused_weights") if name in facts},
    }


def _context_of(checkpoint: Checkpoint, options: TraceOptions) -> int:
    longest = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if options.context is None:
        return min(longest or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if longest is not None and options.context > longest:
        raise TraceError(
            f"context: expected at most {longest} tokens, the longest sequence of the model, got {options.context}"
        )
    return options.context
