"""Arguments and options that commands share, each with its one description."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Rule(StrEnum):
    """How a token's mass is spread over its slots."""

    selection = "selection"
    gate = "gate"
    first = "first"


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
TextColumn = Annotated[str | None, typer.Option(help="Column of the text. Default: text, or the only string column.")]
IdColumn = Annotated[str | None, typer.Option(help="Column of the document ids. Default: id, or row numbers.")]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option("--label", help="Column of known labels to keep; may be given several times."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read at most so many documents.")]
Context = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a window. Default: what the model takes, at most 2048.")
]
BatchTokens = Annotated[int, typer.Option(min=1, help="Padded tokens of a forward pass.")]
Dtype = Annotated[Precision, typer.Option(help="Precision. auto: as stored on a GPU, float32 on a CPU.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 … Default: a GPU where there is one.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Pipeline = Annotated[
    str | None, typer.Option(help="spaCy pipeline, by name or path. Default: the installed English one.")
]
SlotRule = Annotated[
    Rule, typer.Option(help="A token's mass: equal over its slots, by gate weight, or the first slot.")
]
PieceRule = Annotated[Pieces, typer.Option(help="Which of a word's tokens carries its tag.")]
Draws = Annotated[int | None, typer.Option(min=1, help="Draws of the null. Default: 200 for syntax, 1000 for topics.")]
Seed = Annotated[int, typer.Option(help="Seed of the null and of the topic model.")]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes of the tagger.")]
TopicColumn = Annotated[
    list[str] | None,
    typer.Option("--label", help="Known label to measure; may be given several times. Default: all usable columns."),
]
Embedding = Annotated[
    str | None,
    typer.Option(help="sentence-transformers model by name or path, or tfidf. Default: the packaged one."),
]
NumTopics = Annotated[int | None, typer.Option(min=2, help="Merge topics until so many are left.")]
