"""The commands. Each reads its options, calls the library, and prints the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import app, command_line
from specialize.cli.console import print_json, print_line, say
from specialize.cli.measuring import PERMUTATIONS, do_routing, do_vocabulary
from specialize.cli.options import (
    CaptureOptions,
    Cluster,
    Clusters,
    CorpusOptions,
    CorpusPath,
    DimensionReduction,
    Draws,
    Embedding,
    Gold,
    Json,
    Language,
    Model,
    ModelOptions,
    NumTopics,
    OutlierRule,
    Outliers,
    Output,
    PieceRule,
    Pieces,
    Pipeline,
    Processes,
    Reduce,
    Rule,
    Run,
    SavedTopics,
    Seed,
    SkipPositions,
    SlotRule,
    SmallestTopic,
    Tags,
    TopicColumn,
    TopicWindow,
    grouped,
    split_names,
)
from specialize.cli.steps import (
    MeasureOptions,
    SyntaxOptions,
    TopicOptions,
    do_syntax,
    do_topics,
    load_model,
    measure,
    trace,
)
from specialize.cli.summary import print_summary
from specialize.cli.tables import number, print_table, text, word
from specialize.cli.written import bytes_stored, print_report, print_trace, stamps
from specialize.errors import AnnotationError, MeasurementError

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace
    from specialize.trace.validate import Check


@app.command()
@grouped
def inspect(model: Model, loading: ModelOptions, as_json: Json = False) -> None:
    """Show the routers of a model: layer, module, E, k, score function, unit, and how they were found."""
    checkpoint = load_model(model, **loading.as_dict())
    from specialize.capture import find_routers

    points = find_routers(checkpoint.model)
    for name, warning in {point.adapter.name: point.adapter.warning for point in points}.items():
        if warning is not None:
            say(f"{name}: {warning}")
    specs = [point.spec for point in points]
    if as_json:
        print_json([spec.as_dict() for spec in specs])
        return
    columns = {
        number("layer"): [spec.layer for spec in specs],
        text("module"): [spec.name for spec in specs],
        number("E"): [spec.num_experts for spec in specs],
        number("k"): [spec.top_k for spec in specs],
        word("score\nfunction"): [spec.score_function for spec in specs],
        word("weights\nsum to 1"): [_yes_or_no(spec.normalized) for spec in specs],
        word("unit"): [spec.unit for spec in specs],
    }
    if any(spec.stack == "encoder" for spec in specs):
        columns[word("stack")] = [spec.stack for spec in specs]
    if any(spec.static for spec in specs):
        columns[word("by\ntoken id")] = [_yes_or_no(spec.static) for spec in specs]
    if any(spec.identity_experts for spec in specs):
        columns[number("identity\nexperts")] = [spec.identity_experts for spec in specs]
    ways = sorted({spec.found_by for spec in specs})
    if len(ways) > 1:
        columns[text("found by")] = [spec.found_by for spec in specs]
    title = f"{len(specs)} routers, found by: {', '.join(ways)}"
    print_table(title, list(columns), list(zip(*columns.values(), strict=True)))


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


@app.command("trace")
@grouped
def trace_command(
    model: Model,
    corpus: CorpusPath,
    output: Output,
    reading: CorpusOptions,
    loading: ModelOptions,
    capture: CaptureOptions,
    seed: Annotated[int, typer.Option(help="Seed of the control.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a corpus through a model and write which experts every token was routed to.

    An interrupted trace goes on where it was when the same command is given again.
    """
    opened = _trace(model, corpus, output, reading, loading, capture, seed)
    if as_json:
        print_json(
            {
                "run": str(output),
                "documents": opened.num_documents,
                "tokens": opened.num_tokens,
                "layers": len(opened.layers),
                "bytes": bytes_stored(opened),
            }
        )
    else:
        print_trace(opened)


def _trace(
    model: str,
    corpus: str,
    output: Path,
    reading: CorpusOptions,
    loading: ModelOptions,
    capture: CaptureOptions,
    seed: int,
) -> "RoutingTrace":
    from specialize.corpus import open_corpus

    documents = open_corpus(
        corpus,
        text_column=reading.text_column,
        id_column=reading.id_column,
        label_columns=reading.label,
        limit=reading.limit,
    )
    checkpoint = load_model(model, **loading.as_dict())
    options = capture.as_trace_options(seed)
    return trace(checkpoint, documents, output, options=options, command=command_line(), repair=capture.repair)


@app.command()
def syntax(
    run: Run,
    tags: Tags = "upos",
    pipeline: Pipeline = None,
    language: Language = None,
    gold: Gold = None,
    pieces: PieceRule = Pieces.first,
    rule: SlotRule = Rule.selection,
    draws: Draws = None,
    seed: Seed = 0,
    skip_positions: SkipPositions = 0,
    processes: Processes = 1,
    as_json: Json = False,
) -> None:
    """Tag the traced text and measure how far routing goes with the tags, and how far with the word alone.

    The results tell, beside the association itself: what is left of it among tokens of one id, the association with
    the next token's tag, and how much of a tag its top experts hold.
    """
    from specialize.trace import open_trace

    do_syntax(
        open_trace(run),
        options=MeasureOptions(rule, permutations, seed, skip_positions),
        labels=SyntaxOptions(split_names(tags), pipeline, language, gold, pieces, processes),
    )
    say(f"results: {run / 'syntax'}")
    print_summary([run], as_json=as_json)


@app.command()
def topics(
    run: Run,
    label: TopicColumn = None,
    fit: Annotated[bool, typer.Option("--fit/--labels-only", help="Fit topics, or only measure known labels.")] = True,
    embedding: Embedding = None,
    num_topics: NumTopics = None,
    reduction: DimensionReduction = Reduce.umap,
    clustering: Clusters = Cluster.hdbscan,
    outliers: Outliers = OutlierRule.nearest,
    min_topic_size: SmallestTopic = None,
    window: TopicWindow = None,
    language: Language = None,
    topics_from: SavedTopics = None,
    rule: SlotRule = Rule.selection,
    draws: Draws = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the documents' topics and measure how far routing goes with them and with known labels.

    Topics of windows are labels of tokens: they are measured against rotations within each document, so what is above
    the null is that routing follows the topic within documents.
    """
    from specialize.trace import open_trace

    do_topics(
        open_trace(run),
        options=MeasureOptions(rule, permutations, seed),
        columns=label,
        topics=TopicOptions(
            embedding=embedding,
            num_topics=num_topics,
            min_topic_size=min_topic_size,
            reduction=reduction,
            clustering=clustering,
            outliers=outliers,
            window=window,
            language=language,
            seed=seed,
            saved=topics_from,
        ),
        fit=fit,
    )
    say(f"results: {run / 'topics'}")
    print_summary([run], as_json=as_json)


@app.command()
def annotate(
    run: Run,
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="FILE",
            help=".parquet .csv .tsv .jsonl: id (documents) or token (row numbers), and a column for each label set.",
        ),
    ],
    rule: SlotRule = Rule.selection,
    draws: Draws = None,
    seed: Seed = 0,
    skip_positions: SkipPositions = 0,
    as_json: Json = False,
) -> None:
    """Take labels of your own, for documents or for tokens, and measure how far routing goes with them."""
    from specialize.annotators.store import save_annotation
    from specialize.annotators.user_labels import read_labels
    from specialize.trace import open_trace

    opened = open_trace(run)
    annotations = read_labels(opened, source)
    for annotation in annotations:
        save_annotation(opened, annotation)
        say(f"{annotation.name}: {annotation.share_labelled:.1%} of the {annotation.level}s have a label")
    for annotation in annotations:
        folder = "syntax" if annotation.level == "token" else "topics"
        measure(opened, annotation, folder=folder, options=MeasureOptions(rule, permutations, seed, skip_positions))
    print_summary([run], as_json=as_json)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, side by side in one report.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the page and figures/.")],
    page_format: Annotated[str, typer.Option("--format", help="html, or md for a repository.")] = "html",
    as_json: Json = False,
) -> None:
    """Draw the figures (PDF and PNG) and write report.html, or report.md."""
    before = stamps(output / "figures")
    page = _report(runs, output, page_format)
    if as_json:
        print_json({"report": str(page)})
    else:
        print_report(page, [path for path, _ in stamps(output / "figures") - before])


def _report(runs: list[Path], output: Path, page_format: str = "html") -> Path:
    say("drawing …")
    from specialize.reporting import write_report

    return write_report(runs, output, page_format=page_format, command=command_line())


@app.command("run")
@grouped
def run_command(
    model: Model,
    corpus: CorpusPath,
    output: Output,
    reading: CorpusOptions,
    loading: ModelOptions,
    capture: CaptureOptions,
    tags: Tags = "upos",
    pipeline: Pipeline = None,
    language: Language = None,
    pieces: PieceRule = Pieces.first,
    embedding: Embedding = None,
    num_topics: NumTopics = None,
    rule: SlotRule = Rule.selection,
    draws: Draws = None,
    seed: Seed = 0,
    skip_positions: SkipPositions = 0,
    processes: Processes = 1,
    as_json: Json = False,
) -> None:
    """Do all of it: trace, syntax, topics, routing, vocabulary, report. The report is RUN/report/report.html."""
    opened = _trace(model, corpus, output, reading, loading, capture, seed)
    options = MeasureOptions(rule, permutations, seed, skip_positions)
    labels = SyntaxOptions(split_names(tags), pipeline, language, None, pieces, processes)
    try:
        do_syntax(opened, options=options, labels=labels)
    except AnnotationError as error:
        if pipeline is not None:
            raise
        say(f"syntax is left out: {error}")
    topics = TopicOptions(embedding=embedding, num_topics=num_topics, language=language, seed=seed)
    do_topics(opened, options=options, topics=topics, must_fit=False)
    do_routing(opened, rule=rule.value, permutations=draws or PERMUTATIONS, seed=seed)
    try:
        do_vocabulary(opened, permutations=draws or PERMUTATIONS, seed=seed)
    except MeasurementError as error:  # a short corpus: no token id comes often enough
        say(f"vocabulary is left out: {error}")
    page = _report([output], output / "report")
    print_summary([output], as_json=as_json)
    say(f"report: {page}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")] = Path(
        "demo-report"
    ),
    limit: Annotated[int | None, typer.Option(min=50, help="Read at most so many documents.")] = None,
    as_json: Json = False,
) -> None:
    """Run everything on two small checkpoints that come with the package, over Wikipedia articles."""
    from specialize.cli.demo import run_demo

    runs, page = run_demo(output, limit=limit, command=command_line())
    print_summary(runs, as_json=as_json)
    say(f"report: {page}")


@app.command()
def validate(run: Run, as_json: Json = False) -> None:
    """Check a trace against its manifest: presence, checksums, counts. Exit code 1 when something is wrong."""
    from specialize.trace import validate_trace

    checks = validate_trace(run)
    wrong = [check for check in checks if check.problem]
    if as_json:
        print_json([{"file": check.file, "problem": check.problem, "rows": check.rows} for check in checks])
    else:
        print_table(
            None,
            [text("file"), number("rows"), text("state")],
            [[check.file, f"{check.rows:,}", check.problem or "ok"] for check in checks],
        )
        print_line(f"{run}: {_summarise(checks)}")
    if wrong:
        raise typer.Exit(1)


def _summarise(checks: "list[Check]") -> str:
    wrong = [check.file for check in checks if check.problem]
    if not wrong:
        return f"{len(checks)} files, all as the manifest says"
    summary = f"{len(wrong)} of {len(checks)} files not as the manifest says"
    if wrong == ["manifest.json"]:
        return summary
    return f"{summary}; its `specialize trace` command, given again with --repair, makes them anew"
