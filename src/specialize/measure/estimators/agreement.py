"""Agreement of what is observed of experts with what switching each off does: rank correlation within layers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.information import lift
from specialize.measure.estimators.effects import NUM_SUMS
from specialize.measure.estimators.rank_agreement import (
    Correlations,
    RankAgreement,
    correlate_layer,
    estimate_agreement,
    weigh_blocks,
)

Floats = NDArray[np.float64]
Layers = Iterator[tuple[Floats, Callable[[Floats], Floats]]]
FEWEST_USES = 20  # of a cell, by default


@dataclass(frozen=True)
class Agreement:
    """Agreement of an observed quantity of experts with the measured effects of switching each off.

    Attributes:
        per_use: rank correlation with the per-use effect.
        total: rank correlation with the total effect.
        cells: number of cells of each layer that have enough uses, int64 [layer].
    """

    per_use: RankAgreement
    total: RankAgreement
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

    Noise of lifts and effects, which are measured on few tokens, makes the rank correlation too small. Reliability says
    by how much, and the corrected value is larger accordingly, see `RankAgreement`.

    The interval is a jackknife over blocks of documents, in which lifts and effects are computed anew without half of
    the blocks: rank correlations change in steps, of which a jackknife that deletes one block often sees none. Under
    the null, effects are exchanged between the experts of a layer: all effects of an expert are assigned to another,
    and cells without enough uses of either are left out. The p-value is two-sided, based on the distance from the mean
    under the null.

    Args:
        masses: counts of label and expert of each layer, [layers][block, label, expert], see `count_blocks`.
        effects: sums of `count_effects`, one condition for each expert, [layers][block, label, expert, 4]; over the
            same blocks. Layers are read one after the other, so that they need not all be in memory.
        min_uses: fewest tokens of a label that use the expert, for a cell to be counted.
        permutations: number of permutations under the null; 0 for none.
        seed: seed of the null.
        n_documents: number of documents counted; copied to the estimates.

    Returns:
        Rank correlations of each layer and their mean.

    Raises:
        MeasurementError: shapes do not match, or there is no layer.

    Source:
        Shao & Wu (1989), A general theory for jackknife variance estimation, https://doi.org/10.1214/aos/1176347263.
    """

    def layers() -> Layers:
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
        Rank correlations of each layer and their mean.

    Raises:
        MeasurementError: shapes do not match, or there is no layer.
    """

    def layers() -> Layers:
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


def _measure(layers: Layers, *, min_uses: int, permutations: int, seed: int, n_documents: int | None) -> Agreement:
    """Correlate the observed quantity of each layer, which depends on the weights of blocks, with both effects."""
    found: list[list[Correlations]] = [[], []]
    cells, num_blocks, n_tokens = [], 0, 0
    for number, (sums, observe) in enumerate(layers):
        total = sums.sum(axis=0)
        n_tokens = max(n_tokens, int(total[:, :, 3].max(axis=1, initial=0).sum()))
        num_blocks = len(sums)
        enough = total[:, :, 2] >= max(min_uses, 1)
        cells.append(int(enough.sum()))
        weights = weigh_blocks(num_blocks)
        observed, tables = np.where(enough, observe(weights), np.nan), np.tensordot(weights, sums, axes=1)
        for place, effect in enumerate((_per_use, _total)):
            effects = np.where(enough, effect(tables), np.nan)
            found[place].append(correlate_layer(observed, effects, permutations=permutations, seed=(seed, number)))
    if not cells:
        raise MeasurementError("expected at least one layer, got none: pass the tables of each layer")
    per_use, total_effect = (
        estimate_agreement(each, num_blocks=num_blocks, n_tokens=n_tokens, n_documents=n_documents) for each in found
    )
    return Agreement(per_use, total_effect, np.array(cells))


def _per_use(sums: Floats) -> Floats:
    return divide(sums[..., 0], sums[..., 2])


def _total(sums: Floats) -> Floats:
    return divide(sums[..., 0] + sums[..., 1], sums[..., 3])
