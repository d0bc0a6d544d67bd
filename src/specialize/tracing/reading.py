"""How the documents of a trace are read: their texts, and the windows of tokens that the model is given."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.corpus import Corpus, Document
from specialize.errors import TraceError
from specialize.trace.token_text import TokenDecoder
from specialize.tracing.chat import ChatRenderer, Rendered, number_roles, open_conversations, token_roles
from specialize.tracing.continuation import make_room, read_continuations
from specialize.tracing.documents import CHARACTERS_AT_ONCE, DOCUMENTS_AT_ONCE, read_windows
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import CorpusSurvey
from specialize.tracing.replay import Replay
from specialize.tracing.replay_reading import ReplayReading, check_replay, list_settings
from specialize.tracing.windows import Window, cut_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_DEFAULT_CONTEXT = 2048
_WHOLE = 2**31 - 1  # tokens of a window that holds any document


def open_reading(
    tokenizer: "PreTrainedTokenizerBase",
    corpus: Corpus,
    options: TraceOptions,
    *,
    survey: CorpusSurvey,
    longest: int | None,
    num_ids: int | None,
    chat_template: str | PathLike[str] | None = None,
) -> "Reading | ReplayReading":
    """Return how a corpus is read: texts and conversations are tokenized, token ids of a run are read as they are.

    Args:
        tokenizer: the model's.
        corpus: the documents.
        options: of the trace.
        survey: of the corpus.
        longest: the longest sequence that the model was made for, in tokens; None if it is not known.
        num_ids: number of token ids that the model has; None if it is not known.
        chat_template: of conversations: a Jinja template, or the path of a file with one; default: the tokenizer's.

    Raises:
        CaptureError: conversations have no template.
        CorpusError: there are too many roles.
        TraceError: an option is out of range, or the model cannot read the token ids of the run.
    """
    if isinstance(corpus, Replay):
        check_replay(corpus.source, {"chat_template": chat_template})
        return ReplayReading(tokenizer, corpus, options, survey=survey, longest=longest, num_ids=num_ids)
    context = choose_context(longest, options.context)
    answers = options.generate is not None
    conversations = open_conversations(tokenizer, survey, template=chat_template, answers=answers)
    return Reading(tokenizer, context, options, survey=survey, conversations=conversations)


def choose_context(longest: int | None, context: int | None) -> int:
    """Return the length of a window in tokens.

    Args:
        longest: the longest sequence that the model was made for, if it is known.
        context: that is asked for.

    Raises:
        TraceError: it is longer than the model allows.
    """
    if context is None:
        return min(longest or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if longest is not None and context > longest:
        raise TraceError(
            f"context: expected at most {longest} tokens, the longest sequence of the model, got {context}"
        )
    return context


class Reading:
    """How the documents of a trace are read.

    Args:
        tokenizer: the model's.
        context: length of a sequence in tokens.
        options: of the trace.
        survey: of the corpus.
        conversations: renders documents with messages; None if the corpus has texts.

    Attributes:
        tokenizer: the model's.
        roles: of the tokens in conversations, by their numbers; empty if there are none.
        contents: what the trace holds besides the experts.
        context: length of a sequence in tokens.

    Raises:
        CorpusError: there are too many roles.
        TraceError: what is to be generated leaves no room for the documents.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        context: int,
        options: TraceOptions,
        *,
        survey: CorpusSurvey,
        conversations: ChatRenderer | None = None,
    ) -> None:
        if options.generate is not None and options.generate >= context:
            raise TraceError(
                f"generate: expected fewer than {context:,} tokens, the length of a sequence, which holds the document "
                f"too, got {options.generate:,}"
            )
        self.tokenizer = tokenizer
        self.roles = number_roles(survey.roles) if conversations is not None else ()
        self.contents = (*options.contents, *(["roles"] if self.roles else []))
        self.context = context
        self._options = options
        self._conversations = conversations
        self._cut = self._unplaced = 0

    def render_sample(self, survey: CorpusSurvey) -> CorpusSurvey:
        """Return the survey with texts as the model reads them: those of conversations are rendered.

        Raises:
            CorpusError: the template refuses a conversation of the sample.
        """
        if self._conversations is None:
            return survey
        texts = tuple(self.text_of(0, document) for document in survey.conversations)
        said = sum(len(message.content) for document in survey.conversations for message in document.messages)
        growth = sum(map(len, texts)) / max(said, 1)
        return replace(survey, sample=texts, characters=round(growth * survey.characters))

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """Return the entries of the manifest's settings that say how the corpus is read and recorded."""
        template = {} if self._conversations is None else {"chat_template": self._conversations.digest}
        return list_settings(corpus, self._options, self.context) | template

    def check(self, corpus: Corpus) -> None:
        """Render all conversations, so that what the template refuses is found before anything is written.

        Raises:
            CorpusError: the template refuses a conversation.
        """
        if self._conversations is not None:
            for document in corpus:
                self._conversations.render(document)

    def text_of(self, _: int, document: Document) -> str:
        """Return the text of a document, without what is generated after it."""
        return document.text if self._conversations is None else self._conversations.text_of(document)

    def continued_texts(self, run: Path, manifest: Mapping[str, Any]) -> Callable[[int, Document], str]:
        """Return what gives the text of each document in order, followed by what was generated after it.

        Args:
            run: the run folder.
            manifest: of its trace, whose shards are all written.
        """
        continuations = read_continuations(run, manifest, TokenDecoder(self.tokenizer))
        following = next(continuations, None)

        def text_of(row: int, document: Document) -> str:
            nonlocal following
            text = self.text_of(row, document)
            if following is not None and following[0] == row:
                text, following = text + following[1], next(continuations, None)
            return text

        return text_of

    def windows(self, corpus: Corpus, run: Path) -> Iterator[Window]:
        """Yield the windows of all documents, in order.

        Args:
            corpus: the documents.
            run: the run folder, which holds their texts, unless something is generated.
        """
        for window in self._prepare(corpus, run):
            self._cut += window.is_cut
            yield window

    def _prepare(self, corpus: Corpus, run: Path) -> Iterator[Window]:
        options = self._options
        how: dict[str, Any] = {
            "length": self.context if options.generate is None else _WHOLE,
            "stride": options.stride,
            "max_tokens": options.max_tokens,
        }
        if self._conversations is None and options.generate is None:
            yield from read_windows(run, self.tokenizer, **how)
            return
        first = characters = 0
        read: list[tuple[Document, Rendered | None]] = []
        for document in corpus:
            rendered = self._conversations.render(document) if self._conversations is not None else None
            read.append((document, rendered))
            characters += len(document.text if rendered is None else rendered.text)
            if len(read) == DOCUMENTS_AT_ONCE or characters > CHARACTERS_AT_ONCE:
                yield from self._cut_windows(read, first, how)
                first, characters, read = first + len(read), 0, []
        if read:
            yield from self._cut_windows(read, first, how)

    def _cut_windows(
        self, read: list[tuple[Document, Rendered | None]], first: int, how: Mapping[str, Any]
    ) -> Iterator[Window]:
        """Yield the windows of documents, of which the first has this row."""
        texts = [document.text if rendered is None else rendered.text for document, rendered in read]
        self._unplaced += sum(rendered.unplaced for _, rendered in read if rendered is not None)
        special = self._conversations is None
        for window in cut_windows(texts, self.tokenizer, first_document=first, add_special_tokens=special, **how):
            document, rendered = read[window.document - first]
            if rendered is not None:
                window = replace(window, roles=token_roles(window.spans, rendered, document.messages, self.roles))
            if self._options.generate is not None:
                length = len(texts[window.document - first])
                window = make_room(window, context=self.context, generate=self._options.generate, text_length=length)
            yield window

    def warnings(self, survey: CorpusSurvey) -> Iterator[str]:
        """Yield what a user should know about the corpus and the tokenizer before anything is traced."""
        opening = getattr(self.tokenizer, "bos_token", None)
        if self._conversations is not None or not opening or not survey.sample:
            return
        twice = sum(text.startswith(opening) for text in survey.sample)
        if twice and self.tokenizer("a")["input_ids"][0] == self.tokenizer.bos_token_id:
            yield (
                f"{twice:,} of {len(survey.sample):,} sampled texts begin with {opening!r:.60}, which the tokenizer "
                "adds itself: the model reads it twice"
            )

    def notes(self, documents: int) -> Iterator[str]:
        """Yield what a user should know about what was left out.

        Args:
            documents: number of documents in the corpus.
        """
        options = self._options
        if options.max_tokens is not None and options.generate is None:
            yield (
                f"documents of more than {options.max_tokens:,} tokens, of which the rest is not traced: "
                f"{self._cut:,} of {documents:,}"
            )
        elif self._cut:
            yield (
                f"note: documents that leave no room for {options.generate:,} tokens in a sequence of "
                f"{self.context:,}, of which only the last tokens are read: {self._cut:,} of {documents:,}"
            )
        if self._unplaced:
            yield (
                f"note: messages that the chat template changed or left out, whose tokens have the role template: "
                f"{self._unplaced:,}"
            )
