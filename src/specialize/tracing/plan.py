"""Estimates of what a trace will take, before it starts."""

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.corpus import Corpus, Document
from specialize.errors import CorpusError
from specialize.events import Reporter
from specialize.text import format_bytes
from specialize.trace import RouterSpec
from specialize.trace.parts import Part
from specialize.trace.schema import bits_of_id
from specialize.tracing.replay import Replay, TokenSurvey, TracedDocument
from specialize.tracing.windows import cut_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLED_DOCUMENTS = 200
SAMPLED_CHARACTERS = 20_000  # per document, so that a book is not tokenized for an estimate
# Measured on traces of English text after compression; ids take little more than their bits.
TOKEN_BYTES = 4.5
HALF_BYTES = 1.75
TEXT_BYTES = 1.8  # of TOKEN_BYTES, those of the text, which every part of a trace holds
HELD_BYTES = 2**28


@dataclass(frozen=True)
class CorpusSurvey:
    """What one pass over a corpus found.

    Attributes:
        labels: names of the label columns.
        characters: number of characters in all texts.
        sample: a random sample of the texts, truncated.
        roles: of the messages, in the order in which the corpus first has them; empty if it has no conversations.
        conversations: the documents of the sample, if they are conversations.
        tokens: of a run that is read again; None of texts.
    """

    labels: tuple[str, ...]
    characters: int
    sample: tuple[str, ...]
    roles: tuple[str, ...] = ()
    conversations: tuple[Document, ...] = ()
    tokens: TokenSurvey | None = None


@dataclass(frozen=True)
class TracePlan:
    """What a trace will take.

    Attributes:
        documents: number of documents in the corpus.
        tokens: number of tokens, of all parts, estimated from a sample of the documents.
        routers: number of routers that are recorded, random routers included.
        size: estimated bytes on disk of what is still to be written.
        free: bytes free on that disk.
        part: which part of a trace it is; None for a whole one.
    """

    documents: int
    tokens: int
    routers: int
    size: int
    free: int
    part: Part | None = None

    def report(self, run: Path, reporter: Reporter) -> None:
        """Say what the trace will take, and whether it may not fit on the disk."""
        own = "" if self.part is None else f"{self.part}, about {ceil(self.tokens / self.part.of):,} of "
        reporter.say(
            f"{run}: {own}about {self.tokens:,} tokens in {self.documents:,} documents, {self.routers} routers: about "
            f"{format_bytes(self.size)} to write, {format_bytes(self.free)} free"
        )
        if self.size > self.free:
            reporter.say(
                "note: the trace may not fit on this disk; if it runs full, what is written is kept, and the trace is "
                "resumed once there is space"
            )


def survey_corpus(corpus: Corpus, *, sampled: int = SAMPLED_DOCUMENTS) -> CorpusSurvey:
    """Read every document once, so that errors in the corpus are found before a model runs.

    Args:
        corpus: the documents.
        sampled: number of documents of the sample.

    Raises:
        CorpusError: a document cannot be read, there is none, or a label column has the name of a trace's own column.
        TraceError: a run that is to be read again lacks token ids, or tokens before those that were recorded.
    """
    draw = random.Random(0)
    labels: dict[str, None] = dict.fromkeys(corpus.columns) if isinstance(corpus, Replay) else {}
    tokens = TokenSurvey() if isinstance(corpus, Replay) else None
    sample: list[Document] = []
    roles: dict[str, None] = {}
    characters = 0
    for row, document in enumerate(corpus):
        labels |= dict.fromkeys(document.labels)
        roles |= dict.fromkeys(message.role for message in document.messages)
        if tokens is not None and isinstance(document, TracedDocument):
            tokens = tokens.with_tokens(document.tokens)
        characters += len(document.text) + sum(len(message.content) for message in document.messages)
        place = row if row < sampled else draw.randrange(row + 1)  # each document is as likely as the others
        if place < sampled:
            text = document.text[:SAMPLED_CHARACTERS]
            sample[place : place + 1] = [Document(document.id, text, messages=document.messages)]
    taken = {"id", "text"} & set(labels)
    if taken:
        raise CorpusError(
            f"{corpus.source}: expected label columns with names other than id and text, got "
            f"{' and '.join(sorted(taken))}; rename the column"
        )
    texts = tuple(document.text for document in sample)
    return CorpusSurvey(tuple(labels), characters, texts, tuple(roles), tuple(sample) if roles else (), tokens)


def plan_trace(
    survey: CorpusSurvey,
    corpus: Corpus,
    tokenizer: "PreTrainedTokenizerBase",
    routers: Sequence[RouterSpec],
    contents: Sequence[str],
    run: Path,
    *,
    written: int = 0,
    max_tokens: int | None = None,
    generate: int | None = None,
    part: Part | None = None,
) -> TracePlan:
    """Estimate what a trace will take.

    Args:
        survey: of the corpus.
        corpus: read once to the end.
        tokenizer: the model's.
        routers: that are recorded.
        contents: what is recorded besides the experts.
        run: the run folder, which may not exist yet.
        written: tokens that are traced already.
        max_tokens: largest number of tokens of a document.
        generate: largest number of tokens that are generated after each document.
        part: which part of a trace it is; each holds all documents.
    """
    known = survey.tokens
    total = estimate_tokens(survey, corpus, tokenizer, max_tokens) if known is None else known.count
    total += (generate or 0) * corpus.num_documents
    own = total if part is None else ceil(total / part.of)
    size = max(0, own - written) * sum(bytes_per_token(routers, contents).values())
    size += 0 if written else (total - own) * TEXT_BYTES
    existing = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    return TracePlan(corpus.num_documents, total, len(routers), round(size), shutil.disk_usage(existing).free, part)


def estimate_tokens(
    survey: CorpusSurvey, corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", max_tokens: int | None = None
) -> int:
    """Estimate the number of tokens in a corpus from a sample of its documents.

    Args:
        survey: of the corpus, with texts as the model reads them.
        corpus: read once to the end.
        tokenizer: the model's.
        max_tokens: largest number of tokens of a document.
    """
    sampled = sum(map(len, survey.sample))
    tokens = Counter[int]()
    for window in cut_windows(survey.sample, tokenizer, length=1024) if sampled else ():
        tokens[window.document] += window.num_recorded
    total = round(tokens.total() / max(sampled, 1) * survey.characters)
    if max_tokens is not None:
        longest = [max_tokens if len(text) == SAMPLED_CHARACTERS else tokens[i] for i, text in enumerate(survey.sample)]
        mean = sum(min(count, max_tokens) for count in longest) / max(len(longest), 1)
        total = min(total, round(mean * corpus.num_documents))
    return total


def tokens_of_a_shard(routers: Sequence[RouterSpec], contents: Sequence[str], batch_tokens: int) -> int:
    """Return the tokens that `HELD_BYTES` hold, at least those of a batch and at most 131,072."""
    return max(batch_tokens, min(2**17, HELD_BYTES // max(1, bytes_held(routers, contents))))


def count_shards(tokens: float, routers: Sequence[RouterSpec], contents: Sequence[str], batch_tokens: int) -> int:
    """Return the number of shards: the first has the tokens of a batch, each further one as many as all before it."""
    largest = tokens_of_a_shard(routers, contents, batch_tokens)
    done = count = 0
    while done < min(tokens, largest):
        done, count = done + min(largest, max(batch_tokens, done)), count + 1
    return count + max(0, ceil((tokens - done) / largest))


def bytes_per_token(routers: Sequence[RouterSpec], contents: Sequence[str]) -> dict[str, float]:
    """Return the bytes on disk that a token takes, by what is stored.

    Args:
        routers: that are recorded.
        contents: what is recorded besides the experts.

    Returns:
        Bytes of ``documents``, ``tokens`` and ``experts``, and of those of ``weights``, ``logits`` and ``norms`` that
        are recorded.
    """
    halves = Counter[str]()
    for router in routers:
        halves.update(_halves(router, contents))
    ids = sum(router.top_k * bits_of_id(router.num_experts) / 8 for router in routers)
    own = {"documents": TEXT_BYTES, "tokens": TOKEN_BYTES - TEXT_BYTES, "experts": ids}
    return own | {name: HALF_BYTES * count for name, count in halves.items()}


def bytes_held(routers: Sequence[RouterSpec], contents: Sequence[str]) -> int:
    """Return the bytes of memory that the routing of a token takes until its shard is written."""
    return sum(2 * router.top_k + 2 * sum(_halves(router, contents).values()) for router in routers)


def _halves(router: RouterSpec, contents: Sequence[str]) -> dict[str, int]:
    """Return the number of half-precision values per token, besides the ids."""
    widths = {"weights": router.top_k, "logits": router.num_experts, "norms": router.top_k}
    return {name: widths[name] for name in router.held(contents)}
