"""Agreement of what is observed of experts with what switching each off does: rank correlation within layers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import Estimate, EstimateArray, correct_bias, make_estimates
from specialize.measure.base.information import lift
from specialize.measure.base.random import generator
from specialize.measure.base.ranks import rank_correlations
from specialize.measure.estimators.effects import NUM_SUMS

Floats = NDArray[np.float64]
FEWEST_USES = 20  # of a cell, by default
UNIT = "rank correlation"


@dataclass(frozen=True)
class RankAgreement:
    """Rank correlations within layers.

    Attributes:
        layers: that of each layer, [layer]; NaN where fewer than three cells remain, or all values of a side are equal.
        mean: their mean, over the layers that have one.
    """

    layers: EstimateArray
    mean: Estimate


@dataclass(frozen=True)
class Agreement:
    """Agreement of an observed quantity with measured effects.

    Attributes:
        per_use: rank correlation with the per-use effect.
        total: rank correlation with the total effect.
        per_use_reliability: that of per-use effects measured in both halves of the documents, stepped up to all
            documents; it says how large a correlation could be, given the noise of the effects.
        total_reliability: the same of total effects.
        cells: number of cells of each layer that have enough uses, int64 [layer].
    """

    per_use: RankAgreement
    total: RankAgreement
    per_use_reliability: RankAgreement
    total_reliability: RankAgreement
    cells: NDArray[np.int64]


def measure_agreement(
    masses: Iterable[ArrayLike],
    effects: Iterable[ArrayLike],
    *,
    min_uses: int = FEWEST_USES,
    permutations: int = 200,
    seed: int = 0,
    n_documents: int | None = None,
) -> Agreement:
    """Measure how the association of expert and label agrees with the effect of the expert on the label.

    The cells of a layer are its pairs of label and expert with at least ``min_uses`` uses. Over them, the lift
    ``P(label | expert) / P(label)`` is correlated with the mean change over the tokens of the label that use the expert
    (per use), and with the mean change over all its tokens (total). The total effect rises with the share of tokens
    that use the expert, and so does the lift; the per-use effect does not.

    The interval is a jackknife over blocks of documents, in which lifts and effects are computed anew without each
    block. Under the null, effects are exchanged between the experts of a layer: all effects of an expert are assigned
    to another, and cells without enough uses of either are left out. The p-value is two-sided, based on the distance
    from the mean under the null.

    Reliability is the rank correlation r of effects measured in the blocks of even number with those in the other
    blocks, over the same cells, stepped up by the Spearman–Brown formula ``2 r / (1 + |r|)``.

    Args:
        masses: counts of label and expert of each layer, [layers][block, label, expert], see `count_blocks`.
        effects: sums of `count_effects`, one condition for each expert, [layers][block, label, expert, 4]; over the
            same blocks. Layers are read one after the other, so that they need not all be in memory.
        min_uses: fewest tokens of a label that use the expert, for a cell to be counted.
        permutations: number of permutations under the null; 0 for none.
        seed: seed of the null.
        n_documents: number of documents counted; copied to the estimates.

    Returns:
        Rank correlations of each layer and their mean, as counted, and reliabilities.

    Raises:
        MeasurementError: shapes do not match, or there is no layer.

    Source:
        Spearman (1910), Correlation calculated from faulty data; Brown (1910), Some experimental results in the
        correlation of mental abilities.
    """

    def layers() -> Iterator[tuple[Floats, Callable[[Floats], Floats]]]:
        for mass, effect in zip(masses, effects, strict=True):
            counts, sums = np.asarray(mass, dtype=np.float64), _check_sums(effect)
            if counts.shape != sums.shape[:-1]:
                raise MeasurementError(
                    f"expected masses {sums.shape[:-1]} [block, label, expert] as of the effects, got {counts.shape}: "
                    "count both in the same blocks"
                )
            yield sums, partial(_weigh_lift, counts)

    return _measure(layers(), min_uses=min_uses, permutations=permutations, seed=seed, n_documents=n_documents)


def measure_score_agreement(
    scores: Iterable[ArrayLike],
    effects: Iterable[ArrayLike],
    *,
    min_uses: int = FEWEST_USES,
    permutations: int = 200,
    seed: int = 0,
    n_documents: int | None = None,
) -> Agreement:
    """Measure how a score of experts, such as saliency, load or the largest lift, agrees with their measured effects.

    As `measure_agreement`, where the cells are the experts of a layer, and effects are over all labels together: the
    mean change over the tokens that use the expert (per use), and over all tokens (total). The interval describes
    variation of the effects over documents; the score is taken as given.

    Args:
        scores: score of each expert, [layers][expert]; NaN where there is none.
        effects: sums of `count_effects`, one condition for each expert, [layers][block, label, expert, 4].
        min_uses: fewest tokens that use the expert, for it to be counted.
        permutations: number of permutations under the null; 0 for none.
        seed: seed of the null.
        n_documents: number of documents counted; copied to the estimates.

    Returns:
        Rank correlations of each layer and their mean, as counted, and reliabilities.

    Raises:
        MeasurementError: shapes do not match, or there is no layer.
    """

    def layers() -> Iterator[tuple[Floats, Callable[[Floats], Floats]]]:
        for score, effect in zip(scores, effects, strict=True):
            fixed, sums = np.asarray(score, dtype=np.float64), _check_sums(effect).sum(axis=1, keepdims=True)
            if fixed.shape != sums.shape[2:3]:
                raise MeasurementError(
                    f"expected scores [expert] of {sums.shape[2]} experts, got shape {fixed.shape}: give one for each"
                )
            yield sums, partial(_repeat, fixed)

    return _measure(layers(), min_uses=min_uses, permutations=permutations, seed=seed, n_documents=n_documents)


def _check_sums(effect: ArrayLike) -> Floats:
    sums = np.asarray(effect, dtype=np.float64)
    if sums.ndim != 4 or sums.shape[-1] != NUM_SUMS or not len(sums):
        raise MeasurementError(
            f"expected effects [block, label, expert, {NUM_SUMS}], got shape {sums.shape}: stack count_effects of each "
            "expert"
        )
    return sums


def _weigh_lift(counts: Floats, weights: Floats) -> Floats:
    """Compute the lift [row, label, expert] of blocks of counts with the weights of each row, [row, block]."""
    return lift(np.tensordot(weights, counts, axes=1))


def _repeat(scores: Floats, weights: Floats) -> Floats:
    """Return the scores for each row of weights, [row, 1, expert]."""
    return np.broadcast_to(scores, (len(weights), 1, len(scores)))


@dataclass
class _Correlations:
    """Rank correlations of one kind: of each layer, without each block, and under the null."""

    whole: list[float]
    without_one: list[Floats]
    null: list[Floats]


def _measure(
    layers: Iterator[tuple[Floats, Callable[[Floats], Floats]]],
    *,
    min_uses: int,
    permutations: int,
    seed: int,
    n_documents: int | None,
) -> Agreement:
    """Correlate the observed quantity of each layer, which depends on the weights of blocks, with both effects."""
    found = [_Correlations([], [], []) for _ in range(4)]
    cells, n_tokens, num_blocks = [], 0, 0
    for number, (sums, observe) in enumerate(layers):
        num_blocks = len(sums)
        total = sums.sum(axis=0)
        n_tokens = max(n_tokens, int(total[:, :, 3].max(axis=1, initial=0).sum()))
        enough = total[:, :, 2] >= max(min_uses, 1)
        cells.append(int(enough.sum()))
        weights = np.vstack([np.ones(num_blocks), 1 - np.eye(num_blocks)])
        even = np.arange(num_blocks) % 2 == 0
        observed = np.where(enough, observe(weights), np.nan)
        measured, first, second = (
            np.where(enough, _effects(np.tensordot(each, sums, axes=1)), np.nan)
            for each in (weights, weights * even, weights * ~even)
        )
        rng = generator((seed, number))
        orders = rng.permuted(np.tile(np.arange(sums.shape[2]), (permutations, 1)), axis=1)
        for kind in range(2):
            found[kind].null.append(
                rank_correlations(
                    np.broadcast_to(observed[0].ravel(), (permutations, observed[0].size)),
                    np.moveaxis(measured[kind, 0][:, orders], 1, 0).reshape(permutations, observed[0].size),
                )
            )
            both = rank_correlations(_rows(observed), _rows(measured[kind]))
            halves = rank_correlations(_rows(first[kind]), _rows(second[kind]))
            for place, values in ((kind, both), (kind + 2, 2 * halves / (1 + np.abs(halves)))):
                found[place].whole.append(values[0])
                found[place].without_one.append(values[1:])
    if not cells:
        raise MeasurementError("expected at least one layer, got none: pass the tables of each layer")
    per_use, total_effect, per_use_reliability, total_reliability = (
        _estimate(each, num_blocks=num_blocks, n_tokens=n_tokens, n_documents=n_documents) for each in found
    )
    return Agreement(per_use, total_effect, per_use_reliability, total_reliability, np.array(cells))


def _effects(sums: Floats) -> Floats:
    """Compute per-use and total effects, [2, ...], from sums [..., 4]."""
    changed, elsewhere, uses, tokens = np.moveaxis(sums, -1, 0)
    return np.stack([divide(changed, uses), divide(changed + elsewhere, tokens)])


def _rows(cells: Floats) -> Floats:
    return cells.reshape(len(cells), -1)


def _estimate(found: _Correlations, *, num_blocks: int, n_tokens: int, n_documents: int | None) -> RankAgreement:
    """Make the estimates of each layer and of their mean."""
    whole, without_one = np.array(found.whole), np.stack(found.without_one)
    null = np.stack(found.null, axis=1) if found.null else np.empty((0, len(whole)))
    known = ~np.isnan(whole)

    def estimate(value: Floats, without: Floats, drawn: Floats) -> EstimateArray:
        _, error = correct_bias(value, without, axis=value.ndim)
        centre = (value + drawn.sum(axis=0)) / (1 + len(drawn))
        return make_estimates(
            value,
            error if num_blocks > 1 else np.full_like(value, np.nan),
            unit=UNIT,
            num_blocks=num_blocks,
            n_tokens=n_tokens,
            n_documents=n_documents,
            null=drawn,
            tested=(np.abs(value - centre), np.abs(drawn - centre)),
        )

    if known.any():
        mean = estimate(whole[known].mean(axis=0), without_one[known].mean(axis=0), null[:, known].mean(axis=1))
    else:
        mean = estimate(np.asarray(np.nan), np.full(without_one.shape[1], np.nan), np.full(len(null), np.nan))
    return RankAgreement(estimate(whole, without_one, null), mean[()])
