"""Shards traced in batches that memory holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from specialize.capture.batches import ShardTracer, is_out_of_memory
from specialize.capture.continuing import ContinuationTracer
from specialize.errors import CaptureError
from specialize.events import Reporter
from specialize.trace import Shard
from specialize.tracing.shards import TraceClock
from specialize.tracing.windows import Window, plan_batches

REDUCED_FROM = "reduced_from"  # in the manifest, of a shard: the batch size for which memory did not suffice


class HalvingTracer:
    """Traces shards in smaller and smaller batches for as long as memory runs out.

    Missing shards are traced in batches of the size that is asked for now, or in smaller ones if memory ran out with
    that size before; damaged ones in batches of the size that they were traced in.

    Args:
        tracer: runs the windows of a shard.
        batch_tokens: padded tokens per forward pass that are asked for.
        written: the manifest's entries of the shards that are written.
        reporter: receives a message when batches become smaller.
    """

    def __init__(
        self,
        tracer: ShardTracer | ContinuationTracer,
        batch_tokens: int,
        written: Sequence[Mapping[str, Any]],
        reporter: Reporter,
    ) -> None:
        self._tracer = tracer
        self._asked = batch_tokens
        last = written[-1] if written else {}
        reduced = last.get(REDUCED_FROM) == batch_tokens
        self._size: int = (last.get("batch_tokens") or batch_tokens) if reduced else batch_tokens
        self._reporter = reporter

    def begin(
        self,
        windows: Sequence[Window],
        *,
        first_sequence: int,
        clock: TraceClock,
        before: Mapping[str, Any] | None = None,
    ) -> Callable[[], Shard]:
        """Return a function that traces the windows of one shard, see `specialize.tracing.shards.WindowTracer`.

        All batches of a shard have the same size, which is stored with it: near-ties between experts may be resolved
        differently in another batch, and a shard that is traced again must be the same. The function raises
        CaptureError if memory does not suffice for one window, or the model's code raises an exception.
        """
        return partial(self._trace_shard, windows, first_sequence, clock, before)

    def _trace_shard(
        self, windows: Sequence[Window], first_sequence: int, clock: TraceClock, before: Mapping[str, Any] | None
    ) -> Shard:
        if before is None:
            shard = self._trace(windows, first_sequence, clock, self._size)
            self._size = shard.facts["batch_tokens"]
            facts = {REDUCED_FROM: self._asked} if self._size < self._asked else {}
        else:
            shard = self._trace(windows, first_sequence, clock, before.get("batch_tokens") or self._asked)
            facts = {key: value for key, value in before.items() if key == REDUCED_FROM}
        return replace(shard, facts={**shard.facts, **facts})

    def _trace(self, windows: Sequence[Window], first_sequence: int, clock: TraceClock, size: int) -> Shard:
        while True:
            try:
                return self._tracer.trace(
                    windows, first_sequence=first_sequence, batch_tokens=size, on_batch=clock.count_windows
                )
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not is_out_of_memory(error):
                    raise
                longest = max(len(window.token_ids) for window in windows)
                if max(map(len, plan_batches(windows, tokens=size))) == 1:
                    raise CaptureError(
                        f"out of memory with a single window of {longest} tokens; use a shorter context, or load the "
                        "model in bfloat16 or spread over several devices (device map auto)"
                    ) from error
                size = max(1, min(size, sum(len(window.token_ids) for window in windows)) // 2)
                self._reporter.say(f"out of memory: continuing with batches of {size:,} tokens")
                clock.begin(windows)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
