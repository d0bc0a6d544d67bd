"""A document, and what a reader says about it."""

import json
from dataclasses import dataclass, field

from specialize.errors import CorpusError


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks, in the words of the source: system, user, assistant, tool …
        content: what is said.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Document:
    """One text of a corpus, or a conversation.

    Attributes:
        id: unique in its corpus.
        text: the text as in the source, including line ends; never only white space. Empty if there are messages that
            no chat template has turned into a text yet.
        labels: the labels of the document by column; a missing value has no entry.
        messages: the conversation, if the document is one.
    """

    id: str
    text: str
    labels: dict[str, str] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether the text and all messages are only white space."""
        return not self.text.strip() and not any(message.content.strip() for message in self.messages)

    def encode_content(self) -> bytes:
        """Return the text, and the messages if there are any, as bytes that no other content has."""
        if not self.messages:
            return self.text.encode()
        return b"\0" + json.dumps([self.text, _list_messages(self)], ensure_ascii=False).encode()


@dataclass
class ReadingNotes:
    """What a user should know about how a file or table is read; readers add to it as they find it.

    Attributes:
        unused: the columns that are not used, with the reason.
        labels: the columns that are used as labels.
        found_text: the column of the text, if neither its name nor the user says that it is.
        group: the label column that says which documents belong together.
        messages: further messages, one line each.
    """

    unused: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    found_text: str | None = None
    group: str | None = None
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """A document with its place in the source for error messages (`"a.jsonl, line 3"`), and the notes of its file."""

    where: str
    document: Document
    notes: ReadingNotes | None = None

    def encode(self) -> bytes:
        """Return what the digest of a corpus is of: id, text, labels, and messages if there are any.

        Raises:
            CorpusError: the document has a lone surrogate.
        """
        document = self.document
        fields: list[object] = [document.id, document.text, document.labels]
        if document.messages:
            fields.append(_list_messages(document))
        line = json.dumps(fields, ensure_ascii=False, sort_keys=True)
        try:
            return line.encode() + b"\n"
        except UnicodeEncodeError as error:
            raise CorpusError(
                f"{self.where}: expected valid Unicode, got the lone surrogate {line[error.start]!r}; "
                "repair the text at its source"
            ) from None


def _list_messages(document: Document) -> list[list[str]]:
    return [[message.role, message.content] for message in document.messages]
