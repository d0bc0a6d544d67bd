"""The corpus of a plan: how many documents and tokens it has, how long they are, and a sample of it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import PlanError
from specialize.events import Reporter
from specialize.planning import constants
from specialize.planning.architecture import Architecture
from specialize.planning.computed import Job
from specialize.planning.measured import count_padded
from specialize.planning.plan import Basis
from specialize.remote.places import is_run
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import tokens_of_a_shard

if TYPE_CHECKING:
    from specialize.corpus import Corpus, Document

_SAMPLED = 2000  # documents, whose tokens and lengths are counted


@dataclass(frozen=True)
class Counted:
    """The size of a corpus.

    Attributes:
        documents: number of documents.
        tokens: number of tokens.
        basis: how they are known.
        corpus: the corpus; None if only its size was given.
        label_columns: its known label columns.
        lengths: of the windows of a sample, in tokens, integers [windows]; None if the documents are not known.
        notes: what was assumed, one line each.
    """

    documents: int
    tokens: int
    basis: Basis
    corpus: "Corpus | None" = None
    label_columns: tuple[str, ...] = ()
    lengths: NDArray[np.integer] | None = None
    notes: tuple[str, ...] = ()

    def as_job(
        self,
        architecture: Architecture,
        options: TraceOptions,
        *,
        weight_bytes: int,
        ablated_documents: int | None,
        conditions: int | None,
    ) -> Job:
        """Return the whole job.

        Args:
            architecture: of the model.
            options: of the trace.
            weight_bytes: of a parameter in memory.
            ablated_documents: that are run again; None for all.
            conditions: of the ablation; None for each expert alone.
        """
        routers = architecture.routers(options.control_draws if options.control else 0)
        ablated = 1.0 if ablated_documents is None else min(1.0, ablated_documents / self.documents)
        padding = again = 1.0
        if self.lengths is not None:
            largest = tokens_of_a_shard(routers, options.contents, options.batch_tokens)
            first = min(options.batch_tokens, largest)
            how = {"batch_tokens": options.batch_tokens}
            padding = count_padded(self.lengths, self.tokens, first=first, largest=largest, **how) / self.tokens
            again = count_padded(self.lengths, self.tokens * ablated, **how) / (self.tokens * ablated)
        return Job(
            architecture=architecture,
            documents=self.documents,
            tokens=self.tokens,
            counted=self.basis,
            padding=padding,
            padding_again=again,
            routers=routers,
            contents=options.contents,
            batch_tokens=options.batch_tokens,
            weight_bytes=weight_bytes,
            label_sets=len(self.label_columns),
            ablated=ablated,
            conditions=conditions or len(architecture.moe_layers) * architecture.num_experts,
            runs_head=options.predictions,
        )


def count_given(counts: Mapping[str, int | None], *, max_tokens: int | None) -> Counted:
    """Return the size that the user gave.

    Raises:
        PlanError: a number is missing, or there are fewer tokens than documents.
    """
    missing = [name for name, value in counts.items() if value is None]
    if missing:
        raise PlanError(f"expected a corpus, or its numbers of tokens and documents, got no {' and no '.join(missing)}")
    tokens, documents = int(counts["tokens"] or 0), int(counts["documents"] or 0)
    if tokens < documents:
        raise PlanError(f"tokens: expected at least one for each of the {documents:,} documents, got {tokens:,}")
    if max_tokens is not None:
        tokens = min(tokens, documents * max_tokens)
    return Counted(documents, tokens, "assumed", notes=("numbers of tokens and documents: as given", "no padding"))


def survey(
    model: str | PathLike[str],
    architecture: Architecture,
    source: Any,
    columns: Mapping[str, Any],
    options: TraceOptions,
    *,
    reporter: Reporter,
) -> Counted:
    """Count the documents of a corpus, and estimate their tokens from a sample.

    Args:
        model: as the user gave it; its tokenizer is used if it is there.
        architecture: of the model.
        source: the corpus.
        columns: and limits, as of `specialize.corpus.open_corpus`.
        options: of the trace.
        reporter: receives notes.

    Raises:
        CorpusError: the corpus cannot be read.
        PlanError: it is a run folder, or has no tokens.
        TraceError: an option is out of range.
    """
    from specialize.corpus import open_corpus
    from specialize.tracing.plan import estimate_tokens, survey_corpus
    from specialize.tracing.reading import choose_context
    from specialize.tracing.windows import cut_windows

    if is_run(source):
        raise PlanError(f"{fspath(source)}: expected a corpus, got a run folder; give its tokens and documents instead")
    corpus = open_corpus(source, **columns)
    found = survey_corpus(corpus, sampled=_SAMPLED)
    for note in corpus.notes:
        reporter.say(note)
    context = choose_context(architecture.longest, options.context)
    tokenizer = _find_tokenizer(model)
    notes: tuple[str, ...] = ()
    if tokenizer is None:
        tokens = round(found.characters / constants.CHARACTERS)
        mean = constants.CHARACTERS
        texts = found.sample or [message.content for each in found.conversations for message in each.messages]
        counts = [max(1, round(len(text) / mean)) for text in texts]
        if options.max_tokens is not None:
            counts = [min(count, options.max_tokens) for count in counts]
            tokens = min(tokens, options.max_tokens * corpus.num_documents)
        lengths = [part for count in counts for part in _cut(count, context)]
        basis: Basis = "assumed"
        notes = (f"{constants.CHARACTERS} characters a token: the model's tokenizer is not here",)
    else:
        from specialize.tracing.reading import open_reading

        reading = open_reading(tokenizer, corpus, options, survey=found, longest=architecture.longest, num_ids=None)
        found = reading.render_sample(found)
        tokens = estimate_tokens(found, corpus, tokenizer, options.max_tokens)
        windows = cut_windows(found.sample, tokenizer, length=context, max_tokens=options.max_tokens)
        lengths = [len(window.token_ids) for window in windows]
        basis = "measured"
    if not tokens or not lengths:
        raise PlanError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
    return Counted(corpus.num_documents, tokens, basis, corpus, found.labels, np.array(lengths, dtype=np.int64), notes)


def _cut(count: int, context: int) -> list[int]:
    return [min(context, count - start) for start in range(0, count, context)]


def _find_tokenizer(model: str | PathLike[str]) -> Any:
    """Return the model's tokenizer; None if it is not here."""
    from specialize.planning.architecture import is_hub_id

    folder = Path(model)
    if not is_hub_id(model) and not (folder / "tokenizer.json").is_file():
        return None
    from specialize.errors import CaptureError
    from specialize.tracing.checkpoints import load_tokenizer

    try:
        return load_tokenizer(model)
    except ImportError:
        return None
    except CaptureError:
        if not is_hub_id(model):
            raise
        return None


def draw_documents(corpus: "Corpus", sizes: Sequence[int]) -> "list[list[Document]]":
    """Draw random samples of a corpus, each in its order, and each smaller one a part of the larger ones.

    Args:
        corpus: the documents.
        sizes: of the samples; the largest one is all of the corpus if that has not so many documents.
    """
    draw = random.Random(0)
    largest = max(sizes)
    drawn: list[tuple[int, Document]] = []
    for row, document in enumerate(corpus):
        place = row if row < largest else draw.randrange(row + 1)
        if place < largest:
            drawn[place : place + 1] = [(row, document)]
    draw.shuffle(drawn)
    return [[document for _, document in sorted(drawn[:size], key=itemgetter(0))] for size in sizes]
