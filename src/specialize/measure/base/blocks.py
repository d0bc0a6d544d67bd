"""Statistics of count tables over blocks of documents, with the interval of the delete-one-block jackknife."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes, assign_blocks
from specialize.measure.base.estimate import EstimateArray, Statistic, jackknife_values, make_estimates


class Counted(TypedDict):
    """How much was counted, as keywords of an estimate."""

    n_tokens: int
    n_documents: int


@dataclass(frozen=True)
class TokenBlocks:
    """Tokens in document order, cut into blocks of documents.

    Attributes:
        documents: int32 [tokens], running number of each token's document among those that have tokens.
        blocks: int32 [documents], the block of each such document.
    """

    documents: NDArray[np.int32]
    blocks: NDArray[np.int32]

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks[-1]) + 1 if len(self.blocks) else 0

    @property
    def token_blocks(self) -> NDArray[np.int32]:
        """The block of each token, int32 [tokens]."""
        return self.blocks[self.documents]


def block_tokens(documents: ArrayLike, *, num_blocks: int = 50) -> TokenBlocks:
    """Cut tokens into blocks of documents, see `assign_blocks`; documents without tokens are passed over.

    Args:
        documents: integers [tokens], the document of each token, non-decreasing from 0.
        num_blocks: the most blocks to make.

    Raises:
        MeasurementError: documents are not in order.
    """
    places = as_codes(documents)
    if len(places) and (places[0] < 0 or np.any(places[1:] < places[:-1])):
        raise MeasurementError("documents must be non-decreasing numbers from 0: put tokens in document order")
    own = np.cumsum(np.diff(places, prepend=places[:1]) > 0, dtype=np.int32)
    return TokenBlocks(own, assign_blocks(int(own[-1]) + 1 if len(own) else 0, num_blocks=num_blocks))


def estimate_blocks(
    tables: NDArray[np.float64],
    statistic: Statistic,
    *,
    unit: str,
    n_tokens: int,
    n_documents: int,
    corrected: bool = False,
    null: NDArray[np.float64] | None = None,
    chance: NDArray[np.float64] | None = None,
) -> EstimateArray:
    """Estimate a statistic of a table with its jackknife interval.

    Args:
        tables: float64 [block, row, column].
        statistic: maps [..., row, column] to [..., *shape].
        unit: unit of the statistic.
        n_tokens: tokens counted.
        n_documents: documents counted.
        corrected: take the jackknife's correction for bias into the value. A share of tokens has next to none
            and is left as it was counted.
        null: the same estimator under the null, float64 [permutation, *shape].
        chance: expected value where it is known without permutations, float64 [*shape]; without p-value.

    Returns:
        Estimates of the statistic's shape; intervals are NaN with fewer than two blocks.
    """
    value, error = jackknife_values(tables, statistic)
    if not corrected:
        value = np.asarray(statistic(tables.sum(axis=0)))
    return make_estimates(
        value,
        error,
        unit=unit,
        num_blocks=len(tables),
        n_tokens=n_tokens,
        n_documents=n_documents,
        null=null,
        chance=chance,
    )


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
