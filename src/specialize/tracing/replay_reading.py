"""How the token ids of a run are read again."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.corpus import Corpus, Document
from specialize.errors import TraceError
from specialize.trace.schema import UNKNOWN
from specialize.tracing.options import TraceOptions
from specialize.tracing.replay import Columns, Replay, TokenSurvey, TracedDocument, sequence_starts
from specialize.tracing.windows import Window

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specialize.tracing.plan import CorpusSurvey

_COMPARED = 20  # documents whose texts are tokenized, to notice a tokenizer of another model


class ReplayReading:
    """Reads the token ids of a run again, see `specialize.tracing.reading.Reading`.

    Args:
        tokenizer: the model's, of which the tokens that open a sequence are taken; None if it is not known.
        corpus: of the run.
        options: of the trace.
        survey: of the corpus.
        longest: the longest sequence that the model was made for, in tokens; None if it is not known.
        num_ids: number of token ids that the model has; None if it is not known.

    Attributes:
        tokenizer: the model's.
        roles: of the tokens in conversations, by their numbers; empty if there are none.
        contents: what the trace holds besides the experts.
        context: length of the longest sequence, in tokens.

    Raises:
        TraceError: an option is for texts, a sequence is longer than the model takes, it begins with tokens that are
            not known, or the model lacks a token id.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase | None",
        corpus: Replay,
        options: TraceOptions,
        *,
        survey: "CorpusSurvey",
        longest: int | None,
        num_ids: int | None,
    ) -> None:
        check_replay(corpus.source, {name: getattr(options, name) for name in ("stride", "max_tokens", "generate")})
        self.tokenizer: Any = tokenizer
        self.roles = tuple(corpus.trace.manifest.get("roles") or ()) if "roles" in corpus.trace.contents else ()
        self.contents = (*options.contents, *(["roles"] if self.roles else []))
        tokens = survey.tokens or TokenSurvey()
        self.context = tokens.longest
        self._opening = _opening_tokens(tokenizer)
        self._corpus, self._options = corpus, options
        self._check(tokens, longest=longest, num_ids=num_ids)

    def _check(self, tokens: TokenSurvey, *, longest: int | None, num_ids: int | None) -> None:
        source, context = self._corpus.source, self._options.context
        allowed = [each for each in (context, longest) if each is not None]
        if allowed and tokens.longest > min(allowed):
            chosen = min(allowed) == context
            raise TraceError(
                f"{source}: expected sequences of at most {min(allowed):,} tokens, "
                f"{'as --context says' if chosen else 'the longest that the model takes'}, got one of "
                f"{tokens.longest:,}: {'leave --context out' if chosen else 'a sequence is read in one pass'}"
            )
        if num_ids is not None and tokens.largest_id >= num_ids:
            raise TraceError(
                f"{source}: expected token ids below {num_ids:,}, the number of embeddings of the model, got "
                f"{tokens.largest_id:,}; is it the run of a model with another tokenizer?"
            )
        known = {0, len(self._opening)}
        others = sorted(tokens.starts - known)
        if others:
            added = f" or {len(self._opening)}, after what the tokenizer adds" if len(self._opening) else ""
            remedy = "record whole sequences" if self.tokenizer is not None else "give the model's tokenizer"
            raise TraceError(
                f"{source}: expected sequences that begin at position 0{added}, got one from position {others[0]:,}, "
                f"before which the token ids are unknown; {remedy}"
            )

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """Return the entries of the manifest's settings that say how the corpus is read and recorded."""
        return list_settings(corpus, self._options)

    def render_sample(self, survey: "CorpusSurvey") -> "CorpusSurvey":
        """Return the survey as it is: the number of tokens is known."""
        return survey

    def check(self, corpus: Corpus) -> None:
        """Do nothing: there is no text that could be refused."""

    def text_of(self, _: int, document: Document) -> str | None:
        """Return the text of a document, None if the run does not know it."""
        return document.text if isinstance(document, TracedDocument) and document.has_text else None

    def continued_texts(self, run: Path, manifest: Mapping[str, Any]) -> Callable[[int, Document], str | None]:
        """Return what gives the text of each document: nothing is generated after it."""
        return self.text_of

    def windows(self, corpus: Corpus, run: Path) -> Iterator[Window]:
        """Yield the sequences of all documents, in order.

        Args:
            corpus: of the run that is read again.
            run: the run folder that is written.
        """
        for row, document in enumerate(corpus):
            if isinstance(document, TracedDocument):
                yield from self._windows_of(row, document.tokens)

    def _windows_of(self, row: int, tokens: Columns) -> Iterator[Window]:
        ids, position = tokens["token_id"], tokens["position"]
        starts = sequence_starts(tokens)
        for start, end in pairwise([*starts, len(ids)]):
            begins = int(position[0])
            known = int(position[start]) - begins  # tokens of the document that an earlier window recorded
            spans = np.stack([tokens[name][start:end] for name in ("char_start", "char_end")], axis=1)
            yield Window(
                row,
                np.concatenate([self._opening[:begins], ids[start - known : end]]).astype(np.int32),
                begins + known,
                spans.astype(np.int32),
                roles=tokens["role"][start:end] if self.roles else None,
                phases=tokens["phase"][start:end],
            )

    def warnings(self, survey: "CorpusSurvey") -> Iterator[str]:
        """Yield what a user should know if the token ids seem to be those of another tokenizer."""
        shared = total = 0
        if self.tokenizer is None:
            return
        for document in self._corpus.first(_COMPARED):
            start, end, ids = (document.tokens[name] for name in ("char_start", "char_end", "token_id"))
            placed = start != UNKNOWN
            if placed.any():
                text = document.text[start[placed].min() : end.max()]
                encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
                shared += (Counter(ids[placed].tolist()) & Counter(encoded)).total()
                total += int(placed.sum())
        if 2 * shared < total:
            yield (
                f"this model's tokenizer turns the texts of {self._corpus.source} into other token ids than the run "
                f"has ({shared / total:.0%} are the same): is it the run of a model with another tokenizer?"
            )

    def notes(self, documents: int) -> Iterator[str]:
        """Yield nothing: no token is left out."""
        yield from ()


def check_replay(source: str, given: Mapping[str, Any]) -> None:
    """Raise TraceError if an option is given that says how texts are read.

    Args:
        source: name of the run.
        given: options by name; None or False if they are not given.
    """
    names = [name for name, value in given.items() if value]
    if names:
        raise TraceError(
            f"{names[0]}: expected it only with a corpus of texts, got it with the run {source}, whose token ids are "
            "read again as they are; leave it out"
        )


def list_settings(corpus: Corpus, options: TraceOptions, context: int | None = None) -> dict[str, Any]:
    """Return the entries of the manifest's settings that say how a corpus is read and recorded.

    Args:
        corpus: the documents.
        options: of the trace.
        context: length of a window of text in tokens, if the model determines it.
    """
    if isinstance(corpus, Replay):  # sequences are as long as they were
        return replace(options, context=None).as_settings() | {"replay": True}
    return options.as_settings(context)


def _opening_tokens(tokenizer: "PreTrainedTokenizerBase | None") -> NDArray[np.int32]:
    """Return the special tokens that the tokenizer adds before a text; none where it is not known."""
    if tokenizer is None:
        return np.empty(0, np.int32)
    encoded = tokenizer("a", return_special_tokens_mask=True)
    special = np.array(encoded["special_tokens_mask"], dtype=bool)
    ordinary = np.flatnonzero(~special)
    return np.array(encoded["input_ids"][: ordinary[0] if len(ordinary) else 0], dtype=np.int32)
