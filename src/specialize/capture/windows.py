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
        opening: how many leading tokens are special; they are run but not recorded.
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
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, length: int, first_document: int = 0
) -> Iterator[Window]:
    """Tokenize texts and cut each into windows of at most `length` tokens that do not overlap.

    Special tokens that the tokenizer puts before a text open every window of it, as the model expects of a
    sequence's beginning; those that it puts after a text are left out.
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
        for start in range(0, len(ordinary), room):
            kept = ordinary[start : start + room]
            yield Window(first_document + row, np.concatenate([opening, token_ids[kept]]), len(opening), spans[kept])


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
