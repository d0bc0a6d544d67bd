"""All stages in order: trace, syntax, topics, routing, vocabulary, report."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from specialize.choices import CONTROL_DRAWS, Control, Dtype, Pieces, SlotRule, TextUnit
from specialize.errors import AnnotationError, MeasurementError
from specialize.events import SILENT, Reporter
from specialize.pipeline.report import report
from specialize.pipeline.routing import routing
from specialize.pipeline.stage import PERMUTATIONS, MeasureSettings
from specialize.pipeline.syntax import SyntaxOptions, syntax
from specialize.pipeline.topic_fits import TopicOptions
from specialize.pipeline.topics import measure_topics
from specialize.pipeline.trace import trace_corpus
from specialize.pipeline.vocabulary import vocabulary
from specialize.remote.places import at_addresses
from specialize.text import split_names


@at_addresses(run="written")
def run(
    model: Any,
    corpus: Any,
    run: str | PathLike[str],
    *,
    tokenizer: Any = None,
    text_column: str | None = None,
    messages_column: str | None = None,
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    group: str | None = None,
    unit: TextUnit = "file",
    limit: int | None = None,
    sample: int | None = None,
    sample_seed: int = 0,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
    context: int | None = None,
    stride: int | None = None,
    max_tokens: int | None = None,
    generate: int | None = None,
    chat_template: str | PathLike[str] | None = None,
    batch_tokens: int = 8192,
    weights: bool = True,
    logits: bool = False,
    norms: bool = False,
    predictions: bool = False,
    control: Control | None = None,
    control_draws: int = CONTROL_DRAWS,
    repair: bool = False,
    tags: Sequence[str] = ("upos",),
    pipeline: str | None = None,
    language: str | None = None,
    pieces: Pieces = "first",
    processes: int = 1,
    embedding: str | None = None,
    num_topics: int | None = None,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    skip_positions: int = 0,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> Path:
    """Trace a corpus, measure syntax, topics, routing and vocabulary, and write the report into RUN/report.

    Syntax is left out where no tagger is installed for the texts, topics where none can be fitted, the vocabulary where
    no token id occurs often enough; the reporter receives the reason.

    Args:
        model: see `specialize.trace_corpus`, as for all arguments up to `repair`.
        corpus: the documents.
        run: the run folder.
        tokenizer: of a loaded model.
        text_column: column of the text.
        messages_column: column of conversations.
        id_column: column of the document ids.
        labels: columns of known labels to keep.
        group: column that says which documents belong together.
        unit: what a document of plain text is: ``file`` or ``line``.
        limit: read at most so many documents.
        sample: draw so many documents at random instead.
        sample_seed: of the draw.
        dtype: precision of the forward pass.
        device: cpu, cuda, cuda:1 …
        device_map: how accelerate spreads the model over devices.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint with missing weights, which are then random, or unused ones.
        context: tokens of a window.
        stride: tokens from one window's first to the next one's.
        max_tokens: trace at most so many tokens of a document, the first ones.
        generate: let the model continue each document by so many tokens.
        chat_template: for conversations, in place of the tokenizer's own.
        batch_tokens: padded tokens of a forward pass.
        weights: record gate weights.
        logits: record router logits, too.
        norms: record how much each chosen expert adds, too.
        predictions: record the predicted next token and the loss of the true one, too.
        control: ``random-router`` records random routers beside each of the model's.
        control_draws: how many of them; one alone is one draw from all random projections.
        repair: write missing or damaged shards again.
        tags: see `specialize.syntax`, as for the next four.
        pipeline: spaCy pipeline by name or path.
        language: code of the texts' language.
        pieces: which of a word's tokens carries its tag.
        processes: worker processes of the tagger.
        embedding: see `specialize.topics`.
        num_topics: how many topics to fit, estimated by default.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the nulls; by default 1,000 for labels of documents, 200 for all else.
        seed: of the nulls, of the topic model and of the random routers.
        skip_positions: first positions of each sequence whose tags are left out.
        command: the command line, for the manifest and the report.
        reporter: receives messages and progress.

    Returns:
        The path of the report.

    Raises:
        SpecializeError: as the stages.
    """
    from specialize.annotators.embedding import check_embedding

    settings = MeasureSettings(rule, permutations, seed, skip_positions)
    if rule == "gate" and not weights:
        raise MeasurementError("rule gate: expected a trace with gate weights, got weights=False; record them")
    SyntaxOptions(split_names(tags), pipeline, language, None, pieces, processes)  # checked before anything long
    topics = TopicOptions(embedding=embedding, num_topics=num_topics, language=language, seed=seed)
    check_embedding(embedding)
    trace = trace_corpus(
        model,
        corpus,
        run,
        tokenizer=tokenizer,
        text_column=text_column,
        messages_column=messages_column,
        id_column=id_column,
        labels=labels,
        group=group,
        unit=unit,
        limit=limit,
        sample=sample,
        sample_seed=sample_seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_missing_weights=allow_missing_weights,
        context=context,
        stride=stride,
        max_tokens=max_tokens,
        generate=generate,
        chat_template=chat_template,
        batch_tokens=batch_tokens,
        weights=weights,
        logits=logits,
        norms=norms,
        predictions=predictions,
        control=control,
        control_draws=control_draws,
        seed=seed,
        repair=repair,
        command=command,
        reporter=reporter,
    )
    try:
        syntax(
            trace,
            tags=tags,
            pipeline=pipeline,
            language=language,
            pieces=pieces,
            processes=processes,
            rule=rule,
            permutations=permutations,
            seed=seed,
            skip_positions=skip_positions,
            reporter=reporter,
        )
    except AnnotationError as error:
        if pipeline is not None:
            raise
        reporter.say(f"syntax is left out: {error}")
    measure_topics(trace, None, options=topics, settings=settings, reporter=reporter, must_fit=False)
    routing(trace, rule=rule, permutations=permutations or PERMUTATIONS, seed=seed, reporter=reporter)
    try:
        vocabulary(trace, permutations=permutations or PERMUTATIONS, seed=seed, reporter=reporter)
    except MeasurementError as error:  # a short corpus: no token id occurs often enough
        reporter.say(f"vocabulary is left out: {error}")
    return report([trace], trace.path / "report", command=command, reporter=reporter)
