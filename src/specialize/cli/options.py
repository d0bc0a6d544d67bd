"""Arguments and options that commands share, each with its one description."""

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from specialize.capture import TraceOptions


class Rule(StrEnum):
    """How a token's mass is spread over its slots."""

    selection = "selection"
    gate = "gate"
    first = "first"


class Reduce(StrEnum):
    """How embeddings lose dimensions."""

    umap = "umap"
    pca = "pca"
    none = "none"


class Cluster(StrEnum):
    """How topics are found."""

    hdbscan = "hdbscan"
    kmeans = "kmeans"


class OutlierRule(StrEnum):
    """What becomes of documents that clustering leaves in no topic."""

    nearest = "nearest"
    keep = "keep"


class Pieces(StrEnum):
    """Which of a word's tokens carries its label."""

    first = "first"
    last = "last"
    all = "all"


class Precision(StrEnum):
    """Number format of the forward pass."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint folder, or id on the Hugging Face hub.")]
CorpusPath = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help=".txt .jsonl .csv .tsv .parquet .arrow .conllu, a folder of these, or hf://DATASET.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `specialize trace` writes it.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The run folder to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Pipeline = Annotated[
    str | None, typer.Option(help="spaCy pipeline, by name or path. Default: the installed English one.")
]
Language = Annotated[
    str | None,
    typer.Option(help="Language of the texts, such as de. Default: their column lang or language, else English."),
]
Gold = Annotated[
    Path | None, typer.Option(metavar="CONLLU", help="Treebank that was traced: its tags beside the tagger's.")
]
Tags = Annotated[
    str,
    typer.Option(
        help="upos, tag, dep, morph, ent of words; class, word_part, case, frequency, position of tokens; by commas."
    ),
]
SlotRule = Annotated[
    Rule, typer.Option(help="A token's mass: equal over its slots, by gate weight, or the first slot.")
]
PieceRule = Annotated[Pieces, typer.Option(help="Which of a word's tokens carries its tag.")]
Draws = Annotated[int | None, typer.Option(min=1, help="Draws of the null. Default: 200 for syntax, 1000 for topics.")]
SkipPositions = Annotated[
    int, typer.Option(min=0, help="Leave out the first N tokens of each sequence; the first one is often special.")
]
Seed = Annotated[int, typer.Option(help="Seed of the null, of the topic model and of the control.")]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes of the tagger.")]
TopicColumn = Annotated[
    list[str] | None,
    typer.Option("--label", help="Known label to measure; may be given several times. Default: all usable columns."),
]
Embedding = Annotated[
    str | None,
    typer.Option(help="sentence-transformers model by name or path, or tfidf. Default: the packaged one."),
]
NumTopics = Annotated[
    int | None, typer.Option(min=2, help="Merge topics until so many are left; with kmeans, how many to find.")
]
DimensionReduction = Annotated[Reduce, typer.Option("--reduction", help="How embeddings lose dimensions.")]
Clusters = Annotated[
    Cluster, typer.Option("--clustering", help="hdbscan finds their number and leaves outliers; kmeans does neither.")
]
Outliers = Annotated[
    OutlierRule, typer.Option("--outliers", help="Documents that hdbscan leaves out: nearest topic, or kept out.")
]
SmallestTopic = Annotated[
    int | None,
    typer.Option("--min-topic-size", min=2, help="Fewest documents of a topic. Default: one in 200, 5 to 100."),
]
TopicWindow = Annotated[
    int | None,
    typer.Option("--window", min=1, metavar="TOKENS", help="Topics of windows of so many tokens, not of documents."),
]
SavedTopics = Annotated[
    Path | None, typer.Option("--topics-from", metavar="RUN", help="Label by the topics fitted in another run.")
]


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint is loaded."""

    dtype: Annotated[Precision, typer.Option(help="Precision. auto: as stored on a GPU, float32 on a CPU.")] = (
        Precision.auto
    )
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 … Default: a GPU where there is one.")] = None
    device_map: Annotated[
        str | None, typer.Option(help="Spread the model over devices with accelerate: auto, balanced, sequential.")
    ] = None
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")
    ] = False

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments of `load_checkpoint`."""
        return asdict(self)


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read."""

    text_column: Annotated[
        str | None, typer.Option(help="Column of the text. Default: text, or the only string column.")
    ] = None
    id_column: Annotated[str | None, typer.Option(help="Column of the document ids. Default: id, or row numbers.")] = (
        None
    )
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Column of known labels to keep; may be given several times."),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most so many documents.")] = None


@dataclass(frozen=True)
class CaptureOptions:
    """How a corpus is run through a model, and what is recorded."""

    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a window. Default: what the model takes, at most 2048.")
    ] = None
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens from one window's first to the next one's. Default: windows do not overlap."),
    ] = None
    batch_tokens: Annotated[int, typer.Option(min=1, help="Padded tokens of a forward pass.")] = 8192
    weights: Annotated[bool, typer.Option("--weights/--no-weights", help="Record gate weights, or ids alone.")] = True
    logits: Annotated[bool, typer.Option("--logits", help="Record router logits of all experts, too.")] = False
    norms: Annotated[bool, typer.Option("--norms", help="Record how much each chosen expert adds, too.")] = False
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Record the predicted next token and the loss of the true one, too.")
    ] = False
    control: Annotated[
        str | None,
        typer.Option(help="random-router: record what a frozen random router chooses beside each of the model's."),
    ] = None
    repair: Annotated[bool, typer.Option("--repair", help="Make missing or damaged shards of RUN anew.")] = False

    def as_trace_options(self, seed: int) -> "TraceOptions":
        """Return the library's form of these options."""
        from specialize.capture import TraceOptions

        given = {name: value for name, value in asdict(self).items() if name not in ("context", "repair")}
        return TraceOptions(context_length=self.context, seed=seed, **given)


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


def split_names(text: str) -> tuple[str, ...]:
    """Split names at commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
