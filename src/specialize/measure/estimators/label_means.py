"""Means of a quantity of tokens by label, such as the loss of the next token, or how decided the router is."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level
from specialize.column import compute_column
from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import EstimateArray, jackknife_values, make_estimates
from specialize.measure.estimators.label_sums import LabelledSums, sum_labels, sum_parts

_BITS = 1 / np.log(2)  # in a nat


def choice_entropy(logits: ArrayLike) -> NDArray[np.float64]:
    """Compute the entropy of each token's distribution over experts, the softmax of its router logits.

    Args:
        logits: router logits before the score function, floating [tokens, E].

    Returns:
        float64 [tokens], in bits: 0 where one expert has all probability, log2 E where all are equal; NaN where a
        logit is NaN.
    """
    scores = np.asarray(logits, dtype=np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    weights = np.exp(scores)
    total = weights.sum(axis=1)
    held = np.where(weights > 0, weights * np.where(weights > 0, scores, 0.0), np.where(np.isnan(weights), np.nan, 0.0))
    return np.asarray((np.log(total) - held.sum(axis=1) / total) * _BITS)


def choice_margin(logits: ArrayLike, experts: ArrayLike) -> NDArray[np.float64]:
    """Compute how far each token's chosen experts are above the others: the least chosen − the largest other logit.

    In bits, this is the logarithm of the ratio of their softmax probabilities. It is negative where the choice does
    not follow the logits alone, as with a bias that balances the load, or with groups of experts.

    Args:
        logits: router logits before the score function, floating [tokens, E].
        experts: integers [tokens, k], the chosen experts; negative where a slot holds no expert.

    Returns:
        float64 [tokens], in bits; NaN for a token without experts or with all of them, and where a logit is not finite.
    """
    scores, chosen = np.asarray(logits, dtype=np.float64), np.asarray(experts)
    taken = np.zeros(scores.shape, dtype=bool)
    rows, slots = np.nonzero(chosen >= 0)
    taken[rows, chosen[rows, slots]] = True
    least = np.where(taken, scores, np.inf).min(axis=1)
    largest = np.where(taken, -np.inf, scores).max(axis=1)
    finite = np.isfinite(least) & np.isfinite(largest)
    return np.subtract(least, largest, out=np.full(len(scores), np.nan), where=finite) * _BITS


def measure_label_means(
    values: ArrayLike,
    codes: ArrayLike,
    documents: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    unit: str = "bits",
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> EstimateArray:
    """Measure the mean of a quantity over the tokens of each label.

    The null permutes labels of documents across documents, and shifts labels of tokens circularly within their
    document. The p-value is two-sided, based on the distance from the mean over all labelled tokens.

    Args:
        values: the quantity, floating [tokens]; tokens whose value is not finite are left out.
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        num_labels: number of labels of the label set, including labels that do not occur.
        unit: unit of the values.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        Estimates [label] of the mean, as counted, with jackknife intervals over document blocks; NaN for a label
        without tokens.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled token has a value.
    """
    amounts = np.asarray(values, dtype=np.float64)
    sums = sum_labels(
        np.stack([amounts, np.ones_like(amounts)], axis=-1),
        codes,
        documents,
        level=level,
        num_labels=num_labels,
        groups=groups,
        num_blocks=num_blocks,
    )
    return _estimate(sums, unit=unit, permutations=permutations, seed=seed)


def mean_labels(
    values: Any,
    codes: Any,
    counts: NDArray[np.int64],
    *,
    level: Level,
    num_labels: int,
    unit: str = "bits",
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> EstimateArray | None:
    """Measure the mean of a quantity by label, as `measure_label_means`, part by part; None if no token has a value.

    Args:
        values: floating [tokens], in memory or as a column.
        codes: integers [documents] or [tokens], in memory or as a column.
        counts: int64 [documents], number of tokens of each document.
        level: as in `measure_label_means`, like the other arguments.
        num_labels: number of labels of the label set.
        unit: unit of the values.
        permutations: number of permutations under the null.
        groups: integers [documents].
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """

    def count(rows: slice) -> NDArray[np.float64]:
        amounts = np.asarray(values[rows], dtype=np.float64)
        return np.stack([amounts, np.ones_like(amounts)], axis=-1)

    amounts = compute_column(len(values), count, dtype=np.float64, width=2)
    sums = sum_parts(amounts, codes, counts, level=level, num_labels=num_labels, groups=groups, num_blocks=num_blocks)
    return None if sums is None else _estimate(sums, unit=unit, permutations=permutations, seed=seed)


def _estimate(sums: LabelledSums, *, unit: str, permutations: int, seed: int) -> EstimateArray:
    blocks = sums.tables()
    total = blocks.sum(axis=0)
    value, null = _means(total), sums.under_null(_means, permutations=permutations, seed=seed)
    mean = _means(total.sum(axis=0))
    return make_estimates(
        value,
        jackknife_values(blocks, _means)[1],
        unit=unit,
        num_blocks=sums.num_blocks,
        null=null,
        tested=(np.abs(value - mean), np.abs(null - mean)),
        **sums.counts,
    )


def _means(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide sums of values by numbers of tokens, [..., label]."""
    return divide(tables[..., 0], tables[..., 1])
