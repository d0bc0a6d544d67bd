"""What the same estimator reads when labels and routing have nothing to do with each other.

A null keeps what is not in question. Token labels are rotated within their document, which keeps the
autocorrelation of labels and of routing and what each document holds of both; document labels are
permuted across documents. Every null table goes through the estimator of the observed one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import count_permuted, count_shifted
from specialize.measure.base.random import generator

# Tables of one batch of draws; the jackknife holds about five copies of them.
BATCH_BYTES = 48 * 2**20
# Rounding must not break ties: a draw that repeats the observed table is as extreme as it. In bits.
TIE = 1e-11


@dataclass(frozen=True)
class Observations:
    """Labelled units of one layer, ready to be counted.

    Attributes:
        codes: int32 [units], all labelled.
        experts: int16 [units, slots], negative where a slot holds no expert.
        masses: float64 [units, slots], or [units, 1] where all slots of a unit weigh the same.
        starts: int64 [documents + 1], first unit of each document; its last entry is the number of units.
        blocks: int32 [documents], the block of each document.
    """

    codes: NDArray[np.int32]
    experts: NDArray[np.int16]
    masses: NDArray[np.float64]
    starts: NDArray[np.int64]
    blocks: NDArray[np.int32]

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks[-1]) + 1 if len(self.blocks) else 0

    @property
    def unit_blocks(self) -> NDArray[np.int32]:
        """The block of each unit, int32 [units]."""
        return np.repeat(self.blocks, np.diff(self.starts))


def draw_shifts(lengths: ArrayLike, *, permutations: int, seed: int) -> NDArray[np.int32]:
    """Draw a rotation for every document, uniform over all rotations, the identity among them.

    With the identity among them the rotations form a group, and a test over draws from a group is exact
    where the null hypothesis is invariance under that group.

    Args:
        lengths: labelled tokens of each document, at least 1.
        permutations: how many to draw.
        seed: seed of the generator.

    Raises:
        MeasurementError: for a negative number of draws.

    Returns:
        int32 [permutations, documents], from 0 to length - 1.

    Source:
        Hemerik & Goeman (2018), Exact testing with random permutations; Lancaster et al. (2018),
        Surrogate data for hypothesis testing of physical systems, for rotations of a series.
    """
    _check_permutations(permutations)
    high = np.asarray(lengths, dtype=np.int32)
    return generator(seed).integers(0, high, size=(permutations, len(high)), dtype=np.int32)


def draw_permutations(num_documents: int, *, permutations: int, seed: int) -> NDArray[np.int32]:
    """Draw permutations of the documents.

    Args:
        num_documents: documents to permute.
        permutations: how many to draw.
        seed: seed of the generator.

    Returns:
        int32 [permutations, documents]; row by row a permutation.
    """
    _check_permutations(permutations)
    ordered = np.tile(np.arange(num_documents, dtype=np.int32), (permutations, 1))
    return generator(seed).permuted(ordered, axis=1)


def shifted_tables(
    observations: Observations, *, shape: tuple[int, int, int], permutations: int, seed: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of draws and their tables [draw, block, label, expert], labels shifted within documents.

    The same seed gives the same shifts, whatever the routing: draws of two layers belong together.
    """
    shifts = draw_shifts(np.diff(observations.starts), permutations=permutations, seed=seed)
    for batch, tables in _batches(shape, permutations):
        count_shifted(
            tables,
            observations.codes,
            shifts[batch],
            observations.experts,
            observations.masses,
            observations.starts,
            observations.blocks,
        )
        yield batch, tables


def permuted_tables(
    observations: Observations, *, shape: tuple[int, int, int], permutations: int, seed: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of draws and their tables [draw, block, label, expert], labels permuted across documents.

    Each document must be one unit. The same seed gives the same permutations, whatever the routing.
    """
    sources = draw_permutations(len(observations.codes), permutations=permutations, seed=seed)
    for batch, tables in _batches(shape, permutations):
        count_permuted(
            tables,
            observations.codes,
            sources[batch],
            observations.experts,
            observations.masses,
            observations.unit_blocks,
        )
        yield batch, tables


def _check_permutations(permutations: int) -> None:
    if permutations < 0:
        raise MeasurementError(f"permutations must be at least 0, got {permutations}: 200 is usual")


def _batches(shape: tuple[int, int, int], permutations: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices over the draws with empty tables, as many at once as memory should hold."""
    size = max(1, int(BATCH_BYTES // (8 * np.prod(shape))))
    for first in range(0, permutations, size):
        batch = slice(first, min(first + size, permutations))
        yield batch, np.zeros((batch.stop - batch.start, *shape))


def p_values(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """Compute ``(1 + number of null draws >= observed) / (1 + number of draws)``.

    Args:
        observed: float64 [*shape].
        null: float64 [permutations, *shape]. A draw that is NaN counts as extreme, the cautious choice.

    Returns:
        float64 [*shape]; NaN where the observed value is NaN or there are no draws.

    Source:
        Phipson & Smyth (2010), Permutation p-values should never be zero.
    """
    value, drawn = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if not len(drawn):
        return np.full(value.shape, np.nan)
    extreme = (~(drawn < value - TIE)).sum(axis=0)
    return np.where(np.isnan(value), np.nan, (1 + extreme) / (1 + len(drawn)))


def summarize_null(
    null: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, 2.5th and 97.5th percentile over draws [draw, *shape]; NaN without draws."""
    if not len(null):
        empty = np.full(null.shape[1:], np.nan)
        return empty, empty, empty
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    return null.mean(axis=0), low, high
