"""The demo: two checkpoints over one corpus, annotated once, side by side in one report."""

import shutil
from pathlib import Path

from specialize.cli.console import say
from specialize.cli.measuring import do_compare, do_routing, do_vocabulary
from specialize.cli.steps import (
    MeasureOptions,
    SyntaxOptions,
    TopicOptions,
    find_topics,
    load_model,
    measure,
    tag,
    take_columns,
    trace,
)


def run_demo(output: Path, *, limit: int | None, command: str) -> tuple[list[Path], Path]:
    """Trace both demo checkpoints, each with a random router beside its own, and measure them with the same labels.

    Args:
        output: folder for the corpus, a run folder for each checkpoint, and the report.
        limit: number of documents; the demo's own when None.
        command: the command line, for the manifests.

    Returns:
        The run folders, and the report.
    """
    from specialize.annotators.store import save_annotation
    from specialize.capture import TraceOptions
    from specialize.corpus import open_corpus
    from specialize.demo import CHECKPOINTS, DOCUMENTS, checkpoint_path, write_corpus
    from specialize.reporting import write_report

    corpus = open_corpus(write_corpus(output / "corpus.jsonl", limit=limit or DOCUMENTS))
    traces = []
    for name in CHECKPOINTS:
        checkpoint = load_model(str(checkpoint_path(name)))
        options = TraceOptions(control="random-router")
        traces.append(trace(checkpoint, corpus, output / name, options=options, command=command))
    # both checkpoints read the same text with the same tokenizer: one annotation serves both
    annotations = [("syntax", tag(traces[0], SyntaxOptions())[0]), ("topics", find_topics(traces[0], TopicOptions()))]
    annotations += [("topics", column) for column in take_columns(traces[0])]
    for table in ("topic_info.csv", "topic_quality.csv"):
        (traces[1].path / "topics").mkdir(exist_ok=True)
        shutil.copyfile(traces[0].path / "topics" / table, traces[1].path / "topics" / table)
    for opened in traces:
        say(f"{opened.path.name}-routed checkpoint:")
        for folder, annotation in annotations:
            save_annotation(opened, annotation)
            measure(opened, annotation, folder=folder, options=MeasureOptions())
        do_routing(opened)
        do_vocabulary(opened)
    do_compare(*traces)
    runs = [opened.path for opened in traces]
    return runs, write_report(runs, output, command=command)
