"""Permutation nulls: the distribution of an estimator when labels and routing are independent.

Token labels are circularly shifted within their document, which preserves the autocorrelation of labels and of
routing, and each document's composition of both. Document labels are permuted across documents. The tables of each
permutation go through the same estimator as the observed table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import count_permuted, count_shifted
from specialize.measure.base.random import Seed, generator

# Memory of the tables of one batch of permutations; the jackknife holds about five copies.
BATCH_BYTES = 48 * 2**20
# Tolerance, in bits: rounding must not break the tie of a permutation that reproduces the observed table.
TIE = 1e-11


@dataclass(frozen=True)
class Observations:
    """Labelled units (tokens or documents) of one layer.

    Attributes:
        codes: int32 [units], the label of each unit; none is negative.
        experts: int16 [units, slots], negative where a slot holds no expert.
        masses: float64 [units, slots], or [units, 1] where all slots of a unit have the same mass.
        starts: int64 [documents + 1], first unit of each document; the last entry is the number of units.
        blocks: int32 [documents], the block of each document.
        groups: integers [documents], the group of each document; None where each is a group of its own.
    """

    codes: NDArray[np.int32]
    experts: NDArray[np.int16]
    masses: NDArray[np.float64]
    starts: NDArray[np.int64]
    blocks: NDArray[np.int32]
    groups: NDArray[np.integer] | None = None

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks.max(initial=-1)) + 1

    @property
    def unit_blocks(self) -> NDArray[np.int32]:
        """Block of each unit, int32 [units]."""
        return np.repeat(self.blocks, np.diff(self.starts))

    @property
    def group_numbers(self) -> NDArray[np.integer]:
        """Group of each document, its own number where each is a group of its own, integers [documents]."""
        return np.arange(len(self.blocks)) if self.groups is None else self.groups


def draw_shifts(lengths: ArrayLike, *, permutations: int, seed: Seed) -> NDArray[np.int32]:
    """Draw a circular shift for every document, uniformly from all shifts including the identity.

    Shifts including the identity form a group. A test with permutations drawn at random from a group is exact where
    the data are invariant under the group if the null hypothesis holds.

    Args:
        lengths: number of labelled tokens of each document, at least 1.
        permutations: number of shifts per document.
        seed: seed of the generator.

    Returns:
        int32 [permutations, documents], from 0 to length - 1.

    Raises:
        MeasurementError: ``permutations`` is negative.

    Source:
        Hemerik & Goeman (2018), Exact testing with random permutations; Lancaster et al. (2018),
        Surrogate data for hypothesis testing of physical systems, for circular shifts of a series.
    """
    _check_permutations(permutations)
    high = np.asarray(lengths, dtype=np.int32)
    return generator(seed).integers(0, high, size=(permutations, len(high)), dtype=np.int32)


def draw_permutations(groups: ArrayLike, *, permutations: int, seed: Seed) -> NDArray[np.int32]:
    """Draw random permutations of the documents in which documents that belong together stay together.

    Groups are put into a random order. The n-th document of this order is the source of the n-th document of the
    original order of groups: with groups of equal size, whole groups are exchanged, and otherwise nearly so. If
    documents of a group were spread, what they have in common would be missing from the null, and p-values would be
    too small.

    Args:
        groups: integers [documents], the group of each document; distinct numbers where they do not belong together.
        permutations: number of permutations.
        seed: seed of the generator.

    Returns:
        int32 [permutations, documents]; each row is a permutation of the documents.

    Raises:
        MeasurementError: ``permutations`` is negative.
    """
    _check_permutations(permutations)
    of_document = np.asarray(groups)
    _, first, own = np.unique(of_document, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[own]  # of the document's group, in order of appearance
    by_group = np.argsort(rank, kind="stable").astype(np.int32)
    drawn = generator(seed).permuted(np.tile(np.arange(len(first), dtype=np.int32), (permutations, 1)), axis=1)
    if len(first) == len(of_document):
        return drawn
    sources = np.empty((permutations, len(of_document)), dtype=np.int32)
    place = np.empty(len(first), dtype=np.int32)
    for row, order in zip(sources, drawn, strict=True):
        place[order] = np.arange(len(order), dtype=np.int32)
        row[by_group] = np.argsort(place[rank], kind="stable")
    return sources


def shifted_tables(
    observations: Observations, *, shape: tuple[int, int, int], permutations: int, seed: Seed
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of tables [permutation, block, label, expert] with labels circularly shifted within documents.

    Shifts depend on the seed and the documents only, not on the routing, so that permutations of layers correspond.
    Each batch comes with its slice of the permutations.
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
    observations: Observations, *, shape: tuple[int, int, int], permutations: int, seed: Seed
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of tables [permutation, block, label, expert] with labels permuted across documents.

    Each document must be one unit. Permutations depend on the seed and the groups of documents only, not on the
    routing, so that permutations of layers correspond. Each batch comes with its slice of the permutations.
    """
    sources = draw_permutations(observations.group_numbers, permutations=permutations, seed=seed)
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
    """Yield slices of the permutations with tables of zeros, batches of `BATCH_BYTES` at most."""
    size = max(1, int(BATCH_BYTES // (8 * np.prod(shape))))
    for first in range(0, permutations, size):
        batch = slice(first, min(first + size, permutations))
        yield batch, np.zeros((batch.stop - batch.start, *shape))


def p_values(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """Compute one-sided p-values, ``(1 + number of permutations >= observed) / (1 + number of permutations)``.

    Args:
        observed: float64 [*shape].
        null: values under the null, float64 [permutation, *shape]. NaN counts as extreme, which is conservative.

    Returns:
        float64 [*shape]; NaN where the observed value is NaN or there are no permutations.

    Source:
        Phipson & Smyth (2010), Permutation p-values should never be zero.
    """
    value, drawn = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if not len(drawn):
        return np.full(value.shape, np.nan)
    return np.where(np.isnan(value), np.nan, (1 + count_extreme(value, drawn)) / (1 + len(drawn)))


def count_extreme(observed: ArrayLike, null: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the permutations [permutation, *shape] with a value at least as large as the observed one, [*shape]."""
    return np.asarray((~(null < np.asarray(observed) - TIE)).sum(axis=0))


def summarize_null(
    null: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, 2.5th and 97.5th percentile over permutations [permutation, *shape]; NaN where there are none."""
    if not len(null):
        empty = np.full(null.shape[1:], np.nan)
        return empty, empty, empty
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    return null.mean(axis=0), low, high
