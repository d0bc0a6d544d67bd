"""Arguments and options that commands share, each with its one description.

Options go together in frozen dataclasses whose fields have the names and defaults of the pipeline's arguments.
"""

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from specialize.addresses import is_address
from specialize.choices import Clustering, EngineName, Outliers, Pieces, Reduction, SlotRule

_RULE = "How a token's mass is spread: evenly over its slots, by gate weight, or slot 0 alone."
_SEED = "Seed of the null, of the topic model and of the random routers."


def read_place(text: str) -> str:
    """Return a path in its usual form, an address as it is."""
    return text if is_address(text) else str(Path(text))


Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", parser=read_place, help="A run folder, as `specialize trace` writes it, or its address."
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", parser=read_place, help="Run folders, or their addresses; several are shown side by side."
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "-o", "--output", metavar="RUN", parser=read_place, help="The run folder to write, or an address: s3://…"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Rule = Annotated[SlotRule, typer.Option(help=_RULE)]
Seed = Annotated[int, typer.Option(help=_SEED)]
Permutations = Annotated[int, typer.Option(min=1, help="Permutations under the nulls.")]
SkipPositions = Annotated[
    int, typer.Option(min=0, help="Leave out the first N tokens of each sequence; the first one is often special.")
]

_TAGS, _TOPICS, _MEASURE, _ENGINE = "Tags", "Topics", "Measurement", "Engine"


def option(panel: str, *names: str, **how: Any) -> Any:
    """Return an option that is shown in a panel of the help."""
    return typer.Option(*names, rich_help_panel=panel, **how)


@dataclass(frozen=True)
class MeasureOptions:
    """How annotations are measured."""

    rule: Annotated[SlotRule, option(_MEASURE, help=_RULE)] = "selection"
    permutations: Annotated[
        int | None,
        option(
            _MEASURE, min=1, help="Permutations under the null. Default: 1000 for labels of documents, 200 for tokens."
        ),
    ] = None
    seed: Annotated[int, option(_MEASURE, help=_SEED)] = 0


@dataclass(frozen=True)
class TagOptions:
    """How words are tagged."""

    tags: Annotated[
        str,
        option(
            _TAGS,
            help="upos, tag, dep, morph, ent of words; class, word_part, case, frequency, position, role, phase of "
            "tokens; separated by commas.",
        ),
    ] = "upos"
    pipeline: Annotated[
        str | None,
        option(_TAGS, help="spaCy pipeline, by name or path. Default: the smallest one installed for the language."),
    ] = None
    pieces: Annotated[Pieces, option(_TAGS, help="Which of a word's tokens carries its tag.")] = "first"
    processes: Annotated[int, option(_TAGS, min=1, help="Worker processes of the tagger.")] = 1


Language = Annotated[
    str | None,
    typer.Option(help="Language of the texts, such as de. Default: their column lang or language, else detected."),
]


@dataclass(frozen=True)
class EmbeddingOptions:
    """What topics are fitted on, and how many."""

    embedding: Annotated[
        str | None,
        option(_TOPICS, help="sentence-transformers model by name or path, or tfidf. Default: the packaged one."),
    ] = None
    num_topics: Annotated[
        int | None,
        option(
            _TOPICS, min=2, help="How many topics. Default: estimated; hdbscan merges topics until so many are left."
        ),
    ] = None


@dataclass(frozen=True)
class TopicOptions(EmbeddingOptions):
    """How topics are fitted."""

    labels: Annotated[
        list[str] | None,
        option(_TOPICS, "--label", help="Known label to measure; may be repeated. Default: all usable columns."),
    ] = None
    fit: Annotated[bool, option(_TOPICS, "--fit/--labels-only", help="Fit topics, or only measure known labels.")] = (
        True
    )
    reduction: Annotated[Reduction, option(_TOPICS, help="How embeddings lose dimensions.")] = "umap"
    clustering: Annotated[
        Clustering,
        option(_TOPICS, help="kmeans assigns every document; hdbscan leaves outliers, and finds many small topics."),
    ] = "kmeans"
    outliers: Annotated[
        Outliers, option(_TOPICS, help="Documents that hdbscan leaves out: nearest topic, or kept without one.")
    ] = "nearest"
    min_topic_size: Annotated[
        int | None, option(_TOPICS, min=2, help="Fewest documents of a topic. Default: one in 100, at least 5.")
    ] = None
    window: Annotated[
        int | None,
        option(_TOPICS, min=1, metavar="TOKENS", help="Topics of windows of so many tokens, not of documents."),
    ] = None
    topics_from: Annotated[
        str | None,
        option(_TOPICS, metavar="RUN", parser=read_place, help="Label by the topics that were fitted in another run."),
    ] = None


@dataclass(frozen=True)
class EngineOptions:
    """What runs independent pieces of work."""

    engine: Annotated[
        EngineName, option(_ENGINE, help="local: this process. ray: workers, on this machine or on a Ray cluster.")
    ] = "local"
    address: Annotated[
        str | None,
        option(
            _ENGINE,
            metavar="HOST:PORT",
            help="Ray cluster to use, or auto. Default: RAY_ADDRESS, else one of this machine that ends with the work.",
        ),
    ] = None
    workers: Annotated[
        int | None, option(_ENGINE, min=1, help="Workers. Default: one per GPU, else one per core, at most 8.")
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        option(_ENGINE, help="GPUs of each worker; 0.5 where two share one. Default: one if there are any."),
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


def arguments(*groups: Any) -> dict[str, Any]:
    """Return the arguments of a pipeline function from groups of options."""
    return {name: value for group in groups for name, value in asdict(group).items()}
