"""Routing signatures: how similar documents are in their usage of experts, within a label and between labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.estimators.usage import observe_usage

UNIT = "cosine"


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
    the difference is what is associated with the label. Means are over all pairs of different documents. The sum over
    the pairs of a group of documents follows from the sum s of its n unit vectors, (|s|² − n) / 2.

    Means over pairs are U-statistics of documents: unbiased for documents that are sampled independently, although
    pairs share documents. Deleting a block deletes all pairs with a document of it. The p-value is one-sided, of a
    difference larger than with labels permuted over documents (over groups, where documents belong together).

    Args:
        usage: mass of each expert in each document, float64 [documents, experts], in tokens.
        codes: integers [documents], the label of each document; negative where there is none.
        num_labels: number of labels of the label set, including labels that do not occur.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
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
    blocks = seen.tables()
    _, error = jackknife_values(blocks, _similarities)
    null = np.empty((permutations, 3))
    for batch, tables in seen.permuted(permutations=permutations, seed=seed):
        null[batch] = _similarities(tables[:, 0])
    value = _similarities(blocks.sum(axis=0))
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


def _similarities(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute mean cosines within labels, between labels and their difference, [..., 3].

    Args:
        tables: sums of unit vectors and, in the last column, numbers of documents, [..., label, expert + 1].
    """
    vectors, sizes = tables[..., :-1], tables[..., -1]
    together, count = vectors.sum(axis=-2), sizes.sum(axis=-1)
    own = ((vectors**2).sum(axis=(-2, -1)) - count) / 2
    own_pairs = (sizes * (sizes - 1)).sum(axis=-1) / 2
    other = ((together**2).sum(axis=-1) - count) / 2 - own
    other_pairs = count * (count - 1) / 2 - own_pairs
    within, between = divide(own, own_pairs), divide(other, other_pairs)
    return np.stack([within, between, within - between], axis=-1)
