"""Selectivity of a set of experts: whether switching it off harms the tokens of one label more than the others."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted, block_tokens, divide
from specialize.measure.base.estimate import Estimate, EstimateArray, jackknife_values, make_estimates
from specialize.measure.estimators.label_sums import UNDERCOVERS, are_few, label_tokens, sum_labels


@dataclass(frozen=True)
class SelectivityComparison:
    """The selectivity of a set of experts for its label, compared with that of random sets.

    The p-value of both is (1 + number of random sets with a selectivity at least as large) / (1 + number of random
    sets), which is uniform, as a rank is, if the set is one more random set.

    Attributes:
        selectivity: that of the set. ``null_mean``, ``null_low`` and ``null_high`` are the mean, the smallest and the
            largest of the random sets.
        difference: the same − the mean of the random sets, paired over blocks of documents. The interval describes
            variation over documents for these random sets. Its null is each random set − their mean.
        random: selectivity of each random set, float64 [random sets].
    """

    selectivity: Estimate
    difference: Estimate
    random: NDArray[np.float64]


def measure_selectivity(
    change: ArrayLike,
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
    """Measure the selectivity of one condition for each label: its effect on the label − on all other labelled tokens.

    The null permutes labels of documents across documents, and shifts labels of tokens circularly within their
    document. The p-value is that of a larger selectivity.

    Args:
        change: rise of the loss of the next token, floating [tokens]; tokens whose change is not finite are left out.
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        num_labels: number of labels of the label set, including labels that do not occur.
        unit: unit of the change.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        Estimates [label], as counted, with jackknife intervals over document blocks, in which both effects vary
        together; NaN for a label without tokens, or with all of them. Intervals undercover with fewer than 100 tokens
        of the label or of others, or with such tokens in fewer than 10 blocks, and ``ci_kind`` says so.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled token has a change.
    """
    amounts = np.asarray(change, dtype=np.float64)
    sums = sum_labels(
        np.stack([amounts, np.ones_like(amounts)], axis=-1),
        codes,
        documents,
        level=level,
        num_labels=num_labels,
        groups=groups,
        num_blocks=num_blocks,
    )
    blocks = sums.tables()
    estimates = make_estimates(
        _against_others(blocks.sum(axis=0)),
        jackknife_values(blocks, _against_others)[1],
        unit=unit,
        num_blocks=sums.num_blocks,
        null=sums.under_null(_against_others, permutations=permutations, seed=seed),
        **sums.counts,
    )
    own = blocks[..., 1]
    others = own.sum(axis=1, keepdims=True) - own
    return estimates.noted(UNDERCOVERS, are_few(own) | are_few(others))


def compare_selectivity(
    change: ArrayLike,
    random_changes: Iterable[ArrayLike],
    codes: ArrayLike,
    documents: ArrayLike,
    *,
    label: int,
    level: Level,
    unit: str = "bits",
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> SelectivityComparison:
    """Compare the selectivity of a set of experts for its label with that of random sets for the same label.

    Args:
        change: rise of the loss of the next token with the set switched off, floating [tokens]; tokens whose change is
            not finite are left out.
        random_changes: the same with each random set switched off (see `draw_matched_sets`), floating [random sets,
            tokens], or one [tokens] after the other, so that they need not all be in memory.
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        label: code of the set's label.
        unit: unit of the change.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.

    Returns:
        The selectivity of the set, its difference from the random sets, and theirs.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, there is no random set, a random set
            has a change at other tokens than the set, or no token has the label, or all of them.
    """
    amounts = np.asarray(change, dtype=np.float64)
    own, places = label_tokens(codes, documents, level=level, shape=amounts.shape, num_labels=np.iinfo(np.int32).max)
    kept = np.isfinite(amounts) & (own >= 0)
    is_label = own[kept] == label
    if not is_label.any() or is_label.all():
        raise MeasurementError(
            f"label: expected the code of a label of some labelled tokens that have a change, got {label}, which "
            f"{'all' if is_label.any() else 'none'} of them have: choose another label"
        )
    seen = block_tokens(places[kept], groups=groups, num_blocks=num_blocks)
    cells = 2 * seen.token_blocks + is_label

    def add_up(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return np.bincount(cells, weights=values, minlength=2 * seen.num_blocks).reshape(-1, 2).astype(np.float64)

    columns = [add_up(None), add_up(amounts[kept])]
    for number, drawn in enumerate(random_changes):
        others = np.asarray(drawn, dtype=np.float64)
        if others.shape != amounts.shape or not np.isfinite(others[kept]).all():
            raise MeasurementError(
                f"random_changes: expected a change at the same tokens as of the set, random set {number} has others: "
                "measure all conditions on the same documents"
            )
        columns.append(add_up(others[kept]))
    if len(columns) == 2:
        raise MeasurementError("random_changes: expected at least one random set, got none: 20 are usual")
    counted: Counted = {"n_tokens": int(kept.sum()), "n_documents": len(seen.blocks)}
    return _compare(np.stack(columns, axis=-1), unit=unit, counted=counted)


def _compare(blocks: NDArray[np.float64], *, unit: str, counted: Counted) -> SelectivityComparison:
    """Make the comparison from [block, other or label, number of tokens, sum of the set, sums of the random sets]."""
    value, error = _compute(blocks.sum(axis=0)), jackknife_values(blocks, _compute)[1]
    random = value[2:]

    few = np.asarray(are_few(blocks[..., 0]).any())

    def estimate(place: int, null: NDArray[np.float64]) -> Estimate:
        found = make_estimates(value[place], error[place], unit=unit, num_blocks=len(blocks), null=null, **counted)
        # of few random sets, not percentiles
        return replace(found.noted(UNDERCOVERS, few)[()], null_low=float(null.min()), null_high=float(null.max()))

    return SelectivityComparison(estimate(1, random), estimate(0, random - random.mean()), random)


def _compute(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the difference, and the selectivity of the set and of random sets, from tables as those of `_compare`."""
    means = divide(tables[..., 1:], np.broadcast_to(tables[..., :1], tables[..., 1:].shape))
    selectivity = means[..., 1, :] - means[..., 0, :]
    return np.concatenate([selectivity[..., :1] - selectivity[..., 1:].mean(axis=-1, keepdims=True), selectivity], -1)


def _against_others(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the mean over all other labels from that of each, [..., label], from sums [..., label, 2]."""
    others = tables.sum(axis=-2, keepdims=True) - tables
    return divide(tables[..., 0], tables[..., 1]) - divide(others[..., 0], others[..., 1])
