"""The effect of switching experts off on the loss of the tokens of each label, and its parts.

A condition is a set of experts that are switched off. Its change is the rise of the loss of the next token, with these
experts switched off, against the model as it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.counting import as_codes, check_range, tabulate
from specialize.measure.base.estimate import EstimateArray, jackknife_values, make_estimates
from specialize.measure.estimators.label_sums import UNDERCOVERS, are_few, sum_labels

NUM_SUMS = 4  # change where used, change elsewhere, uses, tokens


@dataclass(frozen=True)
class LabelEffects:
    """The effect of a condition on each label, ``effect = exposure x per_use + indirect``.

    Attributes:
        effect: mean change over the label's tokens, [label].
        exposure: share of the label's tokens that use an expert of the condition, [label].
        per_use: mean change over those tokens, [label]; NaN where there are none.
        indirect: sum of the change over the label's other tokens, divided by the number of all its tokens, [label]:
            what reaches them through attention.
    """

    effect: EstimateArray
    exposure: EstimateArray
    per_use: EstimateArray
    indirect: EstimateArray


def measure_effects(
    change: ArrayLike,
    used: ArrayLike,
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
) -> LabelEffects:
    """Measure the effect of one condition on each label, and its parts.

    Tokens whose change is not finite, such as the last of each document, are left out of all parts; so are tokens
    without a label. The change at a token is that of the loss of the token that follows: for labels of the predicted
    token, pass codes through `shift_labels`.

    The null permutes labels of documents across documents, and shifts labels of tokens circularly within their
    document. The p-value is two-sided, based on the distance from the same part over all labelled tokens.

    Args:
        change: rise of the loss of the next token, floating [tokens].
        used: whether a token was routed to an expert of the condition, by the model as it is, bool [tokens].
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        num_labels: number of labels of the label set, including labels that do not occur.
        unit: unit of the change.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null; conditions that have the same labelled tokens and seed have the same permutations.

    Returns:
        The effect and its parts, as counted, with jackknife intervals over document blocks; NaN for a label without
        tokens. The interval of the exposure is symmetric on the logit scale. Intervals of means over fewer than 100
        tokens, or over tokens in fewer than 10 blocks, undercover, and ``ci_kind`` says so.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled token has a change.
    """
    sums = sum_labels(
        split_change(change, used),
        codes,
        documents,
        level=level,
        num_labels=num_labels,
        groups=groups,
        num_blocks=num_blocks,
    )
    blocks = sums.tables()
    value, error = measure_parts(blocks.sum(axis=0)), jackknife_values(blocks, measure_parts)[1]
    null = sums.under_null(measure_parts, permutations=permutations, seed=seed)
    overall = measure_parts(blocks.sum(axis=(0, 1))[None])

    def estimate(part: int, of: str, *, share: bool = False) -> EstimateArray:
        return make_estimates(
            value[part],
            error[part],
            unit=of,
            num_blocks=sums.num_blocks,
            null=null[:, part],
            tested=(np.abs(value[part] - overall[part]), np.abs(null[:, part] - overall[part])),
            scale="logit" if share else "linear",
            **sums.counts,
        )

    few_uses, few_tokens = are_few(blocks[..., 2]), are_few(blocks[..., 3])
    return LabelEffects(
        effect=estimate(0, unit).noted(UNDERCOVERS, few_tokens),
        exposure=estimate(1, "share of the label's tokens", share=True),
        per_use=estimate(2, unit).noted(UNDERCOVERS, few_uses),
        indirect=estimate(3, unit).noted(UNDERCOVERS, few_tokens),
    )


def count_effects(
    change: ArrayLike,
    used: ArrayLike,
    codes: ArrayLike,
    *,
    blocks: ArrayLike,
    num_labels: int,
    num_blocks: int,
) -> NDArray[np.float64]:
    """Sum the change of one condition by label and block of documents, see `measure_agreement`.

    Args:
        change: rise of the loss of the next token, floating [tokens]; tokens whose change is not finite are left out.
        used: whether a token was routed to an expert of the condition, bool [tokens].
        codes: integers [tokens], the label of each token, for labels of documents that of its document; tokens with a
            negative code are left out.
        blocks: integers [tokens], the block of each token.
        num_labels: number of labels; codes are below it.
        num_blocks: number of blocks; block numbers are below it.

    Returns:
        float64 [block, label, 4]: the sum of the change over tokens that use the condition, the sum over the other
        tokens, the number of tokens that use it, and the number of all tokens.

    Raises:
        MeasurementError: shapes do not match, or numbers are out of range.
    """
    masses, labels, places = split_change(change, used), as_codes(codes), as_codes(blocks)
    if not labels.shape == places.shape == masses.shape[:-1]:
        raise MeasurementError(
            f"expected change, codes and blocks of one length, got {masses.shape[:-1]}, {labels.shape} and "
            f"{places.shape}: give each for all tokens"
        )
    check_range("codes", labels, num_labels)
    check_range("blocks", places, num_blocks)
    if places.size and places.min() < 0:
        raise MeasurementError(f"blocks must be at least 0, got {places.min()}: every token needs a block")
    kept = np.isfinite(masses).all(axis=1)
    columns = np.tile(np.arange(NUM_SUMS, dtype=np.int16), (int(kept.sum()), 1))
    return tabulate(labels[kept], columns, masses[kept], places[kept], shape=(num_blocks, num_labels, NUM_SUMS))


def split_change(change: ArrayLike, used: ArrayLike) -> NDArray[np.float64]:
    """Return what `count_effects` sums of each token, float64 [tokens, 4]; NaN where the change is not finite."""
    amounts, uses = np.asarray(change, dtype=np.float64), np.asarray(used)
    if amounts.ndim != 1 or uses.shape != amounts.shape or uses.dtype != bool:
        raise MeasurementError(
            f"expected change [tokens] and used, bool [tokens], got shapes {amounts.shape} and {uses.shape} "
            f"({uses.dtype}): pass one condition"
        )
    masses = np.empty((len(amounts), NUM_SUMS))
    masses[:, 0], masses[:, 1] = np.where(uses, amounts, 0.0), np.where(uses, 0.0, amounts)
    masses[:, 2], masses[:, 3] = uses, 1.0
    return masses


def measure_parts(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute effect, exposure, per-use and indirect effect, [..., 4, label], from sums [..., label, 4]."""
    changed, elsewhere, uses, tokens = np.moveaxis(tables, -1, 0)
    parts = (
        divide(changed + elsewhere, tokens),
        divide(uses, tokens),
        divide(changed, uses),
        divide(elsewhere, tokens),
    )
    return np.stack(parts, axis=-2)
