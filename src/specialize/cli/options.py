"""Arguments and options that commands share, each with its one description.

Options go together in frozen dataclasses whose fields have the names and defaults of the pipeline's arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from specialize.choices import (
    CONTROL_DRAWS,
    Clustering,
    Control,
    Dtype,
    Outliers,
    Pieces,
    Reduction,
    SlotRule,
    TextUnit,
)
from specialize.errors import CorpusError

_RULE = "How a token's mass is spread: evenly over its slots, by gate weight, or slot 0 alone."
_SEED = "Seed of the null, of the topic model and of the random routers."

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint folder, or id on the Hugging Face hub.")]
CorpusPaths = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...",
        help=".txt .jsonl .json .csv .tsv .conllu (also .gz .xz .zst) .parquet .arrow .feather; folders and "
        "patterns of these; hf://DATASET; or - for standard input.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `specialize trace` writes it.")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are shown side by side.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The run folder to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Rule = Annotated[SlotRule, typer.Option(help=_RULE)]
Seed = Annotated[int, typer.Option(help=_SEED)]
Permutations = Annotated[int, typer.Option(min=1, help="Permutations under the nulls.")]
SkipPositions = Annotated[
    int, typer.Option(min=0, help="Leave out the first N tokens of each sequence; the first one is often special.")
]

_MODEL, _CORPUS, _CAPTURE, _TAGS, _TOPICS, _MEASURE = "Model", "Corpus", "Recording", "Tags", "Topics", "Measurement"


def _option(panel: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **how)


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint is loaded."""

    dtype: Annotated[Dtype, _option(_MODEL, help="Precision. auto: as stored on a GPU, float32 on a CPU.")] = "auto"
    device: Annotated[str | None, _option(_MODEL, help="cpu, cuda, cuda:1 … Default: a GPU where there is one.")] = None
    device_map: Annotated[
        str | None, _option(_MODEL, help="Spread the model over devices with accelerate: auto, balanced, sequential.")
    ] = None
    revision: Annotated[str | None, _option(_MODEL, help="Branch, tag or commit of a hub model.")] = None
    trust_remote_code: Annotated[
        bool, _option(_MODEL, "--trust-remote-code", help="Run code that comes with the checkpoint.")
    ] = False
    allow_missing_weights: Annotated[
        bool,
        _option(
            _MODEL,
            "--allow-missing-weights",
            help="Accept a checkpoint that lacks weights, which are then random, or has unused ones.",
        ),
    ] = False


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read."""

    text_column: Annotated[
        str | None, _option(_CORPUS, help="Column of the text. Default: text, or the only string column.")
    ] = None
    messages_column: Annotated[
        str | None,
        _option(
            _CORPUS, help="Column of conversations, read instead of texts. Default: messages, if there is no text."
        ),
    ] = None
    id_column: Annotated[
        str | None, _option(_CORPUS, help="Column of the document ids. Default: id, or row numbers.")
    ] = None
    labels: Annotated[
        list[str] | None, _option(_CORPUS, "--label", help="Column of known labels to keep; may be repeated.")
    ] = None
    group: Annotated[
        str | None,
        _option(
            _CORPUS, help="Column that says which documents belong together (book, thread). Default: group, if any."
        ),
    ] = None
    unit: Annotated[TextUnit, _option(_CORPUS, help="What a document of plain text is: a file, or a line.")] = "file"
    limit: Annotated[int | None, _option(_CORPUS, min=1, help="Read at most so many documents.")] = None
    sample: Annotated[
        int | None, _option(_CORPUS, min=1, help="Draw so many documents at random instead of reading all.")
    ] = None
    sample_seed: Annotated[int, _option(_CORPUS, help="Seed of the sample of documents.")] = 0


@dataclass(frozen=True)
class CaptureOptions:
    """How a corpus is run through a model, and what is recorded."""

    context: Annotated[
        int | None, _option(_CAPTURE, min=1, help="Tokens of a window. Default: what the model takes, at most 2048.")
    ] = None
    stride: Annotated[
        int | None,
        _option(_CAPTURE, min=1, help="Tokens from one window's start to the next one's. Default: no overlap."),
    ] = None
    max_tokens: Annotated[
        int | None, _option(_CAPTURE, min=1, help="Trace at most so many tokens of a document, the first ones.")
    ] = None
    batch_tokens: Annotated[int, _option(_CAPTURE, min=1, help="Padded tokens of a forward pass.")] = 8192
    weights: Annotated[
        bool, _option(_CAPTURE, "--weights/--no-weights", help="Record gate weights, or expert ids alone.")
    ] = True
    logits: Annotated[bool, _option(_CAPTURE, "--logits", help="Also record the router logits of all experts.")] = False
    norms: Annotated[
        bool, _option(_CAPTURE, "--norms", help="Also record the norm of what each chosen expert adds.")
    ] = False
    predictions: Annotated[
        bool, _option(_CAPTURE, "--predictions", help="Also record the predicted next token and the loss.")
    ] = False
    control: Annotated[
        Control | None,
        _option(_CAPTURE, help="Also record what random routers would choose from the same hidden states."),
    ] = None
    control_draws: Annotated[
        int, _option(_CAPTURE, min=1, help="Random routers beside each of the model's, with --control.")
    ] = CONTROL_DRAWS
    repair: Annotated[bool, _option(_CAPTURE, "--repair", help="Write missing or damaged shards of RUN again.")] = False


@dataclass(frozen=True)
class MeasureOptions:
    """How annotations are measured."""

    rule: Annotated[SlotRule, _option(_MEASURE, help=_RULE)] = "selection"
    permutations: Annotated[
        int | None,
        _option(
            _MEASURE, min=1, help="Permutations under the null. Default: 1000 for labels of documents, 200 for tokens."
        ),
    ] = None
    seed: Annotated[int, _option(_MEASURE, help=_SEED)] = 0


@dataclass(frozen=True)
class TagOptions:
    """How words are tagged."""

    tags: Annotated[
        str,
        _option(
            _TAGS,
            help="upos, tag, dep, morph, ent of words; class, word_part, case, frequency, position of tokens; "
            "separated by commas.",
        ),
    ] = "upos"
    pipeline: Annotated[
        str | None,
        _option(_TAGS, help="spaCy pipeline, by name or path. Default: the smallest one installed for the language."),
    ] = None
    pieces: Annotated[Pieces, _option(_TAGS, help="Which of a word's tokens carries its tag.")] = "first"
    processes: Annotated[int, _option(_TAGS, min=1, help="Worker processes of the tagger.")] = 1


Language = Annotated[
    str | None,
    typer.Option(help="Language of the texts, such as de. Default: their column lang or language, else detected."),
]


@dataclass(frozen=True)
class EmbeddingOptions:
    """What topics are fitted on, and how many."""

    embedding: Annotated[
        str | None,
        _option(_TOPICS, help="sentence-transformers model by name or path, or tfidf. Default: the packaged one."),
    ] = None
    num_topics: Annotated[
        int | None,
        _option(
            _TOPICS, min=2, help="How many topics. Default: estimated; hdbscan merges topics until so many are left."
        ),
    ] = None


@dataclass(frozen=True)
class TopicOptions(EmbeddingOptions):
    """How topics are fitted."""

    labels: Annotated[
        list[str] | None,
        _option(_TOPICS, "--label", help="Known label to measure; may be repeated. Default: all usable columns."),
    ] = None
    fit: Annotated[bool, _option(_TOPICS, "--fit/--labels-only", help="Fit topics, or only measure known labels.")] = (
        True
    )
    reduction: Annotated[Reduction, _option(_TOPICS, help="How embeddings lose dimensions.")] = "umap"
    clustering: Annotated[
        Clustering,
        _option(_TOPICS, help="kmeans assigns every document; hdbscan leaves outliers, and finds many small topics."),
    ] = "kmeans"
    outliers: Annotated[
        Outliers, _option(_TOPICS, help="Documents that hdbscan leaves out: nearest topic, or kept without one.")
    ] = "nearest"
    min_topic_size: Annotated[
        int | None, _option(_TOPICS, min=2, help="Fewest documents of a topic. Default: one in 100, at least 5.")
    ] = None
    window: Annotated[
        int | None,
        _option(_TOPICS, min=1, metavar="TOKENS", help="Topics of windows of so many tokens, not of documents."),
    ] = None
    topics_from: Annotated[
        Path | None, _option(_TOPICS, metavar="RUN", help="Label by the topics that were fitted in another run.")
    ] = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: each field is an option of its own on the command line."""
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for parameter in signature(command, eval_str=True).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = parameter.annotation
        for option in fields(parameter.annotation):
            default = Parameter.empty if option.default is MISSING else option.default
            parameters.append(Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=option.type))

    def call(**values: Any) -> None:
        built = {
            name: group(**{option.name: values.pop(option.name) for option in fields(group)})
            for name, group in groups.items()
        }
        command(**built, **values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {}
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    return call


def choose_corpus(paths: Sequence[str]) -> str | list[Path]:
    """Return the corpus that is given by one or more paths.

    Raises:
        CorpusError: one of several is no path.
    """
    if len(paths) == 1:
        return paths[0]
    other = next((path for path in paths if path == "-" or path.startswith("hf://")), None)
    if other is not None:
        raise CorpusError(f"CORPUS: expected {other} alone, or several paths, got both; choose one")
    return [Path(path) for path in paths]


def arguments(*groups: Any) -> dict[str, Any]:
    """Return the arguments of a pipeline function from groups of options."""
    return {name: value for group in groups for name, value in asdict(group).items()}
