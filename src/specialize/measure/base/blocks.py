"""Statistics of count tables by block of documents, with delete-one-block jackknife intervals."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes, assign_blocks
from specialize.measure.base.estimate import EstimateArray, Statistic, jackknife_values, make_estimates

ENOUGH = 2.5  # tokens for each degree of freedom, from the simulations of analyses/calibration


class Counted(TypedDict):
    """Numbers of tokens and documents counted, as keyword arguments of an estimate."""

    n_tokens: int
    n_documents: int


@dataclass(frozen=True)
class TokenBlocks:
    """Tokens in document order, divided into blocks of documents.

    Attributes:
        documents: int32 [tokens], index of each token's document among the documents that have tokens.
        blocks: int32 [documents], block of each of these documents.
    """

    documents: NDArray[np.int32]
    blocks: NDArray[np.int32]

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks[-1]) + 1 if len(self.blocks) else 0

    @property
    def token_blocks(self) -> NDArray[np.int32]:
        """Block of each token, int32 [tokens]."""
        return self.blocks[self.documents]


def block_tokens(documents: ArrayLike, *, num_blocks: int = 50) -> TokenBlocks:
    """Divide tokens into blocks of documents, see `assign_blocks`; documents without tokens are skipped.

    Args:
        documents: integers [tokens], the document of each token, non-negative and non-decreasing.
        num_blocks: maximum number of blocks.

    Returns:
        The block of each document that has tokens, and the document of each token.

    Raises:
        MeasurementError: document numbers are negative or decrease.
    """
    places = as_codes(documents)
    if len(places) and (places[0] < 0 or np.any(places[1:] < places[:-1])):
        raise MeasurementError("documents: expected non-decreasing numbers from 0, got others: sort tokens by document")
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
    note: str = "",
) -> EstimateArray:
    """Estimate a statistic of a count table, with a jackknife interval over blocks.

    Args:
        tables: float64 [block, row, column].
        statistic: maps counts [..., row, column] to values [..., *shape].
        unit: unit of the statistic.
        n_tokens: number of tokens counted.
        n_documents: number of documents counted.
        corrected: whether the value is the jackknife's bias-corrected one. The bias of a share of tokens is
            negligible, so shares are reported as counted.
        null: the same estimator under the null, float64 [permutation, *shape].
        chance: expected value where it is known in closed form, float64 [*shape]; becomes ``null_mean``, and there
            is no p-value.
        note: appended to the description of the interval.

    Returns:
        Estimates [*shape]; interval ends are NaN with fewer than two blocks.
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
        note=note,
    )


def note_sparse(n_tokens: float, freedom: float) -> str:
    """Return a warning where a table has fewer than `ENOUGH` tokens for each degree of freedom, else an empty text."""
    return "" if n_tokens >= ENOUGH * freedom else f", biased: below {ENOUGH:g} tokens for each degree of freedom"


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
