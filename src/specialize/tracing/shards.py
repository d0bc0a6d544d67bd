"""The shards of a trace, one after the other: traced, written in the background, and counted."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.events import Update
from specialize.trace import Shard, TraceWriter
from specialize.tracing.division import PlannedShard, ShardPlan
from specialize.tracing.windows import Window


class WindowTracer(Protocol):
    """Whatever finds the routing of windows: a model, or a client of a server."""

    def begin(
        self,
        windows: Sequence[Window],
        *,
        first_sequence: int,
        clock: "TraceClock",
        before: Mapping[str, Any] | None = None,
    ) -> Callable[[], Shard]:
        """Begin to trace the windows of one shard, while the one before may be under way.

        Args:
            windows: in reading order.
            first_sequence: running number of the first window.
            clock: counts the windows that are finished, from the call of the returned function on.
            before: the manifest's entry of this shard if it was written before and is damaged now.

        Returns:
            A function, called once and in the order of the shards, that returns the shard when it is finished.
        """
        ...


def trace_shards(
    tracer: WindowTracer,
    plan: ShardPlan,
    writer: TraceWriter,
    clock: "TraceClock",
    *,
    damaged: Collection[int | None] = (),
) -> None:
    """Trace the shards that are missing or damaged, each begun before the one before it is waited for.

    Args:
        tracer: finds the routing of a shard's windows.
        plan: the shards to trace, in order.
        writer: of the run folder.
        clock: counts what is done.
        damaged: numbers of written shards that are traced again.

    Raises:
        CaptureError: raised by the tracer.
        TraceError: the tokens of a written shard are others now.
        OutputError: the disk is full, or the folder cannot be written.
    """
    written = list(writer.manifest["shards"])
    found = 0
    with _BackgroundWriter(writer) as background:
        finish: Callable[[], None] = _do_nothing
        for number, shard in enumerate(plan):
            found = number + 1
            before = written[number] if number < len(written) else None
            if before is not None:
                _check_tokens(writer.run, number, before, shard)
            if before is None or number in damaged:
                wait = tracer.begin(shard.windows, first_sequence=shard.first_sequence, clock=clock, before=before)
                facts = {} if plan.part is None else {"number": shard.number}
                place = None if before is None else number
                finish()
                finish = partial(_finish, wait, shard.windows, clock, partial(background.write, facts, place))
            else:
                finish()
                finish = _do_nothing
                clock.count(0, shard.windows[-1].document + 1)
        finish()
    if found < len(written):
        _check_tokens(writer.run, found, written[found], None)


def planned_tokens(shard: Mapping[str, Any]) -> int:
    """Return how many tokens a shard could have, by its entry in the manifest; it has fewer if generation ended."""
    return int(shard.get("planned_tokens") or shard["tokens"])


def _do_nothing() -> None:
    """Finish no shard."""


def _finish(
    wait: Callable[[], Shard], windows: Sequence[Window], clock: "TraceClock", write: Callable[[Shard], None]
) -> None:
    clock.begin(windows)
    write(wait())


def _check_tokens(run: Path, number: int, before: Mapping[str, Any], shard: PlannedShard | None) -> None:
    expected, found = planned_tokens(before), 0 if shard is None else shard.num_planned
    same_place = shard is None or before.get("number", shard.number) == shard.number
    if found != expected or not same_place:
        raise TraceError(
            f"{run}: expected {expected:,} tokens in shard {number}, as when it was traced, got {found:,}: the text is "
            "tokenized in another way now; use the earlier version of the tokenizer, or choose another folder"
        )


def token_columns(
    windows: Sequence[Window], counts: NDArray[np.int64], first_sequence: int
) -> dict[str, NDArray[np.integer]]:
    """Return the token columns of a shard.

    Args:
        windows: in reading order.
        counts: number of recorded tokens of each window.
        first_sequence: running number of the first window.
    """
    spans = np.concatenate([window.spans for window in windows])
    roles = [window.roles for window in windows if window.roles is not None]
    phases = [np.zeros(window.num_recorded, np.uint8) if window.phases is None else window.phases for window in windows]
    return {
        "document": np.repeat([window.document for window in windows], counts),
        "sequence": np.repeat(first_sequence + np.arange(len(windows)), counts),
        "position": np.concatenate([window.opening + np.arange(window.num_recorded) for window in windows]),
        "token_id": np.concatenate([window.token_ids[window.opening :] for window in windows]),
        "char_start": spans[:, 0],
        "char_end": spans[:, 1],
        "phase": np.concatenate(phases),
        **({"role": np.concatenate(roles)} if roles else {}),
    }


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

    def write(self, facts: Mapping[str, Any], number: int | None, shard: Shard) -> None:
        """Hand over a shard with further facts once the one before is written: at most two are in memory."""
        self._wait()
        shard = replace(shard, facts={**shard.facts, **facts})
        self._last = self._thread.submit(self._writer.write_shard, shard, number=number)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


class TraceClock:
    """Counts what is done and reports it.

    Args:
        documents: number of documents in the corpus.
        update: shows the progress.
    """

    def __init__(self, documents: int, update: Update) -> None:
        self._documents = documents
        self._update = update
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
