"""What a trace will take, told before it starts."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil, log2
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from specialize.capture.windows import cut_windows
from specialize.corpus import Corpus
from specialize.errors import TraceError
from specialize.trace import RouterSpec

SAMPLED_DOCUMENTS = 200
SAMPLED_CHARACTERS = 20_000  # of one document: a book need not be tokenized to be planned for
# measured on traces of English text, compressed; ids take nearly their bits
TOKEN_BYTES = 4.5
HALF_BYTES = 1.75
HELD_BYTES = 2**28


@dataclass(frozen=True)
class TraceOptions:
    """How a corpus is run through a model, and what is recorded of it.

    Attributes:
        context_length: tokens of a window; default: what the model was made for, at most 2048.
        stride: tokens from one window's first to the next one's; default: windows do not overlap.
        batch_tokens: padded tokens of a forward pass; halved for as long as memory does not suffice.
        shard_tokens: tokens of a shard on disk; so many are held in memory, and lost at worst when a run is killed.
            Default: 131,072, or what 256 MiB hold.
        control: ``random-router`` records a random router beside each of the model's.
        seed: of the control.
        weights: record gate weights.
        logits: record router logits, half precision.
        norms: record what each chosen expert adds, as a norm.
        predictions: record the most likely next token and the loss of the true one.
    """

    context_length: int | None = None
    stride: int | None = None
    batch_tokens: int = 8192
    shard_tokens: int | None = None
    control: str | None = None
    seed: int = 0
    weights: bool = True
    logits: bool = False
    norms: bool = False
    predictions: bool = False

    def __post_init__(self) -> None:
        for name in ("context_length", "stride", "batch_tokens", "shard_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TraceError(f"{name}: expected a positive number, got {value}")

    @property
    def contents(self) -> tuple[str, ...]:
        """What is recorded beside the experts, as the trace's manifest lists it."""
        named = ("weights", "logits", "norms", "predictions")
        return tuple(field.name for field in fields(self) if field.name in named and getattr(self, field.name))


@dataclass(frozen=True)
class CorpusSurvey:
    """What one pass over a corpus told of it.

    Attributes:
        labels: names of the label columns.
        characters: of all texts.
        sample: some of the texts, cut short.
    """

    labels: tuple[str, ...]
    characters: int
    sample: tuple[str, ...]


@dataclass(frozen=True)
class TracePlan:
    """What a trace will take.

    Attributes:
        documents: of the corpus.
        tokens: estimated from a sample of the documents.
        layers: routers that are recorded, random routers included.
        size: estimated bytes on disk.
        free: bytes free there.
        warnings: what a user must know of how this family routes.
    """

    documents: int
    tokens: int
    layers: int
    size: int
    free: int
    warnings: tuple[str, ...] = ()


def survey_corpus(corpus: Corpus) -> CorpusSurvey:
    """Read every document once: unreadable lines show before a model runs."""
    draw = random.Random(0)
    labels: dict[str, None] = {}
    sample: list[str] = []
    characters = 0
    for row, document in enumerate(corpus):
        labels |= dict.fromkeys(document.labels)
        characters += len(document.text)
        place = row if row < SAMPLED_DOCUMENTS else draw.randrange(row + 1)  # every document with equal chance
        if place < SAMPLED_DOCUMENTS:
            sample[place : place + 1] = [document.text[:SAMPLED_CHARACTERS]]
    return CorpusSurvey(tuple(labels), characters, tuple(sample))


def plan_trace(
    survey: CorpusSurvey,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    routers: Sequence[RouterSpec],
    contents: Sequence[str],
    run: Path,
    warnings: tuple[str, ...] = (),
) -> TracePlan:
    """Estimate what a trace will take."""
    sampled = sum(map(len, survey.sample))
    tokens = sum(w.num_recorded for w in cut_windows(survey.sample, tokenizer, length=1024)) if sampled else 0
    total = round(tokens / max(sampled, 1) * survey.characters)
    size = round(total * (TOKEN_BYTES + sum(_bytes_on_disk(router, contents) for router in routers)))
    existing = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    return TracePlan(corpus.num_documents, total, len(routers), size, shutil.disk_usage(existing).free, warnings)


def tokens_of_a_shard(routers: Sequence[RouterSpec], contents: Sequence[str], batch_tokens: int) -> int:
    """As many tokens as `HELD_BYTES` hold, at least a batch and at most 131,072."""
    return max(batch_tokens, min(2**17, HELD_BYTES // max(1, sum(_bytes_held(router, contents) for router in routers))))


def _halves(router: RouterSpec, contents: Sequence[str]) -> int:
    """Half-precision numbers of a token, beside the ids."""
    own = router.routing == "learned"
    widths = {
        "weights": router.top_k,
        "logits": router.num_experts if own else 0,
        "norms": router.top_k if own else 0,
    }
    return sum(width for name, width in widths.items() if name in contents)


def _bytes_on_disk(router: RouterSpec, contents: Sequence[str]) -> float:
    return router.top_k * ceil(log2(max(router.num_experts, 2))) / 8 + HALF_BYTES * _halves(router, contents)


def _bytes_held(router: RouterSpec, contents: Sequence[str]) -> int:
    return 2 * router.top_k + 2 * _halves(router, contents)
