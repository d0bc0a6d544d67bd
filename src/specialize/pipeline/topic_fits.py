"""Topics fitted for a run, or taken from another one, and stored with what they are and how stable they are."""

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.choices import Clustering, Outliers, Reduction, check_whole
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, SpecializeError
from specialize.events import SILENT, Reporter

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.annotators.language_detection import Languages
    from specialize.annotators.topics import TopicModel
    from specialize.trace import RoutingTrace

TABLES = {"topic_info": ("top_words", "example"), "topic_quality": ("quantity",)}  # and their columns of text


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
    clustering: Clustering = "kmeans"
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
        if self.window is not None:
            check_whole("window", self.window, error=AnnotationError)
            if self.window < 1:
                raise AnnotationError(f"window: expected a number of tokens of at least 1, got {self.window}")

    def folder(self, run: Path) -> Path:
        """Folder of the topics of a run."""
        return run / "topics" if self.window is None else run / "topics" / "windows"


def find_topics(
    trace: "RoutingTrace", options: TopicOptions, *, engine: Engine = LOCAL, reporter: Reporter = SILENT
) -> "Annotation":
    """Fit topics, or take saved ones, and store the annotation with what the topics are and how stable they are.

    Args:
        trace: an open trace, with its texts.
        options: how topics are fitted.
        engine: embeds chunks of documents.
        reporter: receives messages and progress.

    Returns:
        The topics of documents, or of the tokens of windows.

    Raises:
        AnnotationError: the trace has no texts, a package is missing, or there are too few documents.
        MeasurementError: every document is an outlier.
    """
    from specialize.annotators.language_detection import find_languages
    from specialize.annotators.store import find_annotation, save_annotation
    from specialize.annotators.windows import WINDOW_TOPICS, cut_windows, spread_windows
    from specialize.measure.runs.routers import check_labelled

    name = "bertopic" if options.window is None else WINDOW_TOPICS
    if options.window is None:
        units, window_of = trace.documents(), None
    else:
        units, window_of = cut_windows(trace, options.window)
        reporter.say(f"{len(units):,} windows of {trace.num_documents:,} documents")
    languages = find_languages(units, options.language) if options.saved is None else None
    made_by = {} if languages is None else _describe_fit(units, options, languages)
    stored = find_annotation(trace, name, made_by) if made_by else None
    if stored is not None and _is_whole(trace, options.folder(trace.path)):
        reporter.say(f"topics: fitted before, taken from {trace.path / 'annotations'}")
        _write_again(options.folder(trace.path))
        return stored
    if languages is not None:
        model = _fit_topics(trace, units, options, languages, engine=engine, reporter=reporter)
        facts = model.annotation.provenance | {"window": options.window, "made_by": made_by}
        annotation = replace(model.annotation, provenance=facts)
    else:
        model = None
        annotation = _take_topics(trace, units, options, engine=engine, reporter=reporter)
    if window_of is not None:
        annotation = spread_windows(annotation, window_of)
    check_labelled(annotation)
    _store_fit(trace, units, model, options.folder(trace.path))
    save_annotation(trace, annotation)
    return annotation


def copy_tables(source: "RoutingTrace", target: "RoutingTrace") -> None:
    """Write the tables of topics that were fitted for one trace beside another one, of the same text."""
    from specialize.measure.results.files import read_with_origin, write_both

    for name, columns in TABLES.items():
        frame, _ = read_with_origin(source.path / "topics" / f"{name}.parquet")
        write_both(frame, target.path / "topics", name, text_columns=columns, trace=target)


def _write_again(folder: Path) -> None:
    """Write the CSV files of a fit again, which carry no checksum."""
    from specialize.measure.results.files import read_with_origin, write_table

    for name, columns in TABLES.items():
        frame, _ = read_with_origin(folder / f"{name}.parquet")
        write_table(frame, folder / f"{name}.csv", text_columns=columns)


def _is_whole(trace: "RoutingTrace", folder: Path) -> bool:
    """Return whether a folder holds a fit and its tables, undamaged and of this trace."""
    from specialize.annotators.topic_store import load_topics
    from specialize.measure.results.files import read_with_origin
    from specialize.measure.results.stored import origin_of

    paths = [folder / f"{name}.parquet" for name in TABLES]
    try:
        load_topics(folder / "model")
        return all(read_with_origin(path)[1] == origin_of(path, trace) for path in paths)
    except SpecializeError:
        return False


def _store_fit(trace: "RoutingTrace", units: "pd.DataFrame", model: "TopicModel | None", folder: Path) -> None:
    """Write a fit and its tables; where topics were taken, remove the tables of those that they replace."""
    from specialize.annotators.topic_store import save_topics
    from specialize.measure.results.files import write_both

    if model is None:
        for path in (folder / f"{name}.{suffix}" for name in TABLES for suffix in ("parquet", "csv")):
            path.unlink(missing_ok=True)
        return
    save_topics(model, units, folder / "model")
    for name, frame in (("topic_info", model.info), ("topic_quality", model.quality)):
        write_both(frame, folder, name, text_columns=TABLES[name], trace=trace)


def _describe_fit(units: "pd.DataFrame", options: TopicOptions, languages: "Languages") -> dict[str, Any]:
    """Return what a fit of these documents or windows uses: no setting is left to a default that may change."""
    from specialize.annotators.embedding import identify_embedding
    from specialize.annotators.topic_clusters import ESTIMATE
    from specialize.annotators.topic_settings import default_topic_size, list_languages

    used = {
        "estimate": ESTIMATE,
        "embedding": identify_embedding(options.embedding),
        "min_topic_size": options.min_topic_size or default_topic_size(len(units)),
        "language": ",".join(list_languages(units, languages)),
    }
    return {**asdict(options), "saved": None, **used, "specialize": version("specialize")}


def _fit_topics(
    trace: "RoutingTrace",
    units: "pd.DataFrame",
    options: TopicOptions,
    languages: "Languages",
    *,
    engine: Engine,
    reporter: Reporter,
) -> "TopicModel":
    reporter.say("loading BERTopic …")
    from specialize.annotators.topics import annotate_topics

    fitting: dict[str, Any] = {key: value for key, value in asdict(options).items() if key not in ("window", "saved")}
    kind = "documents" if options.window is None else "windows"
    with reporter.progress("topics", f"passes over {kind}") as update:
        return annotate_topics(
            units,
            stability_seeds=(options.seed + 1,),
            cache=trace.path / "annotations" / "embeddings",
            engine=engine,
            progress=update,
            **fitting | {"language": languages},
        )


def _take_topics(
    trace: "RoutingTrace", units: "pd.DataFrame", options: TopicOptions, *, engine: Engine, reporter: Reporter
) -> "Annotation":
    from specialize.annotators.topic_store import apply_topics

    saved = options.saved or trace.path
    own = options.folder(saved) / "model"
    folder = own if own.is_dir() else saved
    kind = "documents" if options.window is None else "windows"
    with reporter.progress("topics", kind) as update:
        cache = trace.path / "annotations" / "embeddings"
        annotation = apply_topics(units, folder, cache=cache, engine=engine, progress=update)
    made = annotation.provenance
    reporter.say(f"topics of {folder}: {made['fitted']:,} {kind} as fitted, {made['predicted']:,} by the nearest topic")
    return annotation
