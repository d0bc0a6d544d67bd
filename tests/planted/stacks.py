"""A trace in memory whose routers are given one by one: several in a layer number, or two stacks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planted.streams import PlantedRun
from planted.trace import PlantedRouter


@dataclass(frozen=True)
class StackRouter(PlantedRouter):
    """A router that tells its side of an encoder-decoder model."""

    stack: str = "decoder"


class StackedRun(PlantedRun):
    """Routers with their experts int16 [tokens, k], in the order of the model."""

    def __init__(
        self,
        documents: NDArray[np.int32],
        routers: Sequence[tuple[PlantedRouter, NDArray[np.int16]]],
        **options: object,
    ) -> None:
        super().__init__(documents, {}, num_experts=1, **options)
        self.layers = tuple(router for router, _ in routers if router.routing == "learned")
        self.random_routers = tuple(router for router, _ in routers if router.routing == "random")
        self._experts = {(router.routing, router.name): experts for router, experts in routers}

    def experts(self, layer: int | str, *, routing: str = "learned", draw: int = 0) -> NDArray[np.int16]:
        """Return the chosen experts [tokens, k] of a router, by name."""
        return self._experts[routing, str(layer)]
