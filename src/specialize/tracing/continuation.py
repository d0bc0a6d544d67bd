"""What a model generated after a document: its tokens, and its text at the end of the document's."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.trace.files import read_arrow
from specialize.trace.schema import PHASES, UNKNOWN, shard_files
from specialize.trace.token_text import TokenDecoder
from specialize.tracing.windows import Window

_TAIL = 16  # tokens before the generated ones that are decoded with them: a space may depend on them
_GENERATED = PHASES.index("generation")


def make_room(window: Window, *, context: int, generate: int, text_length: int) -> Window:
    """Prepare a window for generation: of a longer document, the last tokens that leave room are read.

    Args:
        window: of a whole document.
        context: length of a sequence in tokens.
        generate: largest number of tokens that are generated.
        text_length: characters of the document.
    """
    left_out = max(0, len(window.token_ids) + generate - context)
    return replace(
        window,
        token_ids=np.delete(window.token_ids, slice(window.opening, window.opening + left_out)),
        spans=window.spans[left_out:],
        roles=None if window.roles is None else window.roles[left_out:],
        is_cut=left_out > 0,
        room=generate,
        text_length=text_length,
    )


def continue_window(window: Window, ids: NDArray[np.integer], decoder: TokenDecoder, *, role: int = 0) -> Window:
    """Return a window with the tokens that were generated after it.

    Args:
        window: that was read.
        ids: integers [generated], without the last one, which no layer has read.
        decoder: of the model's tokenizer.
        role: number of the model's role in a conversation.
    """
    _, spans = continue_text(decoder, window.token_ids[window.opening :], ids)
    spans = np.where(spans == UNKNOWN, UNKNOWN, spans + window.text_length).astype(np.int32)
    roles = window.roles
    return replace(
        window,
        token_ids=np.concatenate([window.token_ids, ids]).astype(np.int32),
        spans=np.concatenate([window.spans, spans]),
        roles=None if roles is None else np.concatenate([roles, np.full(len(ids), role, np.uint8)]),
        room=window.room - len(ids),
        phases=np.repeat([0, _GENERATED], [window.num_recorded, len(ids)]).astype(np.uint8),
    )


def continue_text(
    decoder: TokenDecoder, before: NDArray[np.integer], ids: NDArray[np.integer]
) -> tuple[str, NDArray[np.int32]]:
    """Return the text of generated tokens, and their characters in it.

    Args:
        decoder: of the model's tokenizer.
        before: recorded tokens of the document, integers [tokens].
        ids: generated tokens, integers [generated].

    Returns:
        The text, and int32 [generated, 2] characters, end exclusive; UNKNOWN (-1) for a token that cannot be placed.
    """
    if not len(ids):
        return "", np.zeros((0, 2), np.int32)
    tail = before[-_TAIL:]
    text, spans = decoder.place(np.concatenate([tail, ids]))
    head, _ = decoder.place(tail) if len(tail) else ("", None)
    if not text.startswith(head):  # the last character before is of both
        return decoder.place(ids)
    own = spans[len(tail) :]
    placed = np.maximum(own - len(head), 0)
    return text[len(head) :], np.where(own == UNKNOWN, UNKNOWN, placed).astype(np.int32)


def read_continuations(run: Path, manifest: Mapping[str, Any], decoder: TokenDecoder) -> Iterator[tuple[int, str]]:
    """Yield the rows of the documents in the shards that are written, and what was generated after each.

    Args:
        run: the run folder.
        manifest: of its trace.
        decoder: of the model's tokenizer.
    """
    for number in range(len(manifest["shards"])):
        table = read_arrow(run / "trace" / shard_files(number)[0], ["document", "token_id", "phase"])
        document, ids, phase = (table.column(name).to_numpy() for name in ("document", "token_id", "phase"))
        starts = np.flatnonzero(np.diff(document, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(document)], strict=True):
            generated = phase[start:end] == _GENERATED
            text, _ = continue_text(decoder, ids[start:end][~generated], ids[start:end][generated])
            yield int(document[start]), text
