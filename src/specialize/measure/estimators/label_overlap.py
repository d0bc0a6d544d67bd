"""Overlap of the experts of two labels: the weighted Jaccard similarity of their shares of mass.

With D the total variation distance of P(expert | a) and P(expert | b), sum min / sum max = (1 - D) / (1 + D). Sampling
makes D too large: the difference of an expert's shares is counted without its sign. With the sign taken from one half
of the documents and the difference from the other half (two-fold cross-fitting), D is too small. The expected values
enclose the truth, so the estimate is that of the middle of both, and the interval spans both, as for the share of the
top experts (see `specialize.measure.estimators.composition`).

Source: Ružička 1958, for the index; Chernozhukov, Lee & Rosen 2013, "Intersection Bounds: Estimation and Inference",
https://doi.org/10.3982/ECTA8718, for the bias of estimated maxima: D is the largest P(S | a) - P(S | b) of a set S.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import EstimateArray, jackknife_values, make_estimates
from specialize.measure.base.shortage import mark_shortage
from specialize.measure.estimators.usage import observe_usage


def measure_label_overlap(
    usage: ArrayLike,
    codes: ArrayLike,
    *,
    num_labels: int,
    permutations: int = 1000,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> EstimateArray:
    """Measure how far two labels use the same experts, ``sum_e min(p_ae, p_be) / sum_e max(p_ae, p_be)``.

    Each document has a mass of 1, which is spread over the experts as that of its tokens is; p_ae is P(expert e |
    label a), the mean over the label's documents. 1: the same usage; 0: no expert in common. The null permutes labels
    over documents (over groups, where documents belong together), and is below 1, as labels of few documents differ by
    chance. The p-value is one-sided, of an overlap smaller than that.

    The value is (1 - D) / (1 + D) of the mean D of the distance as counted and the cross-fitted distance; even and odd
    blocks are the halves. The interval runs from the overlap at the distance as counted + t s to that at the smaller
    of both - t s, with s the jackknife's standard error of the distance. In simulations with 60 to 200 documents, 95 %
    intervals cover the truth in 93 to 100 %. With few documents of a label the value is too large, in simulations by
    .02 for 8 to 12 documents, .03 for 5. A label that has documents in one half of the blocks alone cannot be
    cross-fitted: its overlaps are those as counted, which are too small, and they have no interval.

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
        Estimates [label, label], symmetric; NaN on the diagonal and for labels that do not occur.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled document was routed.
    """
    seen = observe_usage(usage, codes, num_labels=num_labels, groups=groups, num_blocks=num_blocks)
    blocks = seen.tables()
    counted, fitted = _distances(_halve(blocks))
    null = np.empty((permutations, num_labels, num_labels))
    for batch, tables in seen.permuted(permutations=permutations, seed=seed, pooled=False):
        null[batch] = _overlap(np.mean(_distances(_halve(tables)), axis=0))
    value = _overlap((counted + fitted) / 2)
    _, error = jackknife_values(blocks, lambda tables: _distances(tables[..., None, :, :])[0])
    reach = student_t.ppf(0.975, seen.num_blocks - 1) * error if seen.num_blocks > 1 else np.nan
    estimates = make_estimates(
        value,
        error,
        unit="ratio",
        num_blocks=seen.num_blocks,
        null=null,
        tested=(-value, -null),
        ends=(_overlap(counted + reach), _overlap(np.minimum(counted, fitted) - reach)),
        method="from the overlap as counted to the cross-fitted overlap, cautious,",
        **seen.counts,
    )
    halves = _halve(blocks).sum(axis=-1) > 0
    unfitted = ~halves.all(axis=0) | (len(halves) < 2)  # labels
    short = np.isfinite(value) & (unfitted[:, None] | unfitted)
    kind = mark_shortage(None, "a label has documents in one half of the blocks alone; as counted")
    return replace(
        estimates,
        ci_low=np.where(short, np.nan, estimates.ci_low),
        ci_high=np.where(short, np.nan, estimates.ci_high),
        ci_kind=np.where(short, kind, estimates.ci_kind),
    )


def _halve(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add even and odd blocks, [..., half, label, expert]; a single block is the only part."""
    if blocks.shape[-3] < 2:
        return blocks
    return np.stack([blocks[..., half::2, :, :].sum(axis=-3) for half in range(2)], axis=-3)


def _overlap(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute sum min / sum max from total variation distances, which are cut at 0 and 1."""
    kept = np.clip(distance, 0.0, 1.0)
    return np.asarray((1 - kept) / (1 + kept))


def _distances(halves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute total variation distances of labels as counted and cross-fitted, both [..., label, label].

    Args:
        halves: mass in each half of the documents, float64 [..., half, label, expert]; with a single part, and for a
            label that is in one half alone, nothing is cross-fitted, and both are those as counted.
    """
    mass = halves.sum(axis=(-3, -1))
    own = np.nan_to_num(_normalize(halves, halves.sum(axis=-1)))  # P(expert | label) in the half
    in_halves = (halves.sum(axis=-1) > 0).all(axis=-2)  # whether each label is in both
    part = _normalize(halves, np.broadcast_to(mass[..., None, :], halves.shape[:-1]))  # of the label's mass in both
    size, shape = halves.shape[-2], (*mass.shape, halves.shape[-2])
    counted, fitted = np.full(shape, np.nan), np.full(shape, np.nan)
    for label in range(size - 1):  # with all later labels, to limit memory
        first, later = np.s_[..., label, None, :], np.s_[..., label + 1 :, :]
        apart = part[first] - part[later]  # [..., half, later label, expert]
        row = np.abs(apart.sum(axis=-3)).sum(axis=-1) / 2
        crossed = row
        if halves.shape[-3] > 1:
            signs = np.sign(own[first] - own[later])[..., ::-1, :, :]
            both = in_halves[..., label, None] & in_halves[..., label + 1 :]
            crossed = np.where(both, (signs * apart).sum(axis=(-3, -1)) / 2, row)
        for table, values in ((counted, row), (fitted, crossed)):
            table[..., label, label + 1 :] = table[..., label + 1 :, label] = values
    return counted, fitted


def _normalize(tables: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    return divide(tables, np.broadcast_to(mass[..., None], tables.shape))
