"""Cuts documents into sequences that fit the model, and groups sequences into batches with little padding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """One sequence for the model: a piece of a document, after the tokenizer's opening special tokens.

    Attributes:
        document: row of the document.
        token_ids: int32 [length], opening special tokens included.
        opening: number of leading tokens that are run but not recorded, because they are special tokens or were
            recorded in the previous window.
        spans: int32 [length - opening, 2], characters (code points) of each recorded token, end exclusive.
        is_cut: whether the document has further tokens, which no window holds.
        roles: uint8 [length - opening], number of each recorded token's role; None if it is no conversation.
        room: largest number of tokens that are generated after the window.
        phases: uint8 [length - opening], index of each recorded token's phase into `PHASES`; None if all are prefill.
        text_length: characters of the document, after which those of the generated tokens follow.
    """

    document: int
    token_ids: NDArray[np.int32]
    opening: int
    spans: NDArray[np.int32]
    is_cut: bool = False
    roles: NDArray[np.uint8] | None = None
    room: int = 0
    phases: NDArray[np.uint8] | None = None
    text_length: int = 0

    @property
    def num_recorded(self) -> int:
        """Number of tokens that the trace records."""
        return len(self.spans)

    @property
    def num_planned(self) -> int:
        """Largest number of tokens that the trace may record of this window once it is traced."""
        return len(self.spans) + self.room


def cut_windows(
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    length: int,
    stride: int | None = None,
    max_tokens: int | None = None,
    first_document: int = 0,
    add_special_tokens: bool = True,
) -> Iterator[Window]:
    """Tokenize texts and cut each into windows of at most `length` tokens.

    Special tokens that the tokenizer adds before a text open every window of it, as the model expects at the
    beginning of a sequence; those that it adds after a text are left out.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer.
        length: largest number of tokens in a window.
        stride: tokens from the first of one window to the first of the next. With a stride shorter than a window,
            windows overlap, and a token is recorded in the first window that contains it: all windows of a document
            but the first record `stride` tokens, each with at least ``length - stride`` tokens of context before it.
            Default: no overlap.
        max_tokens: largest number of tokens of a document, without those that the tokenizer adds; the rest is left out.
            Default: all.
        first_document: row of the first text.
        add_special_tokens: let the tokenizer add its special tokens; a chat template has written them into the text.
    """
    encoded = tokenizer(list(texts), add_special_tokens=add_special_tokens, return_attention_mask=False, verbose=False)
    for row, encoding in enumerate(encoded.encodings):
        # one text after the other: the tuples of a whole batch would keep the garbage collector busy
        token_ids = np.array(encoding.ids, dtype=np.int32)
        spans = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, 2 * len(token_ids)).reshape(-1, 2)
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        added = special & (spans[:, 0] == spans[:, 1])  # not those that the text spells out
        ordinary = np.flatnonzero(~added)
        if not len(ordinary):
            continue
        is_longer = max_tokens is not None and len(ordinary) > max_tokens
        ordinary = ordinary[:max_tokens]
        opening = token_ids[: ordinary[0]]
        room = max(1, length - len(opening))
        step = min(stride or room, room)
        recorded = 0
        for start in range(0, len(ordinary), step):
            kept = ordinary[start : start + room]
            known = recorded - start  # tokens recorded in the previous window
            recorded = start + len(kept)
            yield Window(
                first_document + row,
                np.concatenate([opening, token_ids[kept]]),
                len(opening) + known,
                spans[kept[known:]],
                is_longer and recorded == len(ordinary),
            )
            if recorded == len(ordinary):
                break


def group_windows(
    windows: Iterable[Window], *, first: int, largest: int, written: Sequence[int] = ()
) -> Iterator[list[Window]]:
    """Group a stream of windows into shards: consecutive windows with so many planned tokens at most.

    A shard holds as many tokens as all shards before it, from `first` to `largest`, so that a trace that is killed
    early has lost no more than it kept. This depends on the shards before alone: a resumed trace is cut as one that was
    not interrupted, and one that gets more documents keeps its shards.

    Args:
        windows: in reading order.
        first: tokens of the first shard.
        largest: tokens of the largest shard.
        written: numbers of planned tokens of the shards that are written, which are cut as they were.
    """
    group: list[Window] = []
    number = count = before = 0
    for window in windows:
        limit = written[number] if number < len(written) else min(largest, max(first, before))
        if group and count + window.num_planned > limit:
            yield group
            number, before = number + 1, before + count
            group, count = [], 0
        group.append(window)
        count += window.num_planned
    if group:
        yield group


def plan_batches(windows: Sequence[Window], *, tokens: int) -> list[list[int]]:
    """Group windows of similar length into batches.

    A batch has at least one window. The plan depends on the lengths alone, so that a resumed run makes the same
    batches and, as sums in low precision depend on them, the same routing.

    Args:
        windows: the windows of a shard.
        tokens: largest padded size of a batch.

    Returns:
        Indices of the windows in each batch.
    """
    return batch_lengths([len(window.token_ids) + window.room for window in windows], tokens=tokens)


def batch_lengths(lengths: ArrayLike, *, tokens: int) -> list[list[int]]:
    """Group windows into batches by their lengths alone, as `plan_batches` does.

    Args:
        lengths: of the windows, in tokens, integers [windows].
        tokens: largest padded size of a batch.
    """
    lengths = np.asarray(lengths)
    batches: list[list[int]] = []
    longest = 0
    for index in np.argsort(-lengths, kind="stable"):
        if not batches or (len(batches[-1]) + 1) * longest > tokens:
            batches.append([])
            longest = int(lengths[index])
        batches[-1].append(int(index))
    return batches
