"""The stages that several commands share: each does its part, shows its progress, and leaves its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.cli.console import progress, say
from specialize.errors import AnnotationError

if TYPE_CHECKING:
    from specialize.annotate.annotation import Annotation
    from specialize.capture import Checkpoint, TraceOptions
    from specialize.corpus import Corpus
    from specialize.trace import RoutingTrace


# Labels of documents are quick to permute, and have many cells to correct for: the smallest p must be small.
DEFAULT_DRAWS = {"token": 200, "document": 1000}


@dataclass(frozen=True)
class MeasureOptions:
    """How annotations are measured, the same for syntax and topics.

    Attributes:
        rule: how a token's mass is spread over its slots: selection, gate or first.
        draws: draws of the null; by default those of `DEFAULT_DRAWS`.
        seed: of the null, and of the topic model.
    """

    rule: str = "selection"
    draws: int | None = None
    seed: int = 0


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
    trust: bool = False,
) -> "Checkpoint":
    """Load a checkpoint, this package's own model type included."""
    say(f"loading {name} …")
    import specialize.models  # noqa: F401 (registers the model type with transformers)
    from specialize.capture import load_checkpoint

    return load_checkpoint(name, dtype=dtype, device=device, revision=revision, trust_remote_code=trust)


def trace(
    checkpoint: "Checkpoint", corpus: "Corpus", run: Path, *, options: "TraceOptions", command: str
) -> "RoutingTrace":
    """Run the corpus through the model."""
    from specialize.capture import TraceProgress, trace_corpus

    with progress("tracing", "documents") as update:

        def show(done: TraceProgress) -> None:
            update(done.documents_done, done.documents, rate=f"{done.tokens_per_second:,.0f} tokens/s")

        return trace_corpus(checkpoint, corpus, run, options=options, command=command, on_progress=show)


def tag(
    opened: "RoutingTrace", *, pipeline: str | None = None, pieces: str = "first", processes: int = 1
) -> "Annotation":
    """Annotate tokens with parts of speech and store the annotation."""
    say("loading spaCy …")
    from specialize.annotate.store import save_annotation
    from specialize.annotate.syntax import annotate_syntax

    with progress("tagging", "documents") as update:
        annotation = annotate_syntax(
            opened,
            pipeline=pipeline,
            rule=pieces,  # type: ignore[arg-type]  # checked by annotate_syntax
            processes=processes,
            progress=update,
        )
    save_annotation(opened, annotation)
    return annotation


def find_topics(
    opened: "RoutingTrace", *, embedding: str | None = None, num_topics: int | None = None, seed: int = 0
) -> "Annotation":
    """Fit topics, store the annotation, and leave what they are and how far to trust them as tables."""
    say("loading BERTopic …")
    from specialize.annotate.store import save_annotation
    from specialize.annotate.topics import annotate_topics
    from specialize.measure.results import write_table

    with progress("topics", "passes over documents") as update:
        model = annotate_topics(
            opened.documents(),
            embedding=embedding,
            num_topics=num_topics,
            seed=seed,
            stability_seeds=(seed + 1,),
            cache=opened.path / "annotations" / "embeddings",
            progress=update,
        )
    save_annotation(opened, model.annotation)
    write_table(model.info, opened.path / "topics" / "topic_info.csv", text_columns=("top_words", "example"))
    write_table(model.quality, opened.path / "topics" / "topic_quality.csv", text_columns=("quantity",))
    return model.annotation


def take_columns(opened: "RoutingTrace", columns: Sequence[str] | None = None) -> "list[Annotation]":
    """Annotate documents with columns of the corpus; all usable ones unless named."""
    from specialize.annotate.columns import annotate_column, label_columns
    from specialize.annotate.store import save_annotation

    documents = opened.documents()
    annotations = [annotate_column(documents, name) for name in columns or label_columns(documents)]
    for annotation in annotations:
        save_annotation(opened, annotation)
    return annotations


def measure(opened: "RoutingTrace", annotation: "Annotation", *, folder: str, options: MeasureOptions) -> None:
    """Measure how far routing goes with an annotation, into RUN/folder/NAME.{csv,parquet}."""
    from specialize.measure.results import write_results
    from specialize.measure.specialization import specialization

    with progress(f"measuring {annotation.name}", "layers") as update:
        frame = specialization(
            opened,
            annotation,
            rule=options.rule,  # type: ignore[arg-type]  # checked when the command line is read
            draws=options.draws or DEFAULT_DRAWS[annotation.level],
            seed=options.seed,
            progress=update,
        )
    write_results(frame, opened.path / folder, annotation.name)


def do_syntax(opened: "RoutingTrace", *, options: MeasureOptions, **how: object) -> None:
    """Tag and measure."""
    measure(opened, tag(opened, **how), folder="syntax", options=options)  # type: ignore[arg-type]


def do_topics(
    opened: "RoutingTrace",
    *,
    options: MeasureOptions,
    columns: Sequence[str] | None = None,
    embedding: str | None = None,
    num_topics: int | None = None,
    fit: bool = True,
    must_fit: bool = True,
) -> None:
    """Measure known labels, then fit topics and measure those.

    Args:
        opened: the trace.
        options: how to measure.
        columns: known labels; all usable columns unless named.
        embedding: see `annotate_topics`.
        num_topics: see `annotate_topics`.
        fit: whether to fit topics at all.
        must_fit: whether it is an error when no topics can be fitted; otherwise it is said and passed over.
    """
    known = take_columns(opened, columns)
    if not (fit or known):
        raise AnnotationError(
            f"{opened.path}: expected a label column with 2 to 100 values and five documents for each, the corpus has "
            "none; leave out --labels-only to fit topics"
        )
    for annotation in known:
        measure(opened, annotation, folder="topics", options=options)
    if not fit:
        return
    try:
        fitted = find_topics(opened, embedding=embedding, num_topics=num_topics, seed=options.seed)
    except AnnotationError as error:
        if must_fit:
            raise
        say(f"topics are left out: {error}")
        return
    measure(opened, fitted, folder="topics", options=options)
