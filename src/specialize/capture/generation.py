"""Routing during generation: the calls of ``generate`` assembled into the sequences it returned."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specialize.capture.calls import Call, Rows, kept_positions
from specialize.errors import CaptureError

_NOT_THE_SEQUENCES = (
    "expected the model to have read the sequences that generate returned, row by row, got other tokens; beam search "
    "and assisted decoding are not supported: generate with num_beams=1, greedily or by sampling, and take the routing "
    "after each call of generate"
)


def follow_generation(
    calls: Sequence[Call], sequences: Tensor, settings: Any, *, pad_token_id: int | None
) -> dict[str, Rows]:
    """Find every token of the returned sequences among the recorded rows.

    Args:
        calls: the calls of one ``generate``: the prompt, in one piece or several, then token by token; or, without
            a cache, the whole sequence at every step.
        sequences: int64 [sequences, length], the output of ``generate``.
        settings: the model's generation settings, with its padding and end tokens.
        pad_token_id: padding, if the settings do not state it.

    Returns:
        Rows of the decoder, and of the encoder if there is one.

    Raises:
        CaptureError: the tokens of the calls are not those of the sequences.
    """
    if any(call.reordered for call in calls):
        raise CaptureError(_NOT_THE_SEQUENCES)
    found = {}
    encoded = kept_positions([call for call in calls if "encoder" in call.inputs], "encoder", keep_padding=False)
    if encoded is not None:
        prompt = np.zeros(len(encoded.rows), bool)
        found["encoder"] = Rows(encoded.total, encoded.rows, encoded.sequence, encoded.position, prompt)
    reads = [call.inputs["decoder"] for call in calls if "decoder" in call.inputs]
    if not reads or len({len(read.token_ids) for read in reads}) != 1 or len(reads[0].token_ids) != len(sequences):
        raise CaptureError(_NOT_THE_SEQUENCES)
    lengths = [read.token_ids.shape[1] for read in reads]
    starts = np.cumsum([0, *(len(sequences) * length for length in lengths)])
    prompt_length = _prompt_length(lengths)
    if len(reads) > 1 and all(after == before + 1 for before, after in pairwise(lengths)):
        reads, lengths, offsets = reads[-1:], lengths[-1:], starts[-2:-1]  # no cache: the last call read everything
    else:
        offsets = starts[:-1]
    fed = torch.cat([read.token_ids.to(sequences.device) for read in reads], dim=1)
    if fed.shape[1] != sequences.shape[1] - 1 or not torch.equal(fed, sequences[:, :-1]):
        raise CaptureError(_NOT_THE_SEQUENCES)
    masks = [torch.ones_like(read.token_ids) if read.mask is None else read.mask for read in reads]
    keep = torch.cat([mask.bool().cpu() for mask in masks], dim=1).numpy()
    keep &= ~_after_the_end(fed.cpu().numpy(), prompt_length, settings, pad_token_id)
    # the recorded row of each token [row, column]: one call after the other, each of them row-major
    where = np.concatenate(
        [
            offset + np.arange(len(fed))[:, None] * length + np.arange(length)[None, :]
            for offset, length in zip(offsets, lengths, strict=True)
        ],
        axis=1,
    )
    sequence, column = np.nonzero(keep)
    position = (keep.cumsum(axis=1) - 1)[sequence, column]
    found["decoder"] = Rows(int(starts[-1]), where[sequence, column], sequence, position, column >= prompt_length)
    return found


def _prompt_length(lengths: Sequence[int]) -> int:
    """Return the length of the prompt: of the first call, or of the pieces in which a long prompt is read."""
    pieces = 1
    while pieces < len(lengths) and lengths[pieces] == lengths[0] > 1:
        pieces += 1
    if pieces > 1 and pieces < len(lengths) and 1 < lengths[pieces] < lengths[0]:
        pieces += 1  # the rest of the prompt
    return sum(lengths[:pieces])


def _after_the_end(
    fed: NDArray[np.int64], prompt_length: int, settings: Any, pad_token_id: int | None
) -> NDArray[np.bool_]:
    """Return which tokens pad a sequence that finished before the others, bool [sequences, length]."""
    ends = getattr(settings, "eos_token_id", None)
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    pad = pad_token_id if pad_token_id is not None else getattr(settings, "pad_token_id", None)
    if pad is None:
        pad = ends[0] if ends else None
    filling = np.zeros(fed.shape, bool)
    if pad is None:
        return filling
    generated = fed[:, prompt_length:]
    tail = np.flip(np.logical_and.accumulate(np.flip(generated == pad, axis=1), axis=1), axis=1)
    if pad in ends:  # the first of them is the end token itself
        tail[:, 1:] &= tail[:, :-1].copy()
        tail[:, :1] = False
    filling[:, prompt_length:] = tail
    return filling
