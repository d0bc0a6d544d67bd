"""Routing signatures: how similar documents are in their usage of experts, within a label and between labels."""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.nulls import permutation_batches
from specialize.measure.base.units import Observations
from specialize.measure.estimators.label_sums import LabelledSums
from specialize.measure.estimators.usage import observe_usage

UNIT = "cosine"
_BATCH = 16  # permutations of documents that are in memory at a time


@dataclass(frozen=True)
class Signatures:
    """Mean similarity of the routing signatures of two documents.

    Attributes:
        within: of pairs of documents with the same label.
        between: of pairs of documents with different labels.
        difference: within − between. Null: labels permuted over documents.
    """

    within: Estimate
    between: Estimate
    difference: Estimate


def measure_signatures(
    usage: ArrayLike,
    codes: ArrayLike,
    *,
    num_labels: int,
    permutations: int = 1000,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> Signatures:
    """Measure how similar the routing of documents is within and between labels.

    The signature of a document is its usage vector, the mass of each expert; the similarity of two documents is the
    cosine of their vectors, which are not centred: a load that all documents share makes all of them similar, so that
    the difference is what is associated with the label. Means are over all pairs of documents that do not belong
    together: two copies of a text, or two chapters of a book, are alike whatever their label. Pairs are not visited:
    the sum over the pairs of a label is (|s|² − sum_g |s_g|²) / 2, with s the sum of the label's unit vectors, and s_g
    that of its vectors in group g.

    Means over pairs are U-statistics of documents: unbiased for documents that are sampled independently, although
    pairs share documents. Deleting a block deletes all pairs with a document of it. The p-value is one-sided, of a
    difference larger than with labels permuted over documents (over groups, where documents belong together).

    Args:
        usage: mass of each expert in each document, float64 [documents, experts], in tokens.
        codes: integers [documents], the label of each document; negative where there is none.
        num_labels: number of labels of the label set, including labels that do not occur.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group belong together: they stay in one block, see
            `assign_blocks`, and are not compared; default: each document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates, cosines between 0 and 1, as counted. NaN where there is no pair of that kind.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled document was routed.

    Source:
        Hoeffding (1948), A class of statistics with asymptotically normal distribution, for U-statistics; Arvesen
        (1969), Jackknifing U-statistics.
    """
    seen = observe_usage(
        usage, codes, num_labels=num_labels, groups=groups, num_blocks=num_blocks, unit_length=True
    )  # fmt: skip
    blocks, inside, codes = _count(seen)
    batches = permutation_batches(seen.observations.group_numbers, permutations=permutations, seed=seed, size=_BATCH)
    sources = (source for _, batch in batches for source in batch)
    null = np.empty((permutations, 3))
    for batch, tables in seen.permuted(permutations=permutations, seed=seed):
        own = islice(sources, batch.stop - batch.start)
        drawn = [inside.pairs(codes[source], np.zeros_like(codes), num_labels) for source in own]
        null[batch] = mean_similarities(
            np.concatenate([tables, np.reshape(drawn, (*tables.shape[:-1], 4))], axis=-1)[:, 0]
        )
    value, (_, error) = mean_similarities(blocks.sum(axis=0)), jackknife_values(blocks, mean_similarities)
    within, between, difference = (
        make_estimates(
            value[part],
            error[part],
            unit=UNIT,
            num_blocks=seen.num_blocks,
            null=null[:, part] if part == 2 else None,
            **seen.counts,
        )[()]
        for part in range(3)
    )
    return Signatures(within, between, difference)


def count_similarities(
    usage: NDArray[np.float64],
    codes: NDArray[np.integer],
    *,
    num_labels: int,
    groups: NDArray[np.integer] | None,
    blocks: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Sum what `mean_similarities` needs, by given blocks of documents.

    Args:
        usage: as in `measure_signatures`; every document has mass.
        codes: integers [documents], the label of each document; none is negative.
        num_labels: number of labels of the label set.
        groups: integers [documents]; None where each document is a group of its own.
        blocks: int32 [documents], the block of each document.

    Returns:
        float64 [block, label, expert + 5].
    """
    seen = observe_usage(usage, codes, num_labels=num_labels, groups=groups, unit_length=True)
    documents: Any = seen.observations
    return _count(replace(seen, observations=replace(documents, blocks=blocks)))[0]


def _count(seen: LabelledSums) -> tuple[NDArray[np.float64], "_Groups", NDArray[np.int32]]:
    """Return sums by block, the documents that belong together, and the label of each document."""
    (documents,) = seen.observations.parts()
    inside = _Groups.find(documents)
    pairs = inside.pairs(documents.codes, seen.observations.blocks, seen.num_labels)
    return np.concatenate([seen.tables(), pairs], axis=-1), inside, documents.codes


@dataclass(frozen=True)
class _Groups:
    """The documents that belong together with others.

    Attributes:
        vectors: float64 [documents, experts], their unit vectors, sorted by group.
        units: int64 [documents], the place of each among all documents.
        starts: int64 [groups + 1], the first document of each group, and their number.
    """

    vectors: NDArray[np.float64]
    units: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def find(cls, seen: Observations) -> "_Groups":
        _, own, sizes = np.unique(seen.group_numbers, return_inverse=True, return_counts=True)
        units = np.argsort(own, kind="stable")
        units = units[sizes[own[units]] > 1]
        return cls(seen.masses[units, :-1], units, np.append(0, np.cumsum(sizes[sizes > 1])))

    def pairs(self, codes: NDArray[np.int32], blocks: NDArray[np.int32], num_labels: int) -> NDArray[np.float64]:
        """Sum the similarities of documents within a group, and count their pairs, both twice.

        Returns:
            float64 [block, label, 4]: similarities and pairs within a label; in the first row also of all labels.
        """
        found = np.zeros((int(blocks.max()) + 1, num_labels, 4))
        _add_pairs(found[..., :2], codes[self.units], blocks[self.units], self.vectors, self.starts)
        _add_pairs(found[:, :1, 2:], np.zeros_like(codes[self.units]), blocks[self.units], self.vectors, self.starts)
        return found


@njit(cache=True, nogil=True)
def _add_pairs(found, codes, blocks, vectors, starts):  # type: ignore[no-untyped-def]
    """Add to ``found`` [block, label, 2] the similarities and the numbers of pairs within groups, both twice."""
    sums, counts = np.zeros((found.shape[1], vectors.shape[1])), np.zeros(found.shape[1])
    for group in range(len(starts) - 1):
        members = range(starts[group], starts[group + 1])
        for member in members:
            sums[codes[member]] += vectors[member]
            counts[codes[member]] += 1.0
        for member in members:  # each label of the group once: its count is cleared
            label, block = codes[member], blocks[member]
            if counts[label] > 0:
                found[block, label, 0] += (sums[label] ** 2).sum() - counts[label]
                found[block, label, 1] += counts[label] * (counts[label] - 1.0)
                sums[label] = 0.0
                counts[label] = 0.0


def mean_similarities(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute mean cosines within labels, between labels and their difference, [..., 3].

    Args:
        tables: sums of unit vectors, numbers of documents, and pairs within groups as `_Groups` counts them,
            [..., label, expert + 5].
    """
    vectors, sizes, inside = tables[..., :-5], tables[..., -5], tables[..., -4:].sum(axis=-2)
    count = sizes.sum(axis=-1)
    own = (vectors**2).sum(axis=(-2, -1)) - count - inside[..., 0]
    own_pairs = (sizes * (sizes - 1)).sum(axis=-1) - inside[..., 1]
    all_of_them = (vectors.sum(axis=-2) ** 2).sum(axis=-1) - count - inside[..., 2]
    pairs = count * (count - 1) - inside[..., 3]
    within, between = divide(own, own_pairs), divide(all_of_them - own, pairs - own_pairs)
    return np.stack([within, between, within - between], axis=-1)
