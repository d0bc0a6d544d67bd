"""From the devices on which a model runs to arrays of a shard, without holding the model up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

Columns = Mapping[str, Tensor]
Deliver = Callable[[list[dict[str, NDArray[Any]]]], None]


@dataclass
class _Pending:
    """Copies under way: for each router and column a host tensor, and the events after which they are whole."""

    columns: list[dict[str, Tensor]]
    events: list[torch.cuda.Event]
    deliver: Deliver
    held: list[Tensor]  # what is being copied from must live until then


class Transfer:
    """Brings recorded columns to the host, one batch behind the model.

    On a GPU the kept rows are gathered there and copied into pinned memory on a stream of their own: the next batch
    runs meanwhile, and the host waits for a copy only when the next but one is on its way. On a CPU there is nothing
    to wait for.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def send(self, recorded: Sequence[Columns], kept: Sequence[Tensor], deliver: Deliver) -> None:
        """Send the kept rows of each router's columns to the host.

        Args:
            recorded: for each router its columns, [tokens, width], on any device.
            kept: for each router the rows to keep, int64 on the host.
            deliver: called with NumPy arrays of the kept rows once they are there: experts int16, everything else
                float16 but predictions, which keep their type.
        """
        pending = _Pending([], [], deliver, [])
        for columns, rows in zip(recorded, kept, strict=True):
            pending.columns.append({name: self._copy(values, rows, pending) for name, values in columns.items()})
        for stream in self._streams.values():
            event = torch.cuda.Event()
            event.record(stream)
            pending.events.append(event)
        before, self._pending = self._pending, pending
        _finish(before)
        if not pending.events:
            self.flush()

    def flush(self) -> None:
        """Wait for what is under way and deliver it."""
        pending, self._pending = self._pending, None
        _finish(pending)

    def drop(self) -> None:
        """Forget what is under way."""
        self._pending = None

    def _copy(self, values: Tensor, rows: Tensor, pending: _Pending) -> Tensor:
        gathered = values[rows.to(values.device, non_blocking=True)]
        if gathered.dtype in (torch.bfloat16, torch.float32) and gathered.dim() == 2:
            gathered = gathered.half()
        if gathered.device.type != "cuda":
            return gathered.cpu()
        stream = self._streams.setdefault(gathered.device, torch.cuda.Stream(gathered.device))
        stream.wait_stream(torch.cuda.current_stream(gathered.device))
        host = torch.empty(gathered.shape, dtype=gathered.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(gathered, non_blocking=True)
        pending.held.append(gathered)
        return host


def _finish(pending: _Pending | None) -> None:
    if pending is None:
        return
    for event in pending.events:
        event.synchronize()
    pending.deliver([{name: values.numpy() for name, values in columns.items()} for columns in pending.columns])
