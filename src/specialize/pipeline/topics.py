"""Topics: find them, take known labels, and measure how far routing is associated with them."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.choices import Clustering, EngineName, Outliers, Reduction, SlotRule
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, MeasurementError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import (
    MeasureSettings,
    check_measurable,
    measure_annotation,
    note_domain_shift,
    note_unusable,
    open_run,
    write_frames,
)
from specialize.pipeline.topic_fits import TopicOptions, find_topics
from specialize.remote.places import at_addresses
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_engine

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


@at_addresses(run="measured", topics_from="read")
def topics(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    labels: Sequence[str] | None = None,
    fit: bool = True,
    embedding: str | None = None,
    num_topics: int | None = None,
    reduction: Reduction = "umap",
    clustering: Clustering = "kmeans",
    outliers: Outliers = "nearest",
    min_topic_size: int | None = None,
    window: int | None = None,
    language: str | None = None,
    topics_from: str | PathLike[str] | None = None,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Find the documents' topics and measure how far routing is associated with them and with known labels.

    Writes RUN/topics/NAME.{csv,parquet} for each label set, and for fitted topics ``topic_info.csv``,
    ``topic_quality.csv`` and the model. Topics of windows are labels of tokens: they are measured against rotations
    within each document, so that what exceeds the null is routing that follows the topic within documents, and their
    results are in RUN/syntax.

    Args:
        run: a run folder or its address, or its open trace.
        labels: label columns of the corpus to measure; all usable ones by default.
        fit: fit topics, or only measure known labels.
        embedding: sentence-transformers model by name or path, or ``tfidf``; by default the packaged model.
        num_topics: how many topics, estimated by default; with hdbscan, topics are merged until so many are left.
        reduction: how embeddings lose dimensions.
        clustering: kmeans assigns every document; hdbscan leaves outliers, and finds many small topics.
        outliers: documents that hdbscan leaves out get the nearest topic, or keep none.
        min_topic_size: fewest documents of a topic; by default one document in 100, at least 5.
        window: topics of windows of so many tokens, not of documents.
        language: code of the texts' language, for stop words; by default that of the column lang or
            language, else detected.
        topics_from: label by the topics that were fitted in another run.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; by default 1,000 for labels of documents, 200 for those of tokens.
        seed: of the topic model and of the null.
        engine: ``local``, this process; or ``ray``, workers that embed documents and measure layers, with the same
            frame as result.
        address: of a Ray cluster, see `specialize.scale.options.EngineOptions`, as for the next two.
        workers: how many; by default one for each GPU, else one for each core, at most 8.
        gpus_per_worker: GPUs of each; by default one if there are any.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: no label column and no topics, or topics that cannot be fitted.
        MeasurementError: a value is out of range, or nothing that is labelled was routed.
        EngineError: there is no Ray cluster, it has no room for the workers, or they end again and again.
    """
    import pandas as pd

    settings = MeasureSettings(rule, permutations, seed)
    saved = None if topics_from is None else Path(topics_from)
    options = TopicOptions(
        embedding, num_topics, min_topic_size, reduction, clustering, outliers, window, language, seed, saved
    )
    chosen = options if fit else None
    engine_options = EngineOptions(engine, address, workers, gpus_per_worker)
    trace = open_run(run, rule=rule, tokens_for=None if window is None else "topics of windows")
    with open_engine(engine_options, reporter=reporter) as pool:
        frames = measure_topics(trace, labels, options=chosen, settings=settings, engine=pool, reporter=reporter)
    return pd.concat(frames, ignore_index=True)


def measure_topics(
    trace: "RoutingTrace",
    labels: Sequence[str] | None,
    *,
    options: TopicOptions | None,
    settings: MeasureSettings,
    engine: Engine = LOCAL,
    reporter: Reporter,
    must_fit: bool = True,
) -> "list[pd.DataFrame]":
    """Fit topics, then measure known labels and those topics.

    Topics come first, so that a name, a model or a setting with which they cannot be fitted leaves nothing behind.

    Args:
        trace: an open trace.
        labels: columns of the corpus; all usable ones when None.
        options: how topics are fitted; None to fit none.
        settings: how to measure.
        engine: embeds documents and measures layers.
        reporter: receives messages and progress.
        must_fit: whether topics that cannot be fitted are an error; otherwise the reporter receives the reason.

    Returns:
        The result rows of each label set.
    """
    from specialize.annotators.store import save_annotation

    # str.split of pandas would hold every word
    words = sum(len(text.split()) for text in trace.documents()["text"].dropna())
    note_domain_shift(trace.num_tokens / words if words else 0.0, reporter)
    known = read_columns(trace, labels, reporter=reporter)
    for annotation in known:
        check_measurable(trace, annotation, settings)
    fitted = None if options is None else _try_topics(trace, options, engine, reporter, must_fit=must_fit)
    if not (options or known):
        raise AnnotationError(
            f"{trace.path}: expected a label column with 2 to 100 values and five documents for each, found none; "
            "leave out --labels-only (fit=False) to fit topics"
        )
    measured = [*known, *([] if fitted is None else [fitted])]
    frames = {
        f"{'topics' if each.level == 'document' else 'syntax'}/{each.name}": measure_annotation(
            trace, each, settings=settings, engine=engine, reporter=reporter
        )
        for each in measured
    }
    for annotation in known:
        save_annotation(trace, annotation)
    write_frames(trace, frames)
    return list(frames.values())


def _try_topics(
    trace: "RoutingTrace", options: TopicOptions, engine: Engine, reporter: Reporter, *, must_fit: bool
) -> "Annotation | None":
    try:
        return find_topics(trace, options, engine=engine, reporter=reporter)
    except (AnnotationError, MeasurementError) as error:
        if must_fit:
            raise
        reporter.say(f"topics are left out: {error}")
        return None


def read_columns(
    trace: "RoutingTrace", columns: Sequence[str] | None = None, *, reporter: Reporter = SILENT
) -> "list[Annotation]":
    """Annotate documents with columns of the corpus; nothing is stored.

    Args:
        trace: an open trace.
        columns: their names; all usable ones by default.
        reporter: receives the columns that are not measured, each with the reason.

    Returns:
        The annotations of the columns that can be measured.

    Raises:
        AnnotationError: the corpus has no column of a name.
    """
    from specialize.annotators.columns import annotate_column, explain_unusable, label_columns

    documents = trace.documents()
    known = {
        name: annotate_column(documents, name) for name in columns or label_columns(documents, group=trace.group_column)
    }
    unusable = explain_unusable(documents, columns, group=trace.group_column)
    note_unusable(unusable, reporter)
    return [annotation for name, annotation in known.items() if name not in unusable]
