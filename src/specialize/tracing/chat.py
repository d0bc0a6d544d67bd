"""Conversations as the model reads them: rendered by a chat template, with the role of every character.

What a message says is found in the rendered text by rendering the conversation a second time with placeholders for the
contents: what stands between them, white space included, is the template's.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.corpus.document import Document, Message
from specialize.errors import CaptureError, CorpusError, first_line
from specialize.tracing.plan import CorpusSurvey

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = "template"  # the role of what no message says
_FIRST = (TEMPLATE, "system", "user", "assistant")  # numbered first, whether or not they occur
ASSISTANT = _FIRST.index("assistant")
_PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")
_THOUGHTS = ("<think>", "</think>")  # templates of reasoning models leave out what is between them in earlier answers
_THOUGHT = re.compile("(</?think>)")
_LARGEST_TEMPLATE = 2**20  # bytes


@dataclass(frozen=True)
class Rendered:
    """A conversation as one text.

    Attributes:
        text: what the model reads, its special tokens written out.
        spans: int32 [contents, 2], characters of the contents that were found, in order, end exclusive.
        messages: int32 [contents], number of the message that each of them is of.
        unplaced: number of messages with a content that was not found in the text.
    """

    text: str
    spans: NDArray[np.int32]
    messages: NDArray[np.int32]
    unplaced: int


class ChatRenderer:
    """Renders conversations with the chat template of a tokenizer.

    Args:
        tokenizer: the model's.
        template: a Jinja template in place of the tokenizer's own, or the path of a file with one.
        answers: whether the model is to answer: the text ends where its answer begins.

    Attributes:
        template: the template.

    Raises:
        CaptureError: there is no template, or it cannot be read.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        template: str | PathLike[str] | None = None,
        answers: bool = False,
    ) -> None:
        own = getattr(tokenizer, "chat_template", None)
        if template is not None:
            own = _read_template(template)
        if isinstance(own, dict):  # several, by name
            own = own.get("default")
        if not own:
            raise CaptureError(
                f"{getattr(tokenizer, 'name_or_path', '') or 'tokenizer'}: expected a tokenizer with a chat template "
                "for the conversations, found none; give one with chat_template, or write the conversations into a "
                "text column as the model should read them"
            )
        self.template: str = own
        self._tokenizer = tokenizer
        self._answers = answers

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the template."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    def render(self, document: Document) -> Rendered:
        """Render a conversation.

        Raises:
            CorpusError: the template refuses it, or the model is to answer and its last message is an answer.
        """
        text = self.text_of(document)
        contents: list[_Content] = []
        marked = [_mark(message, number, contents) for number, message in enumerate(document.messages)]
        return _place_contents(text, self._apply(marked, document.id), contents)

    def text_of(self, document: Document) -> str:
        """Return the text of a conversation, without looking for what its messages say.

        Raises:
            CorpusError: as `render`.
        """
        messages = document.messages
        if self._answers and messages[-1].role == "assistant":
            raise CorpusError(
                f"document {document.id!r:.60}: expected a conversation that the model is to answer, got one that ends "
                "with an answer; leave the last message out"
            )
        return self._apply(messages, document.id)

    def _apply(self, messages: Sequence[Message], name: str) -> str:
        try:
            text: Any = self._tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in messages],
                chat_template=self.template,
                add_generation_prompt=self._answers,
                tokenize=False,
            )
        except Exception as error:  # whatever a template does
            raise CorpusError(
                f"document {name!r:.60}: expected a conversation that the chat template takes, got: "
                f"{first_line(error):.200}"
            ) from None
        return str(text)


def open_conversations(
    tokenizer: "PreTrainedTokenizerBase",
    survey: CorpusSurvey,
    *,
    template: str | PathLike[str] | None = None,
    answers: bool = False,
) -> ChatRenderer | None:
    """Return what renders the conversations of a corpus; None if it has texts.

    Args:
        tokenizer: the model's.
        survey: of the corpus.
        template: in place of the tokenizer's own.
        answers: whether the model is to answer.

    Raises:
        CaptureError: there is no template, or one is given for texts.
    """
    if survey.roles:
        return ChatRenderer(tokenizer, template=template, answers=answers)
    if template is not None:
        raise CaptureError("chat_template: expected it only for conversations, got a corpus of texts; leave it out")
    return None


def _read_template(template: str | PathLike[str]) -> str:
    if isinstance(template, str) and ("{%" in template or "{{" in template):
        return template
    path = Path(template)
    try:
        if path.stat().st_size > _LARGEST_TEMPLATE:
            raise CaptureError(f"{path}: expected a chat template of at most 1 MiB, got a larger file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CaptureError(f"{path}: expected a file with a chat template, got: {first_line(error):.200}") from None


@dataclass(frozen=True)
class _Content:
    """A piece of what a message says: all of it, or what is inside or outside of its thoughts."""

    message: int
    text: str


def _mark(message: Message, number: int, contents: list[_Content]) -> Message:
    """Replace what a message says by placeholders, and add it to the contents; white space around it stays."""

    def placeholder(piece: str) -> str:
        core = piece.strip()
        if not core or piece in _THOUGHTS:
            return piece
        contents.append(_Content(number, core))
        before, after = piece.split(core, 1)
        return f"{before}\ue000{len(contents) - 1}\ue001{after}"

    return replace(message, content="".join(map(placeholder, _THOUGHT.split(message.content))))


def _place_contents(text: str, skeleton: str, contents: Sequence[_Content]) -> Rendered:
    """Find the contents in a rendered conversation.

    Args:
        text: the conversation.
        skeleton: the same with a placeholder for each content.
        contents: by the numbers of their placeholders.
    """
    pieces = _PLACEHOLDER.split(skeleton)  # template, number, template, number … template
    numbers, template = [int(piece) for piece in pieces[1::2]], pieces[::2]
    found: list[tuple[int, int, int]] = []
    place = len(template[0]) if text.startswith(template[0]) else -1
    for left, number, following in zip(range(len(numbers))[::-1], numbers, template[1:], strict=True):
        content = contents[number]
        end = -1 if place < 0 else _find_end(text, place, content.text, following, last=left == 0)
        if end < 0:
            break
        if end > place:
            found.append((place, end, content.message))
        place = end + len(following)
    placed = {message for _, _, message in found}
    unplaced = len({content.message for content in contents} - placed)
    spans = np.array([span[:2] for span in found], dtype=np.int32).reshape(-1, 2)
    return Rendered(text, spans, np.array([span[2] for span in found], dtype=np.int32), unplaced)


def _find_end(text: str, place: int, content: str, following: str, *, last: bool) -> int:
    """Return where the content that begins at `place` ends, -1 if that cannot be told.

    One that the template changed extends to the template's own next piece, and the last one to the piece that ends the
    text. A piece of white space, or one that stands in the content as well, does not tell where a changed one ends.
    """
    end = place + len(content)
    if text.startswith(content, place) and text.startswith(following, end):
        return end
    if last:
        end = len(text) - len(following)
        return end if end >= place and text.endswith(following) else -1
    return text.find(following, place) if following.strip() and following not in content else -1


def number_roles(names: Sequence[str]) -> tuple[str, ...]:
    """Return the roles of a corpus in the order of their numbers in a trace.

    Args:
        names: in the order in which the corpus first has them, so that further documents change no number.

    Raises:
        CorpusError: there are more than a byte can number, or one has the name of what the template adds.
    """
    if TEMPLATE in names:
        raise CorpusError(
            f"expected messages with roles other than {TEMPLATE!r}, the name of what the chat template adds, got one "
            "with that role; give it another name"
        )
    numbered = tuple(dict.fromkeys((*_FIRST, *names)))
    if len(numbered) > 255:
        raise CorpusError(f"expected at most 255 roles in the conversations, got {len(numbered)}; check the column")
    return numbered


def token_roles(
    spans: NDArray[np.int32], rendered: Rendered, messages: Sequence[Message], roles: Sequence[str]
) -> NDArray[np.uint8]:
    """Return the number of each token's role.

    A token that lies partly in the content of a message has the role of that message.

    Args:
        spans: int32 [tokens, 2], characters of the tokens in the rendered text.
        rendered: the conversation.
        messages: of the conversation.
        roles: all roles, by their numbers.

    Returns:
        uint8 [tokens].
    """
    codes = np.zeros(len(spans), np.uint8)
    if not len(rendered.spans):
        return codes
    of_content = np.array([roles.index(messages[number].role) for number in rendered.messages], dtype=np.uint8)
    nearest = np.searchsorted(rendered.spans[:, 1], spans[:, 0], side="right")  # the first content that ends later
    inside = np.flatnonzero(nearest < len(of_content))
    inside = inside[rendered.spans[nearest[inside], 0] < spans[inside, 1]]
    codes[inside] = of_content[nearest[inside]]
    return codes
