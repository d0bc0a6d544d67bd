"""Streams of expert sets whose load, co-activation and repeats are known in closed form, and traces of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planted.trace import PlantedTrace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SetDistribution:
    """Sets of experts and their probabilities.

    Attributes:
        sets: int16 [sets, k], in rank order.
        shares: float64 [sets].
        num_experts: E.
    """

    sets: NDArray[np.int16]
    shares: Floats
    num_experts: int

    @property
    def members(self) -> Floats:
        """1 where a set holds an expert, [sets, E]."""
        return (self.sets[:, :, None] == np.arange(self.num_experts)).any(axis=1).astype(float)

    @property
    def inclusion(self) -> Floats:
        """P(expert in set), [E]."""
        return self.shares @ self.members

    @property
    def coactivation(self) -> Floats:
        """P(j in set | i in set), [i, j]."""
        joint = self.members.T @ (self.shares[:, None] * self.members)
        return joint / self.inclusion[:, None]

    @property
    def first_repeat(self) -> float:
        """Probability that two independent tokens have the same first expert."""
        return float(self.shares @ (self.sets[:, :1] == self.sets[:, 0]) @ self.shares)

    @property
    def any_repeat(self) -> float:
        """Probability that two independent tokens share an expert."""
        return float(self.shares @ (self.members @ self.members.T > 0) @ self.shares)


def plant_sets(
    distribution: SetDistribution,
    *,
    num_documents: int,
    tokens_per_document: int,
    persistence: float = 0.0,
    concentration: float = np.inf,
    seed: int = 0,
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Draw each token's set; with probability `persistence` it is the token before's.

    With a finite `concentration` every document has its own mix of sets, Dirichlet around the given one.

    Returns:
        Experts int16 [tokens, k] and documents int32 [tokens].
    """
    rng = np.random.default_rng(seed)
    shape = (num_documents, tokens_per_document)
    shares = np.tile(distribution.shares, (num_documents, 1))
    if np.isfinite(concentration):
        shares = rng.dirichlet(concentration * distribution.shares, size=num_documents)
    drawn = (rng.random((*shape, 1)) > np.cumsum(shares, axis=1)[:, None, :-1]).sum(axis=-1)
    renewed = np.where(rng.random(shape) >= persistence, np.arange(tokens_per_document), 0)
    drawn = np.take_along_axis(drawn, np.maximum.accumulate(renewed, axis=1), axis=1)
    documents = np.repeat(np.arange(num_documents, dtype=np.int32), tokens_per_document)
    return distribution.sets[drawn.ravel()], documents


class PlantedRun(PlantedTrace):
    """A planted trace with what comparing asks beside: documents, token ids and the corpus digest."""

    def __init__(
        self,
        documents: NDArray[np.int32],
        routings: Mapping[int, NDArray[np.int16]],
        *,
        digest: str | None = "corpus",
        token_ids: NDArray[np.int32] | None = None,
        ids: Sequence[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(documents, dict(routings), **options)
        self.manifest = {"corpus": {"digest": digest}}
        self._token_ids = np.zeros(len(documents), np.int32) if token_ids is None else token_ids
        self._ids = [f"d{row}" for row in range(self.num_documents)] if ids is None else list(ids)

    def tokens(self) -> pd.DataFrame:
        """Return document, sequence, position and token id of each token."""
        document = super().tokens()["document"].to_numpy()
        position = np.arange(len(document)) - np.searchsorted(document, document)
        return pd.DataFrame(
            {"document": document, "sequence": document, "position": position, "token_id": self._token_ids}
        )

    def documents(self, *, labels_only: bool = False) -> pd.DataFrame:
        """Return the id of each document; there are no texts to leave out."""
        del labels_only
        return pd.DataFrame({"id": self._ids})
