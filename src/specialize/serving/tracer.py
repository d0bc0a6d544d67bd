"""Asks a server for the routing of windows, many at once, and returns shards in reading order."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError, TraceError
from specialize.serving.apis import Answer, Api, MissingExpertsError
from specialize.serving.client import Client
from specialize.serving.layout import Layout
from specialize.serving.queue import Answered, RequestQueue, ShardRequests
from specialize.trace import Shard
from specialize.trace.imports.plausibility import Plausibility
from specialize.trace.imports.source import ModelFacts
from specialize.trace.token_text import TokenDecoder
from specialize.tracing.chat import ASSISTANT
from specialize.tracing.continuation import continue_window
from specialize.tracing.shards import TraceClock, token_columns
from specialize.tracing.windows import Window

FEWEST_PROBED = 32  # tokens; fewer could all have one expert by chance
_BYTES_OF_AN_ID = 24  # in an answer, several times what the longest form takes
_BYTES_AROUND = 2**20
_FIRST = "the first request"


class ServerTracer:
    """Asks a server for the routing of windows.

    Args:
        client: entered.
        api: of the server.
        model: what its configuration says.
        served: name under which the server has it.
        decoder: of the model's tokenizer.
    """

    def __init__(
        self, client: Client, api: Api, model: ModelFacts, *, served: str | None, decoder: TokenDecoder
    ) -> None:
        self._client = client
        self._api = api
        self._model = model
        self._served = served
        self._decoder = decoder
        self._layout: Layout | None = None
        self._plausibility = Plausibility(client.address, num_experts=model.num_experts)
        self._has_seen = False
        self._queue = RequestQueue(self._experts_of, concurrency=client.concurrency)

    def probe(self, token_ids: NDArray[np.int32], longest: int) -> list[str]:
        """Ask before anything is written, and return what was assumed of the answers, one line each.

        The request is sent twice: some servers leave out the experts of tokens that they take from a cache.

        Args:
            token_ids: int32 [length] of a window; a short one is sent several times over, in one sequence.
            longest: number of tokens that a sequence may have.

        Raises:
            CaptureError: the server returns no experts, or something else in their place.
        """
        ids = np.tile(token_ids, -(-FEWEST_PROBED // len(token_ids)))[:longest]
        for where in (_FIRST, f"{_FIRST}, sent again"):
            experts = self._client.run(self._ask(ids, where, is_first=where == _FIRST)).experts
            try:
                layout = Layout(self._model, experts.shape[1])
                layout.take(
                    experts, 0, len(ids), where=lambda row: f"token {row}", without_cache=self._api.without_cache
                )
            except CaptureError as error:
                raise CaptureError(f"{self._client.address}, {where}: {error}") from None
        layout.note_dense(experts)
        self._layout = layout
        return layout.notes

    def begin(
        self,
        windows: Sequence[Window],
        *,
        first_sequence: int,
        clock: TraceClock,
        before: Mapping[str, Any] | None = None,
    ) -> Callable[[], Shard]:
        """Ask for the windows of one shard, see `specialize.tracing.shards.WindowTracer`.

        The returned function raises CaptureError if a request failed after several attempts, or an answer cannot be
        the routing of its window.
        """
        shard = ShardRequests(windows)
        planned = sum(window.num_planned for window in windows)
        facts = {"planned_tokens": planned} if any(window.room for window in windows) else {}
        self._client.run(self._queue.add(shard))
        return partial(self._finish, shard, first_sequence, clock, facts)

    def _finish(self, shard: ShardRequests, first_sequence: int, clock: TraceClock, facts: Mapping[str, Any]) -> Shard:
        def count() -> None:
            done = [shard.finished.popleft() for _ in range(len(shard.finished))]
            if done:
                clock.count_windows(sum(shard.windows[index].num_recorded for index in done), len(done))

        self._client.wait(shard.result, meanwhile=count)
        routing = list(np.concatenate(shard.experts, axis=1))
        self._look_at(routing)
        counts = np.array([window.num_recorded for window in shard.windows])
        tokens = token_columns(shard.windows, counts, first_sequence)
        return Shard(tokens, [{"experts": column} for column in routing], facts)

    def findings(self) -> list[str]:
        """Return what a user should know about the answers of all shards, one line each."""
        found = list(self._plausibility.judge()) if self._has_seen else []
        if self._client.sent_again:
            found.append(
                f"{self._client.address}: requests that were sent again: {self._client.sent_again:,}, the last time "
                f"after {self._client.last_reason}"
            )
        return found

    async def _experts_of(self, window: Window) -> Answered:
        if self._layout is None:
            raise RuntimeError("expected the first request before a shard")
        where = f"document {window.document} (numbered from 0)"
        answer = await self._ask(window.token_ids, where, generate=max(window.room, 1))
        if window.room:
            if not 0 < len(answer.generated) <= window.room:
                raise CaptureError(
                    f"{self._client.address}, {where}: expected the ids of 1 to {window.room:,} generated tokens, got "
                    f"{len(answer.generated):,}"
                )
            window = continue_window(window, answer.generated[:-1], self._decoder, role=ASSISTANT)
        try:
            return window, self._layout.take(
                answer.experts,
                window.opening,
                len(window.token_ids),
                where=lambda row: f"position {row}",
                without_cache=self._api.without_cache,
            )
        except CaptureError as error:
            raise CaptureError(f"{self._client.address}, {where}: {error}") from None

    async def _ask(
        self, token_ids: NDArray[np.int32], where: str, *, generate: int = 1, is_first: bool = False
    ) -> Answer:
        """Return what the server answers for a sequence, and at most so many tokens after it."""
        ids, request_id, place = token_ids.tolist(), uuid4().hex, f"{self._client.address}, {where}"

        def read(answer: Any) -> Answer:
            try:
                return self._api.read(answer, ids, request_id, top_k=self._model.top_k or 0, where=place)
            except MissingExpertsError:
                if not is_first:
                    raise
                raise CaptureError(
                    f"{self._client.address}: expected the experts of each token, the server returns none; start it as "
                    f"{self._api.to_start}"
                ) from None
            except TraceError as error:
                raise CaptureError(str(error)) from None

        body = self._api.body(ids, request_id, self._served, generate=generate)
        values = (len(ids) + generate) * self._model.num_layers * (self._model.top_k or 0)
        return await self._client.ask(self._api.path, body, read=read, largest=_BYTES_AROUND + values * _BYTES_OF_AN_ID)

    def _look_at(self, routing: Sequence[NDArray[np.int16]]) -> None:
        self._has_seen = self._has_seen or any(column.any() for column in routing)
        self._plausibility.see(dict(zip(self._model.moe_layers, routing, strict=True)))
