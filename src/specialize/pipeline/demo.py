"""The demo: two checkpoints over one corpus, annotated once, side by side in one report."""

from os import PathLike
from pathlib import Path
from typing import Any

from specialize.choices import refuse_address
from specialize.events import SILENT, Reporter
from specialize.pipeline.ablate import ablate
from specialize.pipeline.compare import compare
from specialize.pipeline.report import report
from specialize.pipeline.routing import routing
from specialize.pipeline.stage import MeasureSettings, measure_annotation, write_frames
from specialize.pipeline.syntax import SyntaxOptions, tag_tokens
from specialize.pipeline.topic_fits import TopicOptions, copy_tables, find_topics
from specialize.pipeline.topics import read_columns
from specialize.pipeline.trace import trace_corpus
from specialize.pipeline.vocabulary import vocabulary

# What is switched off, in a sample of the documents: within a minute for both checkpoints.
ABLATION: dict[str, Any] = {
    "documents": 16,
    "labels": ("upos=NOUN",),
    "random": 9,
    "rankings": ("saliency", "random"),
}


def demo(
    folder: str | PathLike[str] = "demo-report",
    *,
    limit: int | None = None,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> tuple[list[Path], Path]:
    """Run everything on two small checkpoints that come with the package, over Wikipedia articles.

    Both checkpoints are traced with random routers beside each of their own, and measured with the same labels. In a
    sample of the documents, their experts are switched off.

    Args:
        folder: where the corpus, a run folder for each checkpoint, and the report go.
        limit: read at most so many documents; all of the demo's by default.
        command: the command line, for the manifests.
        reporter: receives messages and progress.

    Returns:
        The run folders, and the page of the report.

    Raises:
        CorpusError: the demo's packages are not installed.
        OutputError: the folder cannot be written.
    """
    from specialize.annotators.store import save_annotation
    from specialize.demo import CHECKPOINTS, DOCUMENTS, checkpoint_path, write_corpus

    refuse_address("folder", folder)
    output = Path(folder)
    corpus = write_corpus(output / "corpus.jsonl", limit=limit or DOCUMENTS)
    traces = [
        trace_corpus(
            checkpoint_path(name), corpus, output / name, control="random-router", command=command, reporter=reporter
        )
        for name in CHECKPOINTS
    ]
    # both checkpoints read the same text with the same tokenizer: one annotation serves both
    annotations = [("syntax", each) for each in tag_tokens(traces[0], SyntaxOptions(), reporter=reporter)]
    annotations.append(("topics", find_topics(traces[0], TopicOptions(), reporter=reporter)))
    annotations += [("topics", column) for column in read_columns(traces[0])]
    copy_tables(*traces)
    for trace in traces:
        reporter.say(f"{trace.path.name}-routed checkpoint:")
        for name, annotation in annotations:
            save_annotation(trace, annotation)
            frame = measure_annotation(trace, annotation, settings=MeasureSettings(), reporter=reporter)
            write_frames(trace, {f"{name}/{annotation.name}": frame})
        routing(trace, reporter=reporter)
        vocabulary(trace, reporter=reporter)
        ablate(checkpoint_path(trace.path.name), trace, reporter=reporter, **ABLATION)
    compare(*traces, reporter=reporter)
    page = report(traces, output, command=command, reporter=reporter)
    return [trace.path for trace in traces], page
