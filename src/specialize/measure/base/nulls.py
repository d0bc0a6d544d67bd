"""Permutation nulls: the distribution of an estimator when labels and routing are independent.

Token labels are circularly shifted within their document, which preserves the autocorrelation of labels and of
routing, and each document's composition of both. Document labels are permuted across documents. The tables of each
permutation go through the same estimator as the observed table.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.counting import count_permuted, count_shifted
from specialize.measure.base.random import Seed, generator
from specialize.measure.base.units import Observations, Units

# Memory of the tables and of the permutations of one batch; the jackknife holds about five copies of the tables.
BATCH_BYTES = 48 * 2**20
# Tolerance, in bits: rounding must not break the tie of a permutation that reproduces the observed table.
TIE = 1e-11


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
    return next(shift_batches(lengths, permutations=permutations, seed=seed, size=max(permutations, 1)))[1]


def shift_batches(
    lengths: ArrayLike, *, permutations: int, seed: Seed, size: int
) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield the shifts of `draw_shifts` in batches of ``size`` permutations, each with its slice of them.

    There is at least one batch, which may be empty.
    """
    _check_permutations(permutations)
    high, numbers = np.asarray(lengths, dtype=np.int32), generator(seed)
    for first in range(0, max(permutations, 1), size):
        batch = slice(first, min(first + size, permutations))
        # the generator goes on from batch to batch, so that shifts do not depend on the size
        yield batch, numbers.integers(0, high, size=(batch.stop - batch.start, len(high)), dtype=np.int32)


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
    return next(permutation_batches(groups, permutations=permutations, seed=seed, size=max(permutations, 1)))[1]


def permutation_batches(
    groups: ArrayLike, *, permutations: int, seed: Seed, size: int
) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield the permutations of `draw_permutations` in batches of ``size`` of them, each with its slice of them.

    There is at least one batch, which may be empty.
    """
    _check_permutations(permutations)
    of_document = np.asarray(groups)
    _, first, own = np.unique(of_document, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[own]  # of the document's group, in order of appearance
    by_group = np.argsort(rank, kind="stable").astype(np.int32)
    numbers, place = generator(seed), np.empty(len(first), dtype=np.int32)
    for begin in range(0, max(permutations, 1), size):
        batch = slice(begin, min(begin + size, permutations))
        count = batch.stop - batch.start
        drawn = numbers.permuted(np.tile(np.arange(len(first), dtype=np.int32), (count, 1)), axis=1)
        if len(first) == len(of_document):
            yield batch, drawn
            continue
        sources = np.empty((count, len(of_document)), dtype=np.int32)
        for row, order in zip(sources, drawn, strict=True):
            place[order] = np.arange(len(order), dtype=np.int32)
            row[by_group] = np.argsort(place[rank], kind="stable")
        yield batch, sources


def shifted_tables(
    observations: Units, *, shape: tuple[int, int, int], permutations: int, seed: Seed
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of tables [permutation, block, label, expert] with labels circularly shifted within documents.

    Shifts depend on the seed and the documents only, not on the routing, so that permutations of layers correspond.
    Each batch comes with its slice of the permutations.
    """
    size = _batch_size(shape, len(observations.blocks))
    for batch, shifts in shift_batches(observations.lengths, permutations=permutations, seed=seed, size=size):
        tables, first = np.zeros((len(shifts), *shape)), 0
        for part in observations.parts() if len(shifts) else ():
            own = np.ascontiguousarray(shifts[:, first : first + len(part.blocks)])
            count_shifted(tables, part.codes, own, part.experts, part.masses, part.starts, part.blocks)
            first += len(part.blocks)
        if len(shifts):
            yield batch, tables


def permuted_tables(
    observations: Observations, *, shape: tuple[int, int, int], permutations: int, seed: Seed
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield batches of tables [permutation, block, label, expert] with labels permuted across documents.

    Each document must be one unit. Permutations depend on the seed and the groups of documents only, not on the
    routing, so that permutations of layers correspond. Each batch comes with its slice of the permutations.
    """
    size = _batch_size(shape, len(observations.blocks))
    for batch, sources in permutation_batches(
        observations.group_numbers, permutations=permutations, seed=seed, size=size
    ):
        tables = np.zeros((len(sources), *shape))
        count_permuted(
            tables, observations.codes, sources, observations.experts, observations.masses, observations.unit_blocks
        )
        if len(sources):
            yield batch, tables


def _batch_size(shape: tuple[int, int, int], num_documents: int) -> int:
    """Return how many permutations fit into `BATCH_BYTES`, with their tables and a number for each document."""
    return max(1, int(BATCH_BYTES // (8 * np.prod(shape) + 4 * num_documents)))


def _check_permutations(permutations: int) -> None:
    if permutations < 0:
        raise MeasurementError(f"permutations must be at least 0, got {permutations}: 200 is usual")


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
