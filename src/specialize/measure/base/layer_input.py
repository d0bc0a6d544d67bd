"""The routing decisions of one router, the input of all estimators of a layer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import MassRule
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks, check_order, group_documents
from specialize.measure.base.counting import as_codes
from specialize.measure.base.routed import has_expert

PART_TOKENS = 2**17  # of whole documents, which are in memory together


@dataclass(frozen=True)
class LayerInput:
    """The routing decisions of one router over a corpus.

    Arrays may be columns on disk, which are read a slice at a time (see `specialize.column.Column`): estimators
    go through the `parts` of a layer, which are arrays in memory, and add up what they count, so that their memory does
    not grow with the number of tokens. Results do not depend on how a layer is divided into parts.

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
        token_counts: int64 [documents], number of rows of each document; counted from ``documents`` by default.
        first_row: number of the first row in the corpus, of a part.
        first_document: number of the first document, of a part.
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
    token_counts: NDArray[np.int64] | None = None
    first_row: int = 0
    first_document: int = 0

    @classmethod
    def of(cls, experts: ArrayLike, documents: ArrayLike, **others: Any) -> "LayerInput":
        """Take arrays as an estimator is given them.

        Raises:
            MeasurementError: experts have no axis of slots, weights another shape, or documents are not in order.
        """
        chosen, places, weights = np.asarray(experts), as_codes(documents), others.get("weights")
        if chosen.ndim != 2:
            raise MeasurementError(f"expected experts [tokens, k], got shape {chosen.shape}: add the axis of slots")
        if len(chosen) != len(places):
            raise MeasurementError(
                f"expected experts [tokens, k] and documents [tokens], got shapes {chosen.shape} and {places.shape}"
            )
        check_order(places)
        others["weights"] = None if weights is None else np.asarray(weights)
        return cls(chosen, places, **others)

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
        return has_expert(np.ascontiguousarray(self.experts, dtype=np.int16))

    @property
    def rows(self) -> slice:
        """The rows of the corpus that a part holds."""
        return slice(self.first_row, self.first_row + len(self.experts))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of rows of each document, int64 [documents]."""
        if self.token_counts is not None:
            return self.token_counts
        places = as_codes(self.documents)
        check_order(places)
        return np.bincount(places).astype(np.int64)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of each document in the arrays, and the number of rows, int64 [documents + 1]."""
        return np.append(0, np.cumsum(self.counts))

    def parts(self, *, ordered: bool = False) -> Iterator["LayerInput"]:
        """Yield parts of whole documents, whose arrays are in memory; they cover the corpus in order.

        Args:
            ordered: whether sequences and positions are needed.
        """
        weighted = self.rule in ("gate", "counts") and self.weights is not None
        for first, last, rows in cut_rows(self.counts):
            counts = self.counts[first:last]
            yield replace(
                self,
                experts=np.ascontiguousarray(self.experts[rows], dtype=np.int16),
                documents=np.repeat(np.arange(first, last, dtype=np.int32), counts),
                weights=np.asarray(self.weights[rows]) if weighted and self.weights is not None else None,
                sequences=self.sequences[rows] if ordered and self.sequences is not None else None,
                positions=self.positions[rows] if ordered and self.positions is not None else None,
                token_counts=counts,
                first_row=self.first_row + rows.start,
                first_document=self.first_document + first,
            )

    def blocks(self, num_blocks: int) -> NDArray[np.int32]:
        """Assign documents with rows to blocks, see `assign_blocks`; -1 for the others, int32 [documents]."""
        return block_documents(self.counts > 0, self.groups, num_blocks=num_blocks)


def cut_documents(counts: NDArray[np.int64], size: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield ranges of documents, first and end (exclusive), that have about as many rows as fit in a part.

    Where they are cut depends on the documents alone. A document that is longer is a part of its own.

    Args:
        counts: number of rows of each document.
        size: most rows of a part, unless it is a single document; `PART_TOKENS` by default.
    """
    most, ends, first = PART_TOKENS if size is None else size, np.cumsum(counts), 0
    while first < len(counts):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + most, side="right")), first + 1)
        if int(ends[last - 1]) > before:
            yield first, last
        first = last


def cut_rows(counts: NDArray[np.int64]) -> Iterator[tuple[int, int, slice]]:
    """Yield ranges of documents as `cut_documents`, and their rows."""
    ends = np.append(0, np.cumsum(counts))
    for first, last in cut_documents(counts):
        yield first, last, slice(int(ends[first]), int(ends[last]))


def block_documents(
    counted: NDArray[np.bool_], groups: NDArray[np.integer] | None, *, num_blocks: int
) -> NDArray[np.int32]:
    """Assign some documents to blocks, see `assign_blocks`.

    Args:
        counted: bool [documents], which documents.
        groups: integers [documents], the group of each; None where each document is a group of its own.
        num_blocks: maximum number of blocks.

    Returns:
        int32 [documents]; -1 for the other documents.
    """
    blocks = np.full(len(counted), -1, dtype=np.int32)
    blocks[counted] = assign_blocks(group_documents(np.flatnonzero(counted), groups), num_blocks=num_blocks)
    return blocks
