"""Statistics of count tables by block of documents, with delete-one-block jackknife intervals."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes, check_range
from specialize.measure.base.estimate import EstimateArray, Statistic, jackknife_values, make_estimates

ENOUGH = 5  # tokens for each degree of freedom, from the simulations of analyses/calibration


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
        return int(self.blocks.max(initial=-1)) + 1

    @property
    def token_blocks(self) -> NDArray[np.int32]:
        """Block of each token, int32 [tokens]."""
        return self.blocks[self.documents]


def assign_blocks(groups: ArrayLike, *, num_blocks: int = 50) -> NDArray[np.int32]:
    """Assign documents to blocks at random, for the delete-one-block jackknife; groups of documents stay together.

    The jackknife requires blocks that are nearly independent and alike. Documents that belong together (chapters of a
    book, posts of a thread, copies of one text) are one group and stay in one block; if they were spread over blocks,
    blocks would resemble each other and intervals would be too narrow. Groups are drawn by a hash of their number, so
    that the order of the corpus does not matter: if blocks were consecutive documents, each block of a corpus that is
    sorted by the label would hold one label, intervals would be two to three times too wide, and the entropy of the
    label too large.

    Blocks hold equal numbers of documents as far as the groups allow, the largest groups being assigned first, always
    to the block with the fewest documents. They count documents rather than tokens, because documents are what is
    sampled. There are between ``num_blocks / 2`` and ``num_blocks`` blocks, or one per group where there are fewer.

    Args:
        groups: integers [documents], the group of each document that is observed; distinct numbers where documents
            do not belong together.
        num_blocks: maximum number of blocks.

    Returns:
        int32 [documents], block numbers from 0; no block is empty.

    Raises:
        MeasurementError: ``num_blocks`` is below 1, or groups are not one-dimensional or no integers.
    """
    if num_blocks < 1:
        raise MeasurementError(f"num_blocks must be at least 1, got {num_blocks}: 50 is usual")
    numbers = np.asarray(groups)
    if numbers.ndim != 1:
        raise MeasurementError(f"groups: expected the group of each document, got shape {numbers.shape}: pass an array")
    if numbers.size and numbers.dtype.kind not in "iu":
        raise MeasurementError(f"groups: expected integers, got {numbers.dtype}: number the groups")
    distinct, rows, sizes = np.unique(numbers.astype(np.int64), return_inverse=True, return_counts=True)
    largest_first = np.lexsort((_scramble(distinct), -sizes))
    per_block = max(1, -(-len(rows) // num_blocks))
    blocks = np.empty(len(distinct), dtype=np.int32)
    blocks[largest_first] = _fill_blocks(sizes[largest_first], min(len(distinct), -(-len(rows) // per_block)))
    return blocks[rows]


def block_tokens(documents: ArrayLike, *, groups: ArrayLike | None = None, num_blocks: int = 50) -> TokenBlocks:
    """Divide tokens into blocks of documents, see `assign_blocks`; documents without tokens are skipped.

    Args:
        documents: integers [tokens], the document of each token, non-negative and non-decreasing.
        groups: integers [documents], documents of one group stay in one block; default: each document is a group of
            its own.
        num_blocks: maximum number of blocks.

    Returns:
        The block of each document that has tokens, and the document of each token.

    Raises:
        MeasurementError: document numbers are negative or decrease.
    """
    places = as_codes(documents)
    check_order(places)
    begins = np.diff(places, prepend=-1) > 0
    own = np.cumsum(begins, dtype=np.int32) - np.int32(1)
    return TokenBlocks(own, assign_blocks(group_documents(places[begins], groups), num_blocks=num_blocks))


def check_order(documents: NDArray[np.integer]) -> None:
    """Raise MeasurementError unless the documents of tokens are numbered from 0 and tokens are sorted by document."""
    if len(documents) and (documents[0] < 0 or np.any(documents[1:] < documents[:-1])):
        raise MeasurementError("documents: expected non-decreasing numbers from 0, got others: sort tokens by document")


def group_documents(documents: NDArray[np.integer], groups: ArrayLike | None) -> NDArray[np.integer]:
    """Return the group of each of some documents; without groups each document is a group of its own.

    Args:
        documents: numbers of documents.
        groups: integers [all documents], the group of each.

    Raises:
        MeasurementError: a document has no group.
    """
    if groups is None:
        return documents
    numbers = np.asarray(groups)
    check_range("documents", documents, len(numbers))
    return np.asarray(numbers[documents])


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


def _scramble(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash 64-bit numbers one to one, by the finalizer of SplitMix64 (Steele, Lea & Flood 2014)."""
    hashed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(hashed ^ (hashed >> np.uint64(31)))


@njit(cache=True, nogil=True)
def _fill_blocks(sizes, num_blocks):  # type: ignore[no-untyped-def]
    """Assign groups, in order, each to the block that holds the fewest documents so far (the first of equal ones)."""
    blocks = np.empty(len(sizes), dtype=np.int32)
    held = np.zeros(num_blocks, dtype=np.int64)
    for group in range(len(sizes)):
        block = np.argmin(held)
        blocks[group] = block
        held[block] += sizes[group]
    return blocks
