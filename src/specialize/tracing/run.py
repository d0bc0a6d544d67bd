"""A corpus into a trace: what is the same for a model and for a server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specialize.corpus import Corpus
from specialize.errors import CorpusError, TraceError
from specialize.events import Reporter
from specialize.manifest import digest_of
from specialize.trace import RouterSpec, RoutingTrace, TraceWriter, open_trace, validate_trace
from specialize.tracing.documents import describe_corpus, read_windows, write_documents
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import CorpusSurvey, plan_trace, tokens_of_a_shard
from specialize.tracing.resuming import check_corpus, check_files, check_routers, describe_extension, list_parts
from specialize.tracing.shards import TraceClock, WindowTracer, trace_shards
from specialize.tracing.windows import Window, group_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_DEFAULT_CONTEXT = 2048


@dataclass(frozen=True)
class Traced:
    """What a trace is of, and how it is made.

    Attributes:
        tokenizer: the model's.
        routers: that are recorded.
        context: length of a window in tokens.
        options: how the corpus is run, and what is recorded.
        settings: what determines the trace, as the manifest holds it.
        provenance: further entries of the manifest: command, versions, model.
        notes: what a user should know about the routers, one line each.
        open: takes the manifest's entries of the shards that are written, and gives what traces the others.
    """

    tokenizer: "PreTrainedTokenizerBase"
    routers: Sequence[RouterSpec]
    context: int
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
    run, contents = writer.run, traced.options.contents
    extends = check_corpus(corpus, run, writer.manifest)
    check_routers(traced.routers, run, writer.manifest)
    for note in traced.notes:
        reporter.say(f"note: {note}")
    if extends or not writer.is_complete:
        plan = plan_trace(
            survey,
            corpus,
            traced.tokenizer,
            traced.routers,
            contents,
            run,
            written=writer.num_tokens,
            max_tokens=traced.options.max_tokens,
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
            "settings": dict(traced.settings),
            "settings_digest": digest_of(traced.settings),
            "routers": [spec.as_dict() for spec in traced.routers],
            "contents": list(contents),
        }
        if extends:
            for note in describe_extension(run, writer.manifest, corpus.num_documents):
                reporter.say(note)
            facts |= {**traced.provenance, "extended_from": list_parts(writer.manifest)}
        elif not writer.manifest.get("corpus"):  # nothing of what an earlier command asked for was written
            facts |= traced.provenance
        if extends or None in damaged or not writer.has_documents():
            write_documents(writer, corpus, survey.labels, expected=corpus.digest)
        if unfinished:
            writer.describe(**facts, corpus=describe_corpus(corpus, survey.labels))
        _trace_shards(traced, corpus, writer, reporter, damaged=damaged)
        if not writer.num_tokens:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        writer.finish()
    return open_trace(run)


def choose_context(longest: int | None, context: int | None) -> int:
    """Return the length of a window in tokens.

    Args:
        longest: the longest sequence that the model was made for, if it is known.
        context: that is asked for.

    Raises:
        TraceError: it is longer than the model allows.
    """
    if context is None:
        return min(longest or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if longest is not None and context > longest:
        raise TraceError(
            f"context: expected at most {longest} tokens, the longest sequence of the model, got {context}"
        )
    return context


def _find_damage(writer: TraceWriter, *, repair: bool) -> frozenset[int | None]:
    """Return the numbers of the shards to trace again, None for the documents; raise TraceError unless `repair`."""
    if not repair:
        check_files(writer.run, writer.manifest)
        return frozenset()
    problems = [check for check in validate_trace(writer.run) if check.problem]
    return frozenset(check.shard for check in problems if check.file.startswith("trace/"))


def _trace_shards(
    traced: Traced, corpus: Corpus, writer: TraceWriter, reporter: Reporter, *, damaged: frozenset[int | None]
) -> None:
    """Trace the shards that are missing or damaged."""
    options, shards = traced.options, writer.manifest["shards"]
    cut = 0

    def windows() -> Iterator[Window]:
        nonlocal cut
        for window in read_windows(
            writer.run,
            traced.tokenizer,
            length=traced.context,
            stride=options.stride,
            max_tokens=options.max_tokens,
        ):
            cut += window.is_cut
            yield window

    largest = options.shard_tokens or tokens_of_a_shard(traced.routers, options.contents, options.batch_tokens)
    written = [shard["tokens"] for shard in shards]
    groups = group_windows(windows(), first=min(options.batch_tokens, largest), largest=largest, written=written)
    with reporter.progress("tracing", "documents") as update, traced.open(shards) as tracer:
        trace_shards(tracer, groups, writer, TraceClock(corpus.num_documents, update), damaged=damaged)
    if options.max_tokens is not None:
        reporter.say(
            f"{writer.run}: documents of more than {options.max_tokens:,} tokens, of which the rest is not traced: "
            f"{cut:,} of {corpus.num_documents:,}"
        )
