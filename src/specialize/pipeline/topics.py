"""Topics: find them, take known labels, and measure how far routing is associated with them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.choices import Clustering, Outliers, Reduction, SlotRule
from specialize.errors import AnnotationError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import MeasureSettings, measure_annotation, note_domain_shift, open_run

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


def topics(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    labels: Sequence[str] | None = None,
    fit: bool = True,
    embedding: str | None = None,
    num_topics: int | None = None,
    reduction: Reduction = "umap",
    clustering: Clustering = "hdbscan",
    outliers: Outliers = "nearest",
    min_topic_size: int | None = None,
    window: int | None = None,
    language: str | None = None,
    topics_from: str | PathLike[str] | None = None,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Find the documents' topics and measure how far routing is associated with them and with known labels.

    Writes RUN/topics/NAME.{csv,parquet} for each label set, and for fitted topics ``topic_info.csv``,
    ``topic_quality.csv`` and the model. Topics of windows are labels of tokens: they are measured against rotations
    within each document, so that what exceeds the null is routing that follows the topic within documents, and their
    results are in RUN/syntax.

    Args:
        run: a run folder, or its open trace.
        labels: label columns of the corpus to measure; all usable ones by default.
        fit: fit topics, or only measure known labels.
        embedding: sentence-transformers model by name or path, or ``tfidf``; by default the packaged model.
        num_topics: merge topics until so many are left; with kmeans, how many to find.
        reduction: how embeddings lose dimensions.
        clustering: hdbscan finds the number of topics and leaves outliers; kmeans does neither.
        outliers: documents that hdbscan leaves out get the nearest topic, or keep none.
        min_topic_size: fewest documents of a topic; by default one document in 200, at least 5 and at most 100.
        window: topics of windows of so many tokens, not of documents.
        language: code of the texts' language, for stop words; by default that of the column lang or language.
        topics_from: label by the topics that were fitted in another run.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; by default 1,000 for labels of documents, 200 for those of tokens.
        seed: of the topic model and of the null.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: no label column and no topics, or topics that cannot be fitted.
        MeasurementError: a value is out of range, or nothing that is labelled was routed.
    """
    import pandas as pd

    settings = MeasureSettings(rule, permutations, seed)
    saved = None if topics_from is None else Path(topics_from)
    options = TopicOptions(
        embedding, num_topics, min_topic_size, reduction, clustering, outliers, window, language, seed, saved
    )
    chosen = options if fit else None
    frames = measure_topics(open_run(run), labels, options=chosen, settings=settings, reporter=reporter)
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class TopicOptions:
    """How topics are fitted; the attributes are the arguments of `topics`, `saved` is its `topics_from`.

    Raises:
        AnnotationError: an unknown choice, or a number out of range.
    """

    embedding: str | None = None
    num_topics: int | None = None
    min_topic_size: int | None = None
    reduction: Reduction = "umap"
    clustering: Clustering = "hdbscan"
    outliers: Outliers = "nearest"
    window: int | None = None
    language: str | None = None
    seed: int = 0
    saved: Path | None = None

    def __post_init__(self) -> None:
        from specialize.annotators.language import check_language
        from specialize.annotators.topic_settings import check_topic_settings

        check_topic_settings(
            num_topics=self.num_topics,
            min_topic_size=self.min_topic_size,
            reduction=self.reduction,
            clustering=self.clustering,
            outliers=self.outliers,
        )
        check_language(self.language)
        if self.window is not None and self.window < 1:
            raise AnnotationError(f"window: expected a number of tokens of at least 1, got {self.window}")

    def folder(self, run: Path) -> Path:
        """Folder of the topics of a run."""
        return run / "topics" if self.window is None else run / "topics" / "windows"


def measure_topics(
    trace: "RoutingTrace",
    labels: Sequence[str] | None,
    *,
    options: TopicOptions | None,
    settings: MeasureSettings,
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
        reporter: receives messages and progress.
        must_fit: whether topics that cannot be fitted are an error; otherwise the reporter receives the reason.

    Returns:
        The result rows of each label set.
    """
    from specialize.annotators.store import save_annotation

    words = trace.documents()["text"].dropna().str.split().str.len().sum()
    note_domain_shift(trace.num_tokens / words if words else 0.0, reporter)
    known = read_columns(trace, labels, reporter=reporter)
    fitted = None if options is None else _try_topics(trace, options, reporter, must_fit=must_fit)
    if not (options or known):
        raise AnnotationError(
            f"{trace.path}: expected a label column with 2 to 100 values and five documents for each, found none; "
            "leave out --labels-only (fit=False) to fit topics"
        )
    for annotation in known:
        save_annotation(trace, annotation)
    frames = [
        measure_annotation(trace, annotation, folder="topics", settings=settings, reporter=reporter)
        for annotation in known
    ]
    if fitted is None:
        return frames
    folder = "topics" if fitted.level == "document" else "syntax"
    return [*frames, measure_annotation(trace, fitted, folder=folder, settings=settings, reporter=reporter)]


def _try_topics(
    trace: "RoutingTrace", options: TopicOptions, reporter: Reporter, *, must_fit: bool
) -> "Annotation | None":
    try:
        return find_topics(trace, options, reporter=reporter)
    except AnnotationError as error:
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
    known = {name: annotate_column(documents, name) for name in columns or label_columns(documents)}
    unusable = explain_unusable(documents, columns)
    if unusable:
        reporter.say("columns that are not measured as labels: " + "; ".join(f"{n} ({r})" for n, r in unusable.items()))
    return [annotation for name, annotation in known.items() if name not in unusable]


def find_topics(trace: "RoutingTrace", options: TopicOptions, *, reporter: Reporter = SILENT) -> "Annotation":
    """Fit topics, or take saved ones, and store the annotation with what the topics are and how stable they are.

    Args:
        trace: an open trace, with its texts.
        options: how topics are fitted.
        reporter: receives messages and progress.

    Returns:
        The topics of documents, or of the tokens of windows.

    Raises:
        AnnotationError: the trace has no texts, a package is missing, or there are too few documents.
    """
    from specialize.annotators.store import find_annotation, save_annotation
    from specialize.annotators.windows import WINDOW_TOPICS, cut_windows, spread_windows

    name = "bertopic" if options.window is None else WINDOW_TOPICS
    if options.window is None:
        units, window_of = trace.documents(), None
    else:
        units, window_of = cut_windows(trace, options.window)
        reporter.say(f"{len(units):,} windows of {trace.num_documents:,} documents")
    made_by = _describe_fit(units, options) if options.saved is None else {}
    stored = find_annotation(trace, name, made_by) if made_by else None
    if stored is not None and (options.folder(trace.path) / "model" / "topics.json").is_file():
        reporter.say(f"topics: fitted before, taken from {trace.path / 'annotations'}")
        return stored
    if options.saved is None:
        annotation = _fit_topics(trace, units, options, reporter)
        annotation = replace(annotation, provenance=annotation.provenance | {"made_by": made_by})
    else:
        annotation = _take_topics(trace, units, options, options.saved, reporter)
    if window_of is not None:
        annotation = spread_windows(annotation, window_of)
    save_annotation(trace, annotation)
    return annotation


def _describe_fit(units: "pd.DataFrame", options: TopicOptions) -> dict[str, Any]:
    """Return what a fit of these documents or windows uses: no setting is left to a default that may change."""
    from specialize.annotators.embedding import identify_embedding
    from specialize.annotators.topic_settings import default_topic_size, list_languages

    used = {
        "embedding": identify_embedding(options.embedding),
        "min_topic_size": options.min_topic_size or default_topic_size(len(units)),
        "language": ",".join(list_languages(units, options.language)),
    }
    return {**asdict(options), "saved": None, **used, "specialize": version("specialize")}


def _fit_topics(
    trace: "RoutingTrace", units: "pd.DataFrame", options: TopicOptions, reporter: Reporter
) -> "Annotation":
    reporter.say("loading BERTopic …")
    from specialize.annotators.topic_store import save_topics
    from specialize.annotators.topics import annotate_topics
    from specialize.measure.results.files import write_table

    fitting: dict[str, Any] = {key: value for key, value in asdict(options).items() if key not in ("window", "saved")}
    kind = "documents" if options.window is None else "windows"
    with reporter.progress("topics", f"passes over {kind}") as update:
        model = annotate_topics(
            units,
            stability_seeds=(options.seed + 1,),
            cache=trace.path / "annotations" / "embeddings",
            progress=update,
            **fitting,
        )
    folder = options.folder(trace.path)
    save_topics(model, units, folder / "model")
    write_table(model.info, folder / "topic_info.csv", text_columns=("top_words", "example"))
    write_table(model.quality, folder / "topic_quality.csv", text_columns=("quantity",))
    return replace(model.annotation, provenance=model.annotation.provenance | {"window": options.window})


def _take_topics(
    trace: "RoutingTrace", units: "pd.DataFrame", options: TopicOptions, saved: Path, reporter: Reporter
) -> "Annotation":
    from specialize.annotators.topic_store import apply_topics

    own = options.folder(saved) / "model"
    folder = own if own.is_dir() else saved
    kind = "documents" if options.window is None else "windows"
    with reporter.progress("topics", kind) as update:
        annotation = apply_topics(units, folder, cache=trace.path / "annotations" / "embeddings", progress=update)
    fitted, predicted = (annotation.provenance[key] for key in ("fitted", "predicted"))
    reporter.say(f"topics of {folder}: {fitted:,} {kind} as fitted, {predicted:,} by the nearest topic")
    return annotation
