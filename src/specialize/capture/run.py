"""A corpus through a model, into a trace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from specialize.capture.batches import ShardTracer, count_token_ids
from specialize.capture.continuing import ContinuationTracer, check_generating
from specialize.capture.given import identify_checkpoint
from specialize.capture.loading import Checkpoint
from specialize.capture.memory import HalvingTracer
from specialize.capture.recorder import EXTRAS, Recorder
from specialize.capture.routers import find_routers
from specialize.capture.verification import evaluating
from specialize.corpus import Corpus
from specialize.errors import CaptureError
from specialize.events import SILENT, Reporter
from specialize.manifest import versions
from specialize.remote.places import at_addresses
from specialize.trace import RoutingTrace, TraceWriter
from specialize.trace.parts import Part
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import CorpusSurvey, survey_corpus
from specialize.tracing.reading import open_reading
from specialize.tracing.run import Traced, write_trace


@at_addresses(run="written")
def trace_documents(
    checkpoint: Checkpoint,
    corpus: Corpus,
    run: str | PathLike[str],
    *,
    options: TraceOptions | None = None,
    chat_template: str | PathLike[str] | None = None,
    part: Part | None = None,
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
        chat_template: of conversations: a Jinja template, or the path of a file with one; default: the tokenizer's.
        part: which part of the trace is made; default: all of it.
        repair: trace missing and damaged shards of an existing trace again, instead of raising an error.
        command: the command line, for the manifest.
        reporter: receives an estimate of what the trace will take before anything is written, and the progress.
        survey: of this corpus, if it was read before.

    Returns:
        The complete trace, or the complete part of it.

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
    if options.generate is not None:
        check_generating(checkpoint.model)
    longest = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    survey = survey or survey_corpus(corpus)
    reading = open_reading(
        checkpoint.tokenizer,
        corpus,
        options,
        survey=survey,
        longest=longest,
        num_ids=count_token_ids(checkpoint.model),
        chat_template=chat_template,
    )
    settings = {
        "model": checkpoint.name,
        "revision": checkpoint.facts["revision"],
        **identify_checkpoint(checkpoint),
        "corpus": corpus.source,
        "limit": corpus.limit,
        **reading.settings(corpus),
    }
    provenance = {"command": command, "versions": versions(), "model": checkpoint.facts}
    writer = TraceWriter(run, settings=settings, provenance=provenance, part=part)
    # before anything is written: a dense model or a broken corpus leaves no folder behind
    points = find_routers(checkpoint.model)
    recorder = Recorder(
        checkpoint.model,
        points,
        control=options.control,
        control_draws=options.control_draws,
        seed=options.seed,
        extras=[name for name in EXTRAS if name in options.contents],
    )

    @contextmanager
    def opened(written: Sequence[Mapping[str, Any]]) -> Iterator[HalvingTracer]:
        tracer: ShardTracer | ContinuationTracer
        if options.generate is None:
            tracer = ShardTracer(checkpoint.model, recorder, with_predictions=options.predictions)
        else:
            tracer = ContinuationTracer(checkpoint.model, recorder, checkpoint.tokenizer)
        with evaluating(checkpoint.model), recorder:
            yield HalvingTracer(tracer, options.batch_tokens, written, reporter)

    traced = Traced(
        reading,
        recorder.specs,
        options=options,
        settings=settings,
        provenance=provenance,
        notes=list(dict.fromkeys(point.adapter.warning for point in points if point.adapter.warning)),
        open=opened,
    )
    return write_trace(traced, corpus, writer, survey=survey, repair=repair, reporter=reporter)
