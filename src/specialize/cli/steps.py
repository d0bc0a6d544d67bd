"""The stages that several commands share: each does its part, shows its progress, and leaves its files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.cli.console import in_bytes, progress, say
from specialize.errors import AnnotationError, did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame

    from specialize.annotation import Annotation
    from specialize.capture import Checkpoint, TraceOptions
    from specialize.corpus import Corpus
    from specialize.trace import RoutingTrace


# Labels of documents are quick to permute, and have many cells to correct for: the smallest p must be small.
DEFAULT_DRAWS = {"token": 200, "document": 1000}


MANY_PIECES = 2.0  # tokens a word; tokenizers of a text's own language need 1.1 to 1.6


@dataclass(frozen=True)
class MeasureOptions:
    """How annotations are measured, the same for syntax and topics.

    Attributes:
        rule: how a token's mass is spread over its slots: selection, gate or first.
        permutations: number of permutations under the null; by default those of `DEFAULT_DRAWS`.
        seed: of the null, and of the topic model.
        skip_positions: first positions of each sequence whose labels of tokens are left out.
    """

    rule: str = "selection"
    permutations: int | None = None
    seed: int = 0
    skip_positions: int = 0


def load_model(name: str, **how: object) -> "Checkpoint":
    """Load a checkpoint, this package's own model type included; `how` as in `load_checkpoint`."""
    say(f"loading {name} …")
    import specialize.models  # noqa: F401 (registers the model type with transformers)
    from specialize.capture import load_checkpoint

    return load_checkpoint(name, **how)  # type: ignore[arg-type]  # checked when the command line is read


def trace(
    checkpoint: "Checkpoint",
    corpus: "Corpus",
    run: Path,
    *,
    options: "TraceOptions",
    command: str,
    repair: bool = False,
) -> "RoutingTrace":
    """Run the corpus through the model."""
    from specialize.capture import TracePlan, TraceProgress, trace_corpus

    def announce(plan: TracePlan) -> None:
        for warning in plan.warnings:
            say(f"note: {warning}")
        say(
            f"{run}: about {plan.tokens:,} tokens of {plan.documents:,} documents, {plan.layers} routers: "
            f"about {in_bytes(plan.size)} to write, {in_bytes(plan.free)} free"
        )
        if plan.size > plan.free:
            say("this may not fit; a trace that runs out of disk keeps what it has and goes on when there is room")

    with progress("tracing", "documents") as update:
        fewest = options.batch_tokens

        def show(done: TraceProgress) -> None:
            nonlocal fewest
            if done.batch_tokens < fewest:
                fewest = done.batch_tokens
                say(f"out of memory: going on with batches of {fewest:,} tokens")
            update(done.documents_done, done.documents, rate=f"{done.tokens_per_second:,.0f} tokens/s")

        return trace_corpus(
            checkpoint,
            corpus,
            run,
            options=options,
            repair=repair,
            command=command,
            on_plan=announce,
            on_progress=show,
        )


@dataclass(frozen=True)
class SyntaxOptions:
    """How tokens get their labels.

    Attributes:
        tags: tags of words and classes of tokens, an annotation each.
        pipeline: spaCy pipeline by name or path, see `annotate_syntax`.
        language: code of all texts' language.
        gold: CoNLL-U file or folder that has the tags of the traced text.
        pieces: which of a word's tokens carries its tag.
        processes: worker processes of the tagger.
    """

    tags: Sequence[str] = ("upos",)
    pipeline: str | None = None
    language: str | None = None
    gold: Path | None = None
    pieces: str = "first"
    processes: int = 1


def tag(opened: "RoutingTrace", options: SyntaxOptions) -> "list[Annotation]":
    """Annotate tokens with tags, gold tags where there are any, and classes, and store the annotations."""
    from specialize.annotators.gold import annotate_gold, language_of_treebank
    from specialize.annotators.store import save_annotation
    from specialize.annotators.tagging import TAGS
    from specialize.annotators.token_classes import CLASSES, annotate_classes

    unknown = [name for name in options.tags if name not in (*TAGS, *CLASSES)]
    if unknown:
        known = (*TAGS, *CLASSES)
        raise AnnotationError(
            f"expected tags among {', '.join(known)}, got {unknown[0]!r}.{did_you_mean(unknown[0], known)}"
        )
    tags = [name for name in options.tags if name in TAGS]
    rule: Any = options.pieces  # checked by what takes it
    language = options.language
    annotations: list[Annotation] = []
    if options.gold is not None:
        in_treebanks = [name for name in tags if name != "ent"]
        language = language or language_of_treebank(options.gold)
        with progress("reading gold tags", "documents") as update:
            annotations += annotate_gold(opened, options.gold, tags=in_treebanks, rule=rule, progress=update)
        without = annotations[0].provenance["documents_without_gold"] if annotations else 0
        if without:
            say(f"{without:,} documents have no gold tags")
    if tags:
        try:
            annotations += _tag_words(opened, tags, options, language)
        except AnnotationError as error:
            if options.gold is None or options.pipeline is not None:
                raise
            say(f"gold tags alone: {error}")
    pieces = max((each.provenance.get("tokens_per_word", 0.0) for each in annotations), default=0.0)
    note_domain_shift(pieces)
    annotations += annotate_classes(opened, [name for name in options.tags if name in CLASSES])
    for annotation in annotations:
        save_annotation(opened, annotation)
    return annotations


def note_domain_shift(tokens_per_word: float) -> None:
    """Say so where words fall into so many tokens that the model hardly knows such text."""
    if tokens_per_word > MANY_PIECES:
        say(
            f"note: words are cut into {tokens_per_word:.1f} tokens on average: this text is unlike what the "
            "tokenizer, and so probably the model, was trained on"
        )


def _tag_words(
    opened: "RoutingTrace", tags: Sequence[str], options: SyntaxOptions, language: str | None
) -> "list[Annotation]":
    """Tag with spaCy, unless the very same was done before."""
    from specialize.annotators.store import find_annotation
    from specialize.annotators.syntax import annotate_syntax, identify_pipelines

    made_by = {
        "pipelines": identify_pipelines(opened.documents(), pipeline=options.pipeline, language=language),
        "pieces": options.pieces,
        "specialize": version("specialize"),
    }
    stored = [each for each in (find_annotation(opened, name, made_by) for name in tags) if each is not None]
    if len(stored) == len(tags):
        say(f"{', '.join(tags)}: tagged before, taken from {opened.path / 'annotations'}")
        return stored
    say("loading spaCy …")
    rule: Any = options.pieces  # checked by what takes it
    with progress("tagging", "documents") as update:
        annotations = annotate_syntax(
            opened,
            tags=tags,
            pipeline=options.pipeline,
            language=language,
            rule=rule,
            processes=options.processes,
            progress=update,
        )
    for code, count in annotations[0].provenance.get("documents_without_pipeline", {}).items():
        say(f"{count:,} documents in {code!r} are left out: no spaCy pipeline for it is installed")
    return [replace(each, provenance=each.provenance | {"made_by": made_by}) for each in annotations]


@dataclass(frozen=True)
class TopicOptions:
    """How topics are fitted, see `annotate_topics`.

    Attributes:
        window: tokens of the windows that have topics, instead of documents.
        saved: the folder or run whose topics are taken; nothing is fitted.
    """

    embedding: str | None = None
    num_topics: int | None = None
    min_topic_size: int | None = None
    reduction: str = "umap"
    clustering: str = "hdbscan"
    outliers: str = "nearest"
    window: int | None = None
    language: str | None = None
    seed: int = 0
    saved: Path | None = None


def find_topics(opened: "RoutingTrace", options: TopicOptions) -> "Annotation":
    """Fit topics, store the annotation, and leave what they are and how far to trust them; or take saved ones."""
    from specialize.annotators.store import find_annotation, save_annotation
    from specialize.annotators.windows import WINDOW_TOPICS, cut_windows, spread_windows

    made_by = {**asdict(options), "saved": None, "specialize": version("specialize")}
    name = "bertopic" if options.window is None else WINDOW_TOPICS
    stored = find_annotation(opened, name, made_by) if options.saved is None else None
    if stored is not None and (_topic_folder(opened.path, options) / "model" / "topics.json").is_file():
        say(f"topics: fitted before, taken from {opened.path / 'annotations'}")
        return stored
    if options.window is None:
        units, window_of = opened.documents(), None
    else:
        units, window_of = cut_windows(opened, options.window)
        say(f"{len(units):,} windows of {opened.num_documents:,} documents")
    if options.saved is None:
        annotation = _fit_topics(opened, units, options)
        annotation = replace(annotation, provenance=annotation.provenance | {"made_by": made_by})
    else:
        annotation = _take_topics(opened, units, options)
    if window_of is not None:
        annotation = spread_windows(annotation, window_of)
    save_annotation(opened, annotation)
    return annotation


def _topic_folder(run: Path, options: TopicOptions) -> Path:
    return run / "topics" if options.window is None else run / "topics" / "windows"


def _fit_topics(opened: "RoutingTrace", units: "DataFrame", options: TopicOptions) -> "Annotation":
    say("loading BERTopic …")
    from specialize.annotators.topic_store import save_topics
    from specialize.annotators.topics import annotate_topics
    from specialize.measure.results.files import write_table

    given: dict[str, Any] = asdict(options)  # what is chosen by name is checked by what takes it
    fitting = {key: value for key, value in given.items() if key not in ("window", "saved")}
    with progress("topics", f"passes over {'documents' if options.window is None else 'windows'}") as update:
        model = annotate_topics(
            units,
            stability_seeds=(options.seed + 1,),
            cache=opened.path / "annotations" / "embeddings",
            progress=update,
            **fitting,
        )
    folder = _topic_folder(opened.path, options)
    save_topics(model, units, folder / "model")
    write_table(model.info, folder / "topic_info.csv", text_columns=("top_words", "example"))
    write_table(model.quality, folder / "topic_quality.csv", text_columns=("quantity",))
    return replace(model.annotation, provenance=model.annotation.provenance | {"window": options.window})


def _take_topics(opened: "RoutingTrace", units: "DataFrame", options: TopicOptions) -> "Annotation":
    from specialize.annotators.topic_store import apply_topics

    assert options.saved is not None
    own = _topic_folder(options.saved, options) / "model"
    folder = own if own.is_dir() else options.saved
    kind = "documents" if options.window is None else "windows"
    with progress("topics", kind) as update:
        annotation = apply_topics(units, folder, cache=opened.path / "annotations" / "embeddings", progress=update)
    fitted, predicted = (annotation.provenance[key] for key in ("fitted", "predicted"))
    say(f"topics of {folder}: {fitted:,} {kind} as fitted, {predicted:,} by the nearest topic")
    return annotation


def take_columns(opened: "RoutingTrace", columns: Sequence[str] | None = None) -> "list[Annotation]":
    """Annotate documents with columns of the corpus; all usable ones unless named."""
    from specialize.annotators.columns import annotate_column, label_columns
    from specialize.annotators.store import save_annotation

    documents = opened.documents()
    annotations = [annotate_column(documents, name) for name in columns or label_columns(documents)]
    for annotation in annotations:
        save_annotation(opened, annotation)
    return annotations


def measure(opened: "RoutingTrace", annotation: "Annotation", *, folder: str, options: MeasureOptions) -> None:
    """Measure how far routing goes with an annotation, and with what else, into RUN/folder/NAME.{csv,parquet}."""
    import pandas as pd

    from specialize.measure.results.files import write_results
    from specialize.measure.runs.context import drop_positions
    from specialize.measure.runs.details import measure_details

    if annotation.level == "token":
        annotation = drop_positions(annotation, opened.tokens(), options.skip_positions)
    draws = options.permutations or DEFAULT_DRAWS[annotation.level]
    rule: Any = options.rule  # checked when the command line is read
    with progress(f"measuring {annotation.name}", "layers") as update:
        frame = measure_specialization(
            opened, annotation, rule=rule, permutations=permutations, seed=options.seed, progress=update
        )
    with progress(f"{annotation.name}: words and context", "routers") as update:
        details = measure_details(
            opened, annotation, rule=rule, permutations=permutations, seed=options.seed, progress=update
        )
    write_results(pd.concat([frame, details], ignore_index=True), opened.path / folder, annotation.name)


def do_syntax(opened: "RoutingTrace", *, options: MeasureOptions, labels: SyntaxOptions | None = None) -> None:
    """Tag and measure; where there are gold tags beside predicted ones, measure what the tagger's mistakes do."""
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.tagger import measure_tagger_error, share_labels

    annotations = {each.name: each for each in tag(opened, labels or SyntaxOptions())}
    for annotation in annotations.values():
        measure(opened, annotation, folder="syntax", options=options)
    for name, predicted in annotations.items():
        gold = annotations.get(f"gold_{name}")
        if gold is not None and not share_labels(predicted, gold):
            say(f"{name}: not compared with the gold tags, whose label set is another")
        elif gold is not None:
            rule: Any = options.rule
            with progress(f"{name} against gold", "routers") as update:
                frame = measure_tagger_error(opened, predicted, gold, rule=rule, progress=update)
            write_results(frame, opened.path / "syntax" / "tagger", name)
            accuracy = frame.loc[frame["metric"] == "tagger_accuracy"].iloc[0]
            say(
                f"{name}: the tagger is right for {accuracy['value']:.1%} "
                f"[{accuracy['ci_low']:.1%}, {accuracy['ci_high']:.1%}] of {accuracy['n_tokens']:,} tokens; "
                f"{opened.path / 'syntax' / 'tagger' / name}.csv"
            )


def do_topics(
    opened: "RoutingTrace",
    *,
    options: MeasureOptions,
    columns: Sequence[str] | None = None,
    topics: TopicOptions | None = None,
    fit: bool = True,
    must_fit: bool = True,
) -> None:
    """Measure known labels, then fit topics and measure those.

    Args:
        opened: the trace.
        options: how to measure.
        columns: known labels; all usable columns unless named.
        topics: how topics are fitted.
        fit: whether to fit topics at all.
        must_fit: whether it is an error when no topics can be fitted; otherwise it is said and passed over.
    """
    words = opened.documents()["text"].dropna().str.split().str.len().sum()
    note_domain_shift(opened.num_tokens / words if words else 0.0)
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
        fitted = find_topics(opened, topics or TopicOptions(seed=options.seed))
    except AnnotationError as error:
        if must_fit:
            raise
        say(f"topics are left out: {error}")
        return
    measure(opened, fitted, folder="topics" if fitted.level == "document" else "syntax", options=options)
