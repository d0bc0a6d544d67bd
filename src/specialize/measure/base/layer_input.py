"""The routing decisions of one router, the input of all estimators of a layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.choices import MassRule


@dataclass(frozen=True)
class LayerInput:
    """The routing decisions of one router over a corpus.

    Without tokens, each document has one row: all experts, and as weights the tokens that each received (rule counts).

    Attributes:
        experts: int16 [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        weights: gate weights float [tokens, k]; None unless the rule uses them.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        sequences: integers [tokens], the context window of each token; None where unknown.
        positions: integers [tokens], the position of each token in its window; None where unknown.
        groups: integers [documents], documents of one group stay in one block; None where each document is a group of
            its own.
        top_k: k, where rows are documents.
    """

    experts: NDArray[np.int16]
    documents: NDArray[np.integer]
    num_experts: int
    weights: NDArray[np.floating] | None = None
    rule: MassRule = "selection"
    sequences: NDArray[np.integer] | None = None
    positions: NDArray[np.integer] | None = None
    groups: NDArray[np.integer] | None = None
    top_k: int = 1

    @property
    def has_tokens(self) -> bool:
        """Whether rows are tokens, with the experts that they chose, and not documents."""
        return self.rule != "counts"

    @property
    def multiples(self) -> dict[str, Any]:
        """Arguments of estimators that count choices, where a row is a document: counts of choices, and of tokens."""
        if self.has_tokens or self.weights is None:
            return {}
        return {"counts": self.weights * self.top_k, "tokens": self.weights.sum(axis=1)}

    @property
    def choices(self) -> dict[str, Any]:
        """Arguments of estimators that count choices: experts, documents, num_experts, groups."""
        return {
            "experts": self.experts,
            "documents": self.documents,
            "num_experts": self.num_experts,
            "groups": self.groups,
        }

    @property
    def masses(self) -> dict[str, Any]:
        """Arguments of estimators that spread a token's mass: those of `choices`, weights and rule."""
        return self.choices | {"weights": self.weights, "rule": self.rule}

    @property
    def order(self) -> dict[str, Any]:
        """Arguments of estimators of neighbouring tokens: those of `choices`, sequences and positions."""
        return self.choices | {"sequences": self.sequences, "positions": self.positions}

    @property
    def routed(self) -> NDArray[np.bool_]:
        """Whether each token has an expert, bool [tokens]."""
        return np.asarray((self.experts >= 0).any(axis=1))
