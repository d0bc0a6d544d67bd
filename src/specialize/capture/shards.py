"""The shards of a trace, one after the other: traced, written in the background, and counted."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from specialize.capture.batches import ShardTracer, is_out_of_memory
from specialize.capture.windows import Window, plan_batches
from specialize.errors import CaptureError, TraceError
from specialize.events import Reporter, Update
from specialize.trace import Shard, TraceWriter

REDUCED_FROM = "reduced_from"  # in the manifest, of a shard: the batch size for which memory did not suffice


def trace_shards(
    tracer: ShardTracer,
    groups: Iterator[list[Window]],
    writer: TraceWriter,
    clock: "TraceClock",
    *,
    damaged: Collection[int | None] = (),
) -> None:
    """Trace the shards that are missing or damaged.

    Missing ones are traced in batches of the size that is asked for now, or in smaller ones if memory ran out with that
    size before; damaged ones in batches of the size that they were traced in.

    Args:
        tracer: runs the windows of a shard.
        groups: the windows of each shard, in order.
        writer: of the run folder.
        clock: counts what is done.
        damaged: numbers of written shards that are traced again.

    Raises:
        CaptureError: memory does not suffice for one window, or the model's code raises an exception.
        TraceError: the tokens of a written shard are others now.
        OutputError: the disk is full, or the folder cannot be written.
    """
    written = list(writer.manifest["shards"])
    asked = clock.batch_tokens
    last = written[-1] if written else {}
    size = (last.get("batch_tokens") or asked) if last.get(REDUCED_FROM) == asked else asked
    sequence = found = 0
    with _BackgroundWriter(writer) as background:
        for number, windows in enumerate(groups):
            found = number + 1
            before = written[number] if number < len(written) else None
            if before is not None:
                _check_tokens(writer.run, number, windows, before["tokens"])
            if before is None:
                clock.batch_tokens = size
                shard = _trace_shard(tracer, windows, sequence, clock)
                size = clock.batch_tokens
                background.write(_with_facts(shard, {REDUCED_FROM: asked} if size < asked else {}), None)
            elif number in damaged:
                clock.batch_tokens = before.get("batch_tokens") or asked
                shard = _trace_shard(tracer, windows, sequence, clock)
                kept = {key: value for key, value in before.items() if key == REDUCED_FROM}
                background.write(_with_facts(shard, kept), number)
            else:
                clock.count(0, windows[-1].document + 1)
            sequence += len(windows)
    if found < len(written):
        _check_tokens(writer.run, found, [], written[found]["tokens"])


def _with_facts(shard: Shard, facts: Mapping[str, Any]) -> Shard:
    return replace(shard, facts={**shard.facts, **facts})


def _check_tokens(run: Path, number: int, windows: Sequence[Window], expected: int) -> None:
    found = sum(window.num_recorded for window in windows)
    if found != expected:
        raise TraceError(
            f"{run}: expected {expected:,} tokens in shard {number}, as when it was traced, got {found:,}: the text is "
            "tokenized in another way now; use the earlier version of the tokenizer, or choose another folder"
        )


def _trace_shard(tracer: ShardTracer, windows: list[Window], sequence: int, clock: "TraceClock") -> Shard:
    """Trace one shard, in smaller and smaller batches for as long as memory runs out.

    All batches of a shard have the same size, which is stored with it: near-ties between experts may be resolved
    differently in another batch, and a shard that is traced again must be the same.
    """
    while True:
        clock.begin(windows)
        try:
            return tracer.trace(
                windows, first_sequence=sequence, batch_tokens=clock.batch_tokens, on_batch=clock.count_windows
            )
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
            longest = max(len(window.token_ids) for window in windows)
            if max(map(len, plan_batches(windows, tokens=clock.batch_tokens))) == 1:
                raise CaptureError(
                    f"out of memory with a single window of {longest} tokens; use a shorter context, or load the model "
                    "in bfloat16 or spread over several devices (device map auto)"
                ) from error
            smaller = max(1, min(clock.batch_tokens, sum(len(window.token_ids) for window in windows)) // 2)
            clock.shrink_batches(smaller)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _BackgroundWriter:
    """Writes shards in a separate thread, one at a time, so that the model runs while a shard is compressed."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trace-writer")
        self._last: Future[None] | None = None

    def __enter__(self) -> "_BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()

    def write(self, shard: Shard, number: int | None) -> None:
        """Hand over a shard once the one before is written: at most two are in memory."""
        self._wait()
        self._last = self._thread.submit(self._writer.write_shard, shard, number=number)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


class TraceClock:
    """Counts what is done and reports it.

    Args:
        documents: number of documents in the corpus.
        batch_tokens: padded tokens per forward pass.
        update: shows the progress.
        reporter: receives a message when batches become smaller.

    Attributes:
        batch_tokens: padded tokens per forward pass, fewer than at first if memory ran out.
    """

    def __init__(self, documents: int, batch_tokens: int, update: Update, reporter: Reporter) -> None:
        self.batch_tokens = batch_tokens
        self._documents = documents
        self._update = update
        self._reporter = reporter
        self._tokens = 0
        self._started = time.perf_counter()

    def begin(self, windows: Sequence[Window]) -> None:
        """Start counting a shard, or start again."""
        self._windows, self._finished = windows, 0

    def count_windows(self, tokens: int, windows: int) -> None:
        """Add tokens and windows of the current shard."""
        self._finished += windows
        first, end = self._windows[0].document, self._windows[-1].document + 1
        self.count(tokens, first + round(self._finished / len(self._windows) * (end - first)))

    def count(self, tokens: int, documents_done: int) -> None:
        """Add tokens, and set the number of documents done."""
        self._tokens += tokens
        rate = self._tokens / max(time.perf_counter() - self._started, 1e-9)
        self._update(documents_done, self._documents, rate=f"{rate:,.0f} tokens/s")

    def shrink_batches(self, tokens: int) -> None:
        """Continue with batches of fewer padded tokens."""
        self.batch_tokens = tokens
        self._reporter.say(f"out of memory: continuing with batches of {tokens:,} tokens")
