"""Calls of a model: the tokens that each of them read, by which padding is recognised."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from specialize.capture.verification import encoder_of


@dataclass(frozen=True)
class StackInput:
    """The input of one side of a model in one call.

    Attributes:
        token_ids: int64 [batch, length].
        mask: bool [batch, length], True for tokens, False for padding; None if there is no padding.
    """

    token_ids: Tensor
    mask: Tensor | None


@dataclass
class Call:
    """One call of the model.

    Attributes:
        inputs: the input of each stack (encoder, decoder); a stack without token ids is missing.
        reordered: whether rows have moved since the previous call, as in beam search.
        cached: whether the call was given a key-value cache, as in generation.
        masked_otherwise: whether its attention mask is not of the form [batch, length].
    """

    inputs: dict[str, StackInput] = field(default_factory=dict)
    reordered: bool = False
    cached: bool = False
    masked_otherwise: bool = False

    def mask(self, stack: str) -> Tensor | None:
        """Return which tokens of a stack are not padding, bool [batch, length]; None if it read no token ids."""
        read = self.inputs.get(stack)
        if read is None:
            return None
        return torch.ones_like(read.token_ids, dtype=torch.bool) if read.mask is None else read.mask


@dataclass(frozen=True)
class Rows:
    """A selection of the recorded rows.

    Attributes:
        total: number of rows recorded.
        rows: int64 [tokens], the selected rows in reading order.
        sequence, position: int64 [tokens].
        generated: bool [tokens]; None if nothing was generated.
    """

    total: int
    rows: NDArray[np.int64]
    sequence: NDArray[np.int64]
    position: NDArray[np.int64]
    generated: NDArray[np.bool_] | None = None


class CallWatcher:
    """Notes the calls of a model, of its backbone or of its encoder, whichever is called from outside.

    Attributes:
        seen: the calls since the last `clear`.
        current: the call in progress.
        on_end: called at the end of each call with it and whether it succeeded.
        paused: whether calls are disregarded, as during a verification pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: list[Call] = []
        self.current: Call | None = None
        self.on_end: Callable[[Call, bool], None] | None = None
        self.paused = False
        self._outermost: nn.Module | None = None
        self._caches: set[int] = set()
        self._reordered = False

    def start(self) -> list[RemovableHandle]:
        """Attach the hooks and return them."""
        _STARTED.add(self)
        handles = []
        for module in _callable_parts(self.model):
            handles.append(module.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(self._end, always_call=True))
        return handles

    def clear(self) -> None:
        """Drop the calls noted so far."""
        self.seen = []
        self._reordered = False

    def _begin(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self.paused or self._outermost is not None:
            return
        self._outermost = module
        cache, mask = keywords.get("past_key_values"), keywords.get("attention_mask")
        self.current = Call(
            _read_inputs(module, self.model, arguments, keywords),
            reordered=self._reordered,
            cached=cache is not None,
            masked_otherwise=mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2),
        )
        self._reordered = False
        self.seen.append(self.current)
        self._watch_cache(cache)

    def _end(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if module is not self._outermost:
            return
        call, self._outermost, self.current = self.current, None, None
        if self.on_end is not None and call is not None:
            self.on_end(call, output is not None)  # this hook also runs, without an output, if the call fails

    def _watch_cache(self, cache: Any) -> None:
        """Note the moves of beam search, which only the cache is informed of."""
        reorder = getattr(cache, "reorder_cache", None)
        if reorder is None or "reorder_cache" in vars(cache):
            return

        def noting(*arguments: Any, **keywords: Any) -> Any:
            self._reordered = True
            return reorder(*arguments, **keywords)

        cache.reorder_cache = noting


_STARTED: WeakSet[CallWatcher] = WeakSet()


@contextmanager
def unseen(model: nn.Module) -> Iterator[None]:
    """Hide the calls of a model, and of its parts, from the recorders that are attached to them."""
    modules = set(model.modules())
    watchers = [each for each in list(_STARTED) if not each.paused and not modules.isdisjoint(each.model.modules())]
    for watcher in watchers:
        watcher.paused = True
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.paused = False


def _callable_parts(model: nn.Module) -> list[nn.Module]:
    parts = [model]
    backbone = getattr(model, getattr(model, "base_model_prefix", "") or "", None)
    encoder = encoder_of(model)
    for part in (backbone, encoder):
        if isinstance(part, nn.Module) and all(part is not other for other in parts):
            parts.append(part)
    return parts


def _read_inputs(
    module: nn.Module, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, StackInput]:
    ids = keywords.get("input_ids", arguments[0] if arguments else None)
    first = (ids, keywords.get("attention_mask"))
    if encoder_of(model) is None:
        sides = {"decoder": first}
    elif keywords.get("encoder_outputs") is not None:
        sides = {"decoder": (keywords.get("decoder_input_ids"), keywords.get("decoder_attention_mask"))}
    else:
        sides = {
            "encoder": first,
            "decoder": (keywords.get("decoder_input_ids"), keywords.get("decoder_attention_mask")),
        }
    read = {}
    for stack, (token_ids, mask) in sides.items():
        if isinstance(token_ids, Tensor) and token_ids.dim() == 2 and not token_ids.is_floating_point():
            read[stack] = StackInput(token_ids, _last_columns(mask, token_ids.shape[1]))
    return read


def _last_columns(mask: Any, length: int) -> Tensor | None:
    """Return the part of a mask that belongs to this call: with a cache it covers earlier calls, too."""
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < length:
        return None
    return mask[:, mask.shape[1] - length :].bool()


def kept_positions(calls: Sequence[Call], stack: str, *, keep_padding: bool) -> Rows | None:
    """Return the rows of the tokens that the attention mask keeps; None if a call had no token ids."""
    reads = [call.inputs[stack] for call in calls if stack in call.inputs]
    if not reads or any(not call.inputs for call in calls):
        return None
    rows, sequences, positions, total, sequence = [], [], [], 0, 0
    for read in reads:
        batch, length = read.token_ids.shape
        keep = np.ones((batch, length), bool)
        if read.mask is not None and not keep_padding:
            keep = read.mask.cpu().numpy()
        row, position = np.nonzero(keep)
        rows.append(total + row * length + position)
        sequences.append(sequence + row)
        positions.append(position)
        total += batch * length
        sequence += batch
    return Rows(total, np.concatenate(rows), np.concatenate(sequences), np.concatenate(positions))
