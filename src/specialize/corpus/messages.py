"""Conversations: lists of messages in a column of a table, in the form of chat templates or in that of ShareGPT."""

from collections.abc import Mapping, Sequence
from typing import Any

from specialize.corpus.document import Document, Message
from specialize.errors import CorpusError

MESSAGE_COLUMNS = ("messages", "conversations", "conversation")  # the first of them that a corpus has is read
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
_CALLS = ("tool_calls", "function_call")
_REMEDY = "leave the conversation out, or write it into a text column as the model should read it"


def is_conversation(value: object) -> bool:
    """Return whether a value is a list of objects, or an empty one."""
    items = _as_list(value)
    return items is not None and all(isinstance(item, Mapping) for item in items)


def read_messages(value: object, where: str, column: str) -> tuple[Message, ...]:
    """Return the messages of a conversation.

    Each message has a role and a content, or `from` and `value` as in ShareGPT, whose roles human and gpt are called
    user and assistant. A content may be a list of parts, whose texts are joined.

    Args:
        value: a list of objects; None for no messages.
        where: the place of the row, for messages.
        column: where it stands.

    Raises:
        CorpusError: it is no list of messages, or one of them is not text alone.
    """
    if value is None:
        return ()
    items = _as_list(value)
    if items is None:
        raise CorpusError(
            f"{where}: expected a list of messages in column {column!r:.60}, each with role and content, got "
            f"{type(value).__name__}"
        )
    return tuple(_read_message(item, f"{where}, message {number}") for number, item in enumerate(items))


def _read_message(item: object, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise CorpusError(f"{where}: expected an object with role and content, got {type(item).__name__}")
    role_key, content_key = ("from", "value") if "role" not in item and "from" in item else ("role", "content")
    role = item.get(role_key)
    if not isinstance(role, str) or not role.strip():
        raise CorpusError(f"{where}: expected a string as {role_key}, got {_name_value(role)}")
    calls = next((name for name in _CALLS if not _is_nothing(item.get(name))), None)
    if calls is not None:
        raise CorpusError(f"{where}: expected text alone, got {calls}; {_REMEDY}")
    content = _join_content(item.get(content_key), where, content_key)
    return Message(_SHAREGPT_ROLES.get(role, role) if role_key == "from" else role, content)


def _join_content(content: object, where: str, key: str) -> str:
    if isinstance(content, str):
        return content
    parts = _as_list(content)
    if parts is None:
        raise CorpusError(f"{where}: expected text as {key}, got {_name_value(content)}; {_REMEDY}")
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get("text") if isinstance(part, Mapping) and kind == "text" else None
        if not isinstance(text, str):
            found = f"one of type {kind!r:.60}" if isinstance(kind, str) and kind != "text" else _name_value(part)
            raise CorpusError(f"{where}: expected parts of type text, got {found}; {_REMEDY}")
        texts.append(text)
    return "".join(texts)


def _as_list(value: object) -> Sequence[Any] | None:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping) and value and all(isinstance(each, list) for each in value.values()):
        # how `datasets` gives a Sequence of objects: one list for each key
        if len({len(each) for each in value.values()}) == 1:
            return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
        return None
    listed = value.tolist() if hasattr(value, "tolist") else None  # an array: what pandas reads from Parquet
    return listed if isinstance(listed, list) else None


def _is_nothing(value: object) -> bool:
    items = _as_list(value)
    return not (value if items is None else items)


def _name_value(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def check_rendered(document: Document, source: str) -> None:
    """Raise CorpusError for a conversation that no chat template has turned into a text.

    Args:
        document: of a corpus.
        source: name of the corpus, for the message.
    """
    if document.messages and not document.text:
        raise CorpusError(
            f"{source}: expected documents with a text, got the conversation {document.id!r:.60}; write the "
            "conversations into a text column with the chat template of the model, and name it with text_column"
        )
