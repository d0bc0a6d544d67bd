"""A corpus into a trace: what is the same for a model and for a server."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from specialize.corpus import Corpus
from specialize.errors import CorpusError
from specialize.events import Reporter
from specialize.manifest import digest_of
from specialize.trace import RouterSpec, RoutingTrace, TraceWriter, validate_trace
from specialize.tracing.division import ShardPlan
from specialize.tracing.documents import describe_corpus, write_documents
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import CorpusSurvey, plan_trace, tokens_of_a_shard
from specialize.tracing.reading import Reading
from specialize.tracing.replay_reading import ReplayReading
from specialize.tracing.resuming import check_corpus, check_files, check_routers, describe_extension, list_earlier
from specialize.tracing.shards import TraceClock, WindowTracer, planned_tokens, trace_shards
from specialize.tracing.windows import group_windows


@dataclass(frozen=True)
class Traced:
    """What a trace is of, and how it is made.

    Attributes:
        reading: how documents are read as windows of tokens.
        routers: that are recorded.
        options: how the corpus is run, and what is recorded.
        settings: what determines the trace, as the manifest holds it.
        provenance: further entries of the manifest: command, versions, model.
        notes: what a user should know about the routers, one line each.
        open: takes the manifest's entries of the shards that are written, and gives what traces the others.
    """

    reading: Reading | ReplayReading
    routers: Sequence[RouterSpec]
    options: TraceOptions
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    notes: Sequence[str]
    open: Callable[[Sequence[Mapping[str, Any]]], AbstractContextManager[WindowTracer]]


def write_trace(
    traced: Traced, corpus: Corpus, writer: TraceWriter, *, survey: CorpusSurvey, repair: bool, reporter: Reporter
) -> RoutingTrace:
    """Write the trace of a corpus, or what is missing of it.

    Args:
        traced: what the trace is of, and how it is made.
        corpus: the documents, read once to the end.
        writer: of the run folder, with the same settings.
        survey: of the corpus.
        repair: trace missing and damaged shards of an existing trace again, instead of raising an error.
        reporter: receives an estimate of what the trace will take before anything is written, and the progress.

    Returns:
        The complete trace.

    Raises:
        CaptureError: raised by what traces the windows.
        CorpusError: the corpus holds no tokens, or does not begin with the documents of the trace.
        TraceError: the folder holds a damaged trace or one of other routers, or another process is writing to it.
        OutputError: the disk is full, or the folder cannot be written.
    """
    run, reading = writer.run, traced.reading
    extends = check_corpus(corpus, run, writer.manifest)
    check_routers(traced.routers, run, writer.manifest)
    for note in traced.notes:
        reporter.say(f"note: {note}")
    if extends or not writer.is_complete:
        plan = plan_trace(
            reading.render_sample(survey),
            corpus,
            reading.tokenizer,
            traced.routers,
            traced.options.contents,
            run,
            written=writer.num_tokens,
            max_tokens=traced.options.max_tokens,
            generate=traced.options.generate,
            part=writer.part,
        )
        plan.report(run, reporter)
        for note in reading.warnings(survey):
            reporter.say(f"note: {note}")
        reading.check(corpus)
    with writer:
        extends = check_corpus(corpus, run, writer.manifest)  # another process may have written since
        damaged = _find_damage(writer, repair=repair)
        unfinished = extends or not writer.is_complete
        if not (unfinished or damaged):
            reporter.say(f"{run}: the trace is complete already")
            return RoutingTrace(run, part=writer.part is not None)
        facts: dict[str, Any] = {
            "settings": dict(traced.settings),
            "settings_digest": digest_of(traced.settings),
            "routers": [spec.as_dict() for spec in traced.routers],
            "contents": list(reading.contents),
            **({"roles": list(reading.roles)} if reading.roles else {}),
        }
        if extends:
            for note in describe_extension(run, writer.manifest, corpus.num_documents):
                reporter.say(note)
            facts |= {**traced.provenance, "extended_from": list_earlier(writer.manifest)}
        elif not writer.manifest.get("corpus"):  # nothing of what an earlier command asked for was written
            facts |= traced.provenance
        lacks_documents = extends or None in damaged or not writer.has_documents()
        if lacks_documents and traced.options.generate is None:
            write_documents(writer, corpus, survey.labels, expected=corpus.digest, text_of=reading.text_of)
        if lacks_documents and traced.options.generate is not None:  # their texts are known at the end
            writer.describe(complete=False, documents=None)
        if unfinished:
            writer.describe(**facts, corpus=describe_corpus(corpus, survey.labels))
        num_shards = _trace_shards(traced, corpus, writer, reporter, damaged=damaged)
        if not num_shards:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        if not writer.has_documents():
            texts = reading.continued_texts(run, writer.manifest)
            write_documents(writer, corpus, survey.labels, expected=corpus.digest, text_of=texts)
        if writer.part is not None:
            writer.describe(part={**asdict(writer.part), "shards": num_shards})
        writer.finish()
    return RoutingTrace(run, part=writer.part is not None)


def _find_damage(writer: TraceWriter, *, repair: bool) -> frozenset[int | None]:
    """Return the numbers of the shards to trace again, None for the documents; raise TraceError unless `repair`."""
    if not repair:
        check_files(writer.run, writer.manifest)
        return frozenset()
    problems = [check for check in validate_trace(writer.run) if check.problem]
    return frozenset(check.shard for check in problems if check.file.startswith("trace/"))


def _trace_shards(
    traced: Traced, corpus: Corpus, writer: TraceWriter, reporter: Reporter, *, damaged: frozenset[int | None]
) -> int:
    """Trace the shards that are missing or damaged; return the number of shards of the whole trace."""
    options, shards = traced.options, writer.manifest["shards"]
    windows = traced.reading.windows(corpus, writer.run)
    largest = options.shard_tokens or tokens_of_a_shard(traced.routers, options.contents, options.batch_tokens)
    # a part does not have the shards before its own, and is resumed with batches of the same size only
    written = [planned_tokens(shard) for shard in shards] if writer.part is None else []
    groups = group_windows(windows, first=min(options.batch_tokens, largest), largest=largest, written=written)
    plan = ShardPlan(groups, writer.part)
    with reporter.progress("tracing", "documents") as update, traced.open(shards) as tracer:
        clock = TraceClock(corpus.num_documents, update)
        trace_shards(tracer, plan, writer, clock, damaged=damaged)
        clock.count(0, corpus.num_documents)  # the last ones may be of another part
    for note in traced.reading.notes(corpus.num_documents):
        reporter.say(f"{writer.run}: {note}")
    return plan.num_shards
