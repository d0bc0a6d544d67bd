"""Asks a server for the routing of windows, many at once, and returns shards in reading order."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError, TraceError
from specialize.serving.apis import Api, MissingExpertsError
from specialize.serving.client import Client
from specialize.serving.layout import Layout
from specialize.serving.queue import RequestQueue, ShardRequests
from specialize.trace import Shard
from specialize.trace.imports.plausibility import Plausibility
from specialize.trace.imports.source import ModelFacts
from specialize.tracing.shards import TraceClock, token_columns
from specialize.tracing.windows import Window

FEWEST_PROBED = 32  # tokens; fewer could all have one expert by chance
_BYTES_OF_AN_ID = 24  # in an answer, several times what the longest form takes
_BYTES_AROUND = 2**20


class ServerTracer:
    """Asks a server for the routing of windows.

    Args:
        client: entered.
        api: of the server.
        model: what its configuration says.
        served: name under which the server has it.
    """

    def __init__(self, client: Client, api: Api, model: ModelFacts, served: str | None) -> None:
        self._client = client
        self._api = api
        self._model = model
        self._served = served
        self._layout: Layout | None = None
        self._plausibility = Plausibility(client.address, num_experts=model.num_experts)
        self._has_seen = False
        self._queue = RequestQueue(self._experts_of, concurrency=client.concurrency)

    def probe(self, token_ids: NDArray[np.int32], longest: int) -> list[str]:
        """Ask once, before anything is written, and return what was assumed of the answers, one line each.

        Args:
            token_ids: int32 [length] of a window; a short one is sent several times over, in one sequence.
            longest: number of tokens that a sequence may have.

        Raises:
            CaptureError: the server returns no experts, or something else in their place.
        """
        ids = np.tile(token_ids, -(-FEWEST_PROBED // len(token_ids)))[:longest]
        experts = self._client.run(self._ask(ids, "the first request", is_probe=True))
        try:
            layout = Layout(self._model, experts.shape[1])
            layout.take(experts, 0, len(ids), where=lambda row: f"token {row}", without_cache=self._api.without_cache)
        except CaptureError as error:
            raise CaptureError(f"{self._client.address}: {error}") from None
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
        shard = ShardRequests(windows, num_layers=len(self._model.moe_layers), top_k=self._model.top_k or 0)
        self._client.run(self._queue.add(shard))
        return partial(self._finish, shard, first_sequence, clock)

    def _finish(self, shard: ShardRequests, first_sequence: int, clock: TraceClock) -> Shard:
        def count() -> None:
            done = [shard.finished.popleft() for _ in range(len(shard.finished))]
            if done:
                clock.count_windows(int(shard.counts[done].sum()), len(done))

        self._client.wait(shard.result, meanwhile=count)
        self._look_at(shard.routing)
        tokens = token_columns(shard.windows, shard.counts, first_sequence)
        return Shard(tokens, [{"experts": column} for column in shard.routing])

    def findings(self) -> list[str]:
        """Return what a user should know about the experts of all shards, one line each."""
        return list(self._plausibility.judge()) if self._has_seen else []

    async def _experts_of(self, window: Window) -> NDArray[np.int16]:
        if self._layout is None:
            raise RuntimeError("expected the first request before a shard")
        where = f"document {window.document} (numbered from 0)"
        experts = await self._ask(window.token_ids, where)
        try:
            return self._layout.take(
                experts,
                window.opening,
                len(window.token_ids),
                where=lambda row: f"position {row}",
                without_cache=self._api.without_cache,
            )
        except CaptureError as error:
            raise CaptureError(f"{self._client.address}, {where}: {error}") from None

    async def _ask(self, token_ids: NDArray[np.int32], where: str, *, is_probe: bool = False) -> NDArray[np.integer]:
        """Return the experts [rows, layers, k] that the server answers for a sequence."""
        ids, request_id, place = token_ids.tolist(), uuid4().hex, f"{self._client.address}, {where}"

        def read(answer: Any) -> NDArray[np.integer]:
            try:
                return self._api.read(answer, ids, request_id, top_k=self._model.top_k or 0, where=place)
            except MissingExpertsError:
                if not is_probe:
                    raise
                raise CaptureError(
                    f"{self._client.address}: expected the experts of each token, the server returns none; start it as "
                    f"{self._api.to_start}"
                ) from None
            except TraceError as error:
                raise CaptureError(str(error)) from None

        body = self._api.body(ids, request_id, self._served)
        values = (len(ids) + 1) * self._model.num_layers * (self._model.top_k or 0)
        return await self._client.ask(self._api.path, body, read=read, largest=_BYTES_AROUND + values * _BYTES_OF_AN_ID)

    def _look_at(self, routing: Sequence[NDArray[np.int16]]) -> None:
        self._has_seen = self._has_seen or any(column.any() for column in routing)
        self._plausibility.see(dict(zip(self._model.moe_layers, routing, strict=True)))
