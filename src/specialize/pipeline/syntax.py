"""Parts of speech: tag the traced text and measure how far routing is associated with the tags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING

from specialize.choices import EngineName, Pieces, SlotRule
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, did_you_mean
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import (
    MeasureSettings,
    check_at_least,
    check_measurable,
    measure_annotation,
    note_domain_shift,
    open_run,
    write_frames,
)
from specialize.remote.places import at_addresses
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_engine
from specialize.text import split_names

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


@at_addresses(run="measured")
def syntax(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    tags: Sequence[str] = ("upos",),
    pipeline: str | None = None,
    language: str | None = None,
    gold: str | PathLike[str] | None = None,
    pieces: Pieces = "first",
    processes: int = 1,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    skip_positions: int = 0,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Tag the traced text and measure how far routing is associated with the tags.

    Writes RUN/annotations/NAME.arrow and RUN/syntax/NAME.{csv,parquet} for each label set. Text that was tagged in the
    same way before is not tagged again. Where gold tags and predicted ones of a kind are there, what the tagger's
    errors change goes to RUN/syntax/tagger/NAME.{csv,parquet}.

    Args:
        run: a run folder or its address, or its open trace.
        tags: upos, tag, dep, morph, ent of words; class, word_part, case, frequency, position, role, phase of tokens.
        pipeline: spaCy pipeline by name or path; by default the smallest one that is installed for the language.
        language: code of all texts' language, such as ``de``; by default that of the column lang or language, else
            detected from the texts.
        gold: CoNLL-U file or folder that holds the tags of the traced text.
        pieces: which of a word's tokens carries its tag.
        processes: worker processes of the tagger.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; 200 by default.
        seed: of the null.
        skip_positions: first positions of each sequence to leave out.
        engine: ``local``, this process; or ``ray``, workers that tag documents and measure layers, with the same
            frame as result.
        address: of a Ray cluster, see `specialize.scale.options.EngineOptions`, as for the next two.
        workers: how many; by default one for each GPU, else one for each core, at most 8.
        gpus_per_worker: GPUs of each; by default one if there are any.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: unknown tags, no pipeline, or text that cannot be tagged.
        MeasurementError: a value is out of range, or nothing that is labelled was routed.
        EngineError: there is no Ray cluster, it has no room for the workers, or they end again and again.
    """
    import pandas as pd

    settings = MeasureSettings(rule, permutations, seed, skip_positions)
    options = SyntaxOptions(split_names(tags), pipeline, language, gold, pieces, processes)
    engine_options = EngineOptions(engine, address, workers, gpus_per_worker)
    trace = open_run(run, rule=rule, tokens_for="syntax")
    check = partial(check_measurable, trace, settings=settings)
    with open_engine(engine_options, reporter=reporter) as pool:
        tagged = tag_tokens(trace, options, check=check, engine=pool, reporter=reporter)
        annotations = {each.name: each for each in tagged}
        frames = {
            f"syntax/{name}": measure_annotation(trace, annotation, settings=settings, engine=pool, reporter=reporter)
            for name, annotation in annotations.items()
        }
    taggers = {
        f"syntax/tagger/{name}": _measure_tagger(trace, predicted, annotations[f"gold_{name}"], rule, reporter)
        for name, predicted in annotations.items()
        if f"gold_{name}" in annotations
    }
    write_frames(trace, frames | {place: frame for place, frame in taggers.items() if frame is not None})
    return pd.concat(list(frames.values()), ignore_index=True)


@dataclass(frozen=True)
class SyntaxOptions:
    """How tokens get their labels; the attributes are the arguments of `syntax`.

    Raises:
        AnnotationError: no tags or unknown ones, no language code, or no such pipeline.
    """

    tags: Sequence[str] = ("upos",)
    pipeline: str | None = None
    language: str | None = None
    gold: str | PathLike[str] | None = None
    pieces: Pieces = "first"
    processes: int = 1

    def __post_init__(self) -> None:
        from specialize.annotators.alignment import check_pieces
        from specialize.annotators.language import check_language
        from specialize.annotators.tagging import TAGS, check_pipeline
        from specialize.annotators.token_classes import CLASSES

        known = (*TAGS, *CLASSES)
        unknown = [name for name in self.tags if name not in known]
        if unknown or not self.tags:
            got = f"{unknown[0]!r}.{did_you_mean(unknown[0], known)}" if unknown else "none"
            raise AnnotationError(f"expected tags among {', '.join(known)}, got {got}")
        check_pieces(self.pieces)
        check_language(self.language)
        if any(name in TAGS for name in self.tags):
            check_pipeline(self.pipeline)
        check_at_least("processes", self.processes, 1)


def tag_tokens(
    trace: "RoutingTrace",
    options: SyntaxOptions,
    *,
    check: "Callable[[Annotation], None] | None" = None,
    engine: Engine = LOCAL,
    reporter: Reporter = SILENT,
) -> "list[Annotation]":
    """Annotate tokens with tags, gold tags where they are given, and classes, and store the annotations.

    They are stored before they are measured, because tagging takes long: if measuring is interrupted, they are reused.

    Args:
        trace: an open trace, with its texts.
        options: which tags, and what makes them.
        check: called with each annotation before any is stored.
        engine: tags chunks of documents.
        reporter: receives messages and progress.

    Returns:
        The annotations of tokens, in the order of the options; gold tags first.

    Raises:
        AnnotationError: the trace has no texts, or a pipeline is missing.
    """
    from specialize.annotators.gold import annotate_gold, language_of_treebank
    from specialize.annotators.store import save_annotation
    from specialize.annotators.tagging import TAGS
    from specialize.annotators.token_classes import CLASSES, annotate_classes

    classes = annotate_classes(trace, [name for name in options.tags if name in CLASSES])  # quick: errors come first
    tags = [name for name in options.tags if name in TAGS]
    language = options.language
    annotations: list[Annotation] = []
    if options.gold is not None:
        in_treebanks = [name for name in tags if name != "ent"]
        language = language or language_of_treebank(options.gold)
        with reporter.progress("reading gold tags", "documents") as update:
            annotations += annotate_gold(
                trace,
                options.gold,
                tags=in_treebanks,
                pieces=options.pieces,
                progress=update,
            )
        without = annotations[0].provenance["documents_without_gold"] if annotations else 0
        if without:
            reporter.say(f"{without:,} documents have no gold tags")
    if tags:
        try:
            annotations += _tag_words(trace, tags, options, language, engine=engine, reporter=reporter)
        except AnnotationError as error:
            if options.gold is None or options.pipeline is not None:
                raise
            reporter.say(f"gold tags alone: {error}")
    note_domain_shift(max((each.provenance.get("tokens_per_word", 0.0) for each in annotations), default=0.0), reporter)
    if tags:
        _note_template(trace, reporter)
    annotations += classes
    if check is not None:
        for annotation in annotations:
            check(annotation)
    for annotation in annotations:
        save_annotation(trace, annotation)
    return annotations


def _note_template(trace: "RoutingTrace", reporter: Reporter) -> None:
    """Say how many of the tokens that are tagged are not of the messages of a conversation."""
    from specialize.tracing.chat import TEMPLATE

    if "roles" not in trace.contents:
        return
    share = (trace.tokens(["role"])["role"] == TEMPLATE).mean()
    if share > 0:
        reporter.say(
            f"note: {100 * share:.0f} % of the tokens are the chat template's, and whatever they spell is tagged like "
            "the messages; --tags role (tags) measures how strongly routing is associated with the role"
        )


def _tag_words(
    trace: "RoutingTrace",
    tags: Sequence[str],
    options: SyntaxOptions,
    language: str | None,
    *,
    engine: Engine,
    reporter: Reporter,
) -> "list[Annotation]":
    """Tag with spaCy, unless the very same was done before."""
    from specialize.annotators.language_detection import find_languages
    from specialize.annotators.store import find_annotation
    from specialize.annotators.syntax import annotate_syntax, identify_pipelines

    documents = trace.documents()
    languages = None if options.pipeline is not None else find_languages(documents, language)
    note = None if languages is None else languages.summarize()
    if note is not None:
        reporter.say(note)
    made_by = {
        "pipelines": identify_pipelines(documents, pipeline=options.pipeline, language=languages),
        "languages": None if languages is None else languages.describe(),
        "pieces": options.pieces,
        "specialize": version("specialize"),
    }
    stored = [each for each in (find_annotation(trace, name, made_by) for name in tags) if each is not None]
    if len(stored) == len(tags):
        reporter.say(f"{', '.join(tags)}: tagged before, taken from {trace.path / 'annotations'}")
        return stored
    reporter.say("loading spaCy …")
    with reporter.progress("tagging", "documents") as update:
        annotations = annotate_syntax(
            trace,
            tags=tags,
            pipeline=options.pipeline,
            language=languages,
            pieces=options.pieces,
            processes=options.processes,
            engine=engine,
            progress=update,
        )
    for code, count in annotations[0].provenance.get("documents_without_pipeline", {}).items():
        reporter.say(f"{count:,} documents in {code!r} are left out: no spaCy pipeline for it is installed")
    return [replace(each, provenance=each.provenance | {"made_by": made_by}) for each in annotations]


def _measure_tagger(
    trace: "RoutingTrace", predicted: "Annotation", gold: "Annotation", rule: SlotRule, reporter: Reporter
) -> "pd.DataFrame | None":
    """Measure the tagger against gold tags, and what its errors change; None if they are of another label set."""
    from specialize.measure.runs.tagger import measure_tagger_error, share_labels

    name = predicted.name
    if not share_labels(predicted, gold):
        reporter.say(f"{name}: not compared with the gold tags, which are of another label set")
        return None
    with reporter.progress(f"{name} against gold", "routers") as update:
        frame = measure_tagger_error(trace, predicted, gold, rule=rule, progress=update)
    accuracy = frame.loc[frame["metric"] == "tagger_accuracy"].iloc[0]
    reporter.say(
        f"{name}: the tagger is right for {accuracy['value']:.1%} "
        f"[{accuracy['ci_low']:.1%}, {accuracy['ci_high']:.1%}] of {accuracy['n_tokens']:,} tokens; "
        f"{trace.path / 'syntax' / 'tagger' / name}.csv"
    )
    return frame
