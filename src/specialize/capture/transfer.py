"""Copies recorded columns from the devices of a model to arrays of a shard, in parallel with the model."""

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
    """Copies in progress: a host tensor for each router and column, and the events after which they are complete."""

    columns: list[dict[str, Tensor]]
    events: list[torch.cuda.Event]
    deliver: Deliver
    held: list[Tensor]  # the sources, which must stay alive until then


class Transfer:
    """Copies recorded columns to the host, one batch behind the model.

    On a GPU the kept rows are gathered on the device and copied to pinned memory on a separate stream, while the next
    batch runs; the host waits for a copy only when the next one has been started. On a CPU there is nothing to wait
    for.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def send(self, recorded: Sequence[Columns], kept: Sequence[Tensor], deliver: Deliver) -> None:
        """Start copying the kept rows of each router's columns to the host.

        Args:
            recorded: the columns of each router, [tokens, width], on any device.
            kept: the rows to keep of each router, int64 [kept tokens] on the host.
            deliver: called with NumPy arrays of the kept rows when they have arrived: experts int16, predictions in
                their own type, everything else float16.
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
        """Wait for the copies in progress and deliver them."""
        pending, self._pending = self._pending, None
        _finish(pending)

    def drop(self) -> None:
        """Drop the copies in progress."""
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
