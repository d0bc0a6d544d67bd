"""Documents into sequences that fit the model, and sequences into batches with little padding."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """One sequence for the model: a piece of a document, after the tokenizer's opening special tokens.

    Attributes:
        document: row of the document.
        token_ids: int32 [length], opening special tokens included.
        opening: how many leading tokens are run but not recorded: they are special, or the window before recorded
            them.
        spans: int32 [length - opening, 2] characters (code points) of each recorded token.
    """

    document: int
    token_ids: NDArray[np.int32]
    opening: int
    spans: NDArray[np.int32]

    @property
    def num_recorded(self) -> int:
        """Number of tokens that the trace records."""
        return len(self.spans)


def cut_windows(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    stride: int | None = None,
    first_document: int = 0,
) -> Iterator[Window]:
    """Tokenize texts and cut each into windows of at most `length` tokens.

    Special tokens that the tokenizer puts before a text open every window of it, as the model expects of a
    sequence's beginning; those that it puts after a text are left out.

    Args:
        texts: the documents.
        tokenizer: the model's.
        length: tokens of a window at most.
        stride: tokens from one window's first to the next one's. Where it is shorter than a window, windows overlap:
            a token is recorded in the first window that holds it, so that all but the first of a document's windows
            record `stride` tokens, each of them after at least ``length - stride`` others. Default: no overlap.
        first_document: row of the first text.
    """
    encoded = tokenizer(
        list(texts),
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        verbose=False,
    )
    for row, (ids, offsets, special) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    ):
        token_ids = np.array(ids, dtype=np.int32)
        spans = np.array(offsets, dtype=np.int32).reshape(-1, 2)
        added = np.array(special, dtype=bool) & (spans[:, 0] == spans[:, 1])  # not one that the text spells out
        ordinary = np.flatnonzero(~added)
        if not len(ordinary):
            continue
        opening = token_ids[: ordinary[0]]
        room = max(1, length - len(opening))
        step = min(stride or room, room)
        recorded = 0
        for start in range(0, len(ordinary), step):
            kept = ordinary[start : start + room]
            known = recorded - start  # tokens that the window before recorded
            recorded = start + len(kept)
            yield Window(
                first_document + row,
                np.concatenate([opening, token_ids[kept]]),
                len(opening) + known,
                spans[kept[known:]],
            )
            if recorded == len(ordinary):
                break


def group_windows(windows: Iterable[Window], *, tokens: int) -> Iterator[list[Window]]:
    """Cut a stream of windows into consecutive groups of about `tokens` recorded tokens: the shards."""
    group: list[Window] = []
    count = 0
    for window in windows:
        if group and count + window.num_recorded > tokens:
            yield group
            group, count = [], 0
        group.append(window)
        count += window.num_recorded
    if group:
        yield group


def plan_batches(windows: Sequence[Window], *, tokens: int) -> list[list[int]]:
    """Batch windows of like length: indices of each batch, whose padded size is at most `tokens`.

    A batch holds at least one window. The plan depends on the lengths alone, so that a run that is resumed
    makes the same batches and, low-precision sums included, the same routing.
    """
    lengths = np.array([len(window.token_ids) for window in windows])
    batches: list[list[int]] = []
    longest = 0
    for index in np.argsort(-lengths, kind="stable"):
        if not batches or (len(batches[-1]) + 1) * longest > tokens:
            batches.append([])
            longest = int(lengths[index])
        batches[-1].append(int(index))
    return batches
