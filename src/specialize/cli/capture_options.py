"""Arguments and options of the commands that capture routing: of a corpus, a model, a server and what is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from specialize.addresses import is_address
from specialize.choices import CONTROL_DRAWS, Control, Dtype, ServerApi, TextUnit
from specialize.cli.options import option
from specialize.errors import CorpusError

_MODEL, _CORPUS, _CAPTURE, _SERVER = "Model", "Corpus", "Recording", "Server"

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint folder, or id on the Hugging Face hub.")]
CorpusPaths = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...",
        help=".txt .jsonl .json .csv .tsv .conllu (also .gz .xz .zst) .parquet .arrow .feather; folders and "
        "patterns of these; addresses s3://… of these; hf://DATASET; - for standard input; or a run folder, whose "
        "token ids are read again.",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """How a checkpoint is loaded."""

    dtype: Annotated[Dtype, option(_MODEL, help="Precision. auto: as stored on a GPU, float32 on a CPU.")] = "auto"
    device: Annotated[str | None, option(_MODEL, help="cpu, cuda, cuda:1 … Default: a GPU where there is one.")] = None
    device_map: Annotated[
        str | None, option(_MODEL, help="Spread the model over devices with accelerate: auto, balanced, sequential.")
    ] = None
    revision: Annotated[str | None, option(_MODEL, help="Branch, tag or commit of a hub model.")] = None
    trust_remote_code: Annotated[
        bool, option(_MODEL, "--trust-remote-code", help="Run code that comes with the checkpoint.")
    ] = False
    allow_missing_weights: Annotated[
        bool,
        option(
            _MODEL,
            "--allow-missing-weights",
            help="Accept a checkpoint that lacks weights, which are then random, or has unused ones.",
        ),
    ] = False


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read."""

    text_column: Annotated[
        str | None, option(_CORPUS, help="Column of the text. Default: text, or the only string column.")
    ] = None
    messages_column: Annotated[
        str | None,
        option(_CORPUS, help="Column of conversations, read instead of texts. Default: messages, if there is no text."),
    ] = None
    id_column: Annotated[
        str | None, option(_CORPUS, help="Column of the document ids. Default: id, or row numbers.")
    ] = None
    labels: Annotated[
        list[str] | None, option(_CORPUS, "--label", help="Column of known labels to keep; may be repeated.")
    ] = None
    group: Annotated[
        str | None,
        option(
            _CORPUS, help="Column that says which documents belong together (book, thread). Default: group, if any."
        ),
    ] = None
    unit: Annotated[TextUnit, option(_CORPUS, help="What a document of plain text is: a file, or a line.")] = "file"
    limit: Annotated[int | None, option(_CORPUS, min=1, help="Read at most so many documents.")] = None
    sample: Annotated[
        int | None, option(_CORPUS, min=1, help="Draw so many documents at random instead of reading all.")
    ] = None
    sample_seed: Annotated[int, option(_CORPUS, help="Seed of the sample of documents.")] = 0


@dataclass(frozen=True)
class RecordingOptions:
    """What is recorded of a corpus, and in which windows and batches."""

    context: Annotated[
        int | None, option(_CAPTURE, min=1, help="Tokens of a window. Default: what the model takes, at most 2048.")
    ] = None
    max_tokens: Annotated[
        int | None, option(_CAPTURE, min=1, help="Trace at most so many tokens of a document, the first ones.")
    ] = None
    batch_tokens: Annotated[int, option(_CAPTURE, min=1, help="Padded tokens of a forward pass.")] = 8192
    weights: Annotated[
        bool, option(_CAPTURE, "--weights/--no-weights", help="Record gate weights, or expert ids alone.")
    ] = True
    logits: Annotated[bool, option(_CAPTURE, "--logits", help="Also record the router logits of all experts.")] = False
    norms: Annotated[
        bool, option(_CAPTURE, "--norms", help="Also record the norm of what each chosen expert adds.")
    ] = False
    predictions: Annotated[
        bool, option(_CAPTURE, "--predictions", help="Also record the predicted next token and the loss.")
    ] = False
    control: Annotated[
        Control | None,
        option(_CAPTURE, help="Also record what random routers would choose from the same hidden states."),
    ] = None
    control_draws: Annotated[
        int, option(_CAPTURE, min=1, help="Random routers beside each of the model's, with --control.")
    ] = CONTROL_DRAWS


@dataclass(frozen=True)
class CaptureOptions(RecordingOptions):
    """How a corpus is run through a model, and what is recorded."""

    stride: Annotated[
        int | None,
        option(_CAPTURE, min=1, help="Tokens from one window's start to the next one's. Default: no overlap."),
    ] = None
    generate: Annotated[
        int | None,
        option(_CAPTURE, min=1, help="Let the model continue each document by so many tokens, and record them, too."),
    ] = None
    chat_template: Annotated[
        Path | None,
        option(_CAPTURE, help="File with a Jinja template for conversations. Default: the tokenizer's own."),
    ] = None
    repair: Annotated[bool, option(_CAPTURE, "--repair", help="Write missing or damaged shards of RUN again.")] = False


@dataclass(frozen=True)
class ServingOptions:
    """Which inference server runs the model, and how it is asked."""

    server: Annotated[
        str | None,
        option(
            _SERVER,
            metavar="URL",
            help="Inference server that runs MODEL and returns its experts, such as http://localhost:8000. The "
            "environment variable SPECIALIZE_API_KEY may hold an API key.",
        ),
    ] = None
    api: Annotated[ServerApi, option(_SERVER, help="Kind of server.")] = "vllm"
    served_model: Annotated[
        str | None,
        option(_SERVER, metavar="NAME", help="Name of the model on the server. Default: the only one, or MODEL."),
    ] = None
    concurrency: Annotated[int, option(_SERVER, min=1, help="Requests at a time.")] = 32
    timeout: Annotated[float, option(_SERVER, help="Seconds to wait for an answer.")] = 300.0


def choose_corpus(paths: Sequence[str]) -> str | Sequence[str | Path]:
    """Return the corpus that is given by one or more paths.

    Raises:
        CorpusError: one of several is no path.
    """
    if len(paths) == 1:
        return paths[0]
    other = next((path for path in paths if path == "-" or path.startswith("hf://")), None)
    if other is not None:
        raise CorpusError(f"CORPUS: expected {other} alone, or several paths, got both; choose one")
    return [path if is_address(path) else Path(path) for path in paths]
