"""A trace held in memory, with what the measurement room asks of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class PlantedRouter:
    """The part of a router's description that measuring needs."""

    layer: int
    name: str
    num_experts: int
    top_k: int
    routing: str = "learned"
    draw: int = 0


class PlantedTrace:
    """Routing of several layers over the same tokens.

    Args:
        documents: int32 [tokens], the document of each token.
        routings: int16 [tokens, k] by layer number.
        num_experts: experts of every layer.
        weights: float32 [tokens, k] by layer number; unless given they differ from slot to slot and token to token.
        random_routers: routing of random routers beside them, int16 [tokens, k] by layer number.
        groups: int64 [documents], the group of each; by default each is a group of its own.
        more_draws: routing of further random routers, likewise.
        logits: router logits [tokens, E] by layer number; not recorded by default.
        losses: loss of the next token, nats [tokens]; not recorded by default.
        name: the run's name.
    """

    def __init__(
        self,
        documents: NDArray[np.int32],
        routings: dict[int, NDArray[np.int16]],
        *,
        num_experts: int,
        weights: dict[int, NDArray[np.float32]] | None = None,
        random_routers: dict[int, NDArray[np.int16]] | None = None,
        groups: NDArray[np.int64] | None = None,
        more_draws: Sequence[dict[int, NDArray[np.int16]]] = (),
        logits: dict[int, NDArray[np.float32]] | None = None,
        losses: NDArray[np.float32] | None = None,
        name: str = "planted",
    ) -> None:
        self.path = Path("runs") / name
        self.num_tokens = len(documents)
        self.num_documents = int(documents.max()) + 1 if len(documents) else 0
        self.layers = _routers(routings, num_experts, "learned")
        self.random_routers = _routers(random_routers or {}, num_experts, "random")
        self.contents = ("weights", *(["logits"] if logits else []), *([] if losses is None else ["predictions"]))
        self._documents, self._weights = documents, weights
        self._logits, self._losses = logits, losses
        self.groups = np.arange(self.num_documents) if groups is None else groups
        self._drawn = [random_routers or {}, *more_draws]
        self._routings = {("learned", 0): routings} | {("random", d): drawn for d, drawn in enumerate(self._drawn)}

    def experts(self, layer: int | str, *, routing: str = "learned", draw: int = 0) -> NDArray[np.int16]:
        """Return the chosen experts [tokens, k] of a layer, by number or by name."""
        return self._routings[routing, draw][self._number(layer)]

    def random_draws(self, name: str) -> Sequence[PlantedRouter]:
        """Return the random routers beside a router."""
        first = [router for router in self.random_routers if router.name == name]
        return [replace(router, draw=draw) for router in first for draw in range(len(self._drawn))]

    def weights(self, layer: int | str, *, routing: str = "learned") -> NDArray[np.float32]:
        """Return the gate weights [tokens, k] of a layer, by number or by name."""
        if self._weights is not None:
            return self._weights[self._number(layer)]
        return unequal_weights(self.experts(layer, routing=routing), seed=self._number(layer) + 1)

    def router_logits(self, layer: int | str) -> NDArray[np.float32]:
        """Return the router logits [tokens, E] of a layer, by number or by name."""
        return self._logits[self._number(layer)]

    def tokens(self) -> pd.DataFrame:
        """Return the document of each token and, where recorded, the loss of the next one."""
        losses = {} if self._losses is None else {"next_token_loss": self._losses}
        return pd.DataFrame({"document": self._documents} | losses)

    def documents(self, *, labels_only: bool = False) -> pd.DataFrame:
        """Return ids, and texts that are not known."""
        ids = [str(row) for row in range(self.num_documents)]
        return pd.DataFrame({"id": ids} | ({} if labels_only else {"text": [None] * len(ids)}))

    def stored_documents(self) -> Iterator[pa.RecordBatch]:
        """Yield what `documents` returns."""
        yield pa.RecordBatch.from_pandas(self.documents())

    def _number(self, layer: int | str) -> int:
        return next(router.layer for router in self.layers if layer in (router.layer, router.name))


def unequal_weights(experts: NDArray[np.int16], *, seed: int) -> NDArray[np.float32]:
    """Gate weights [tokens, k] that sum to 1, the first slot's the largest: a permuted or swapped weight shows."""
    drawn = np.random.default_rng(seed).dirichlet(np.arange(experts.shape[1], 0, -1) * 2.0, size=len(experts))
    return -np.sort(-drawn, axis=1).astype(np.float32)


def _routers(routings: dict[int, NDArray[np.int16]], num_experts: int, routing: str) -> Sequence[PlantedRouter]:
    return tuple(
        PlantedRouter(layer, f"layers.{layer}", num_experts, experts.shape[1], routing)
        for layer, experts in routings.items()
    )
