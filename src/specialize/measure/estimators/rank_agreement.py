"""Rank correlation of two quantities of experts, both of which are measured on blocks of documents."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.estimate import Estimate, EstimateArray, make_estimates
from specialize.measure.base.random import Seed, generator
from specialize.measure.base.ranks import rank_correlations, step_up

Floats = NDArray[np.float64]
UNIT = "rank correlation"
SPLITS = 50  # of the blocks into halves
LEAST_RELIABILITY = 0.5  # the product of both sides; with less there is no corrected value
RELIABLE = 0.9  # the product of both sides; values with less are marked
BIASED = "biased towards 0 by noise"


@dataclass(frozen=True)
class RankAgreement:
    """Spearman's rank correlation of an observed quantity with effects, within layers.

    Reliability is the rank correlation of a quantity measured in one half of the blocks with itself in the other half,
    the mean r over 50 random splits, stepped up to all blocks by the Spearman–Brown formula ``2 r / (1 + |r|)``. Noise
    makes the correlation of two quantities too small by the factor ``sqrt(reliability x reliability)``.

    Attributes:
        layers: that of each layer, [layer]; NaN where fewer than three cells remain, or all values of a side are equal.
            ``ci_kind`` warns that noise makes it too small where the product of the reliabilities is below 0.9.
        mean: their mean, over the layers that have one.
        corrected_layers: those of quantities without noise, ``layers`` divided by that factor, [layer]. They can exceed
            1 by chance, and are NaN where the product of the reliabilities is below 0.5. Where it is near 0.5, those
            that are not NaN are too large on average.
        corrected_mean: their mean, over the layers that have one.
        observed_reliability: reliability of the observed quantity, float64 [layer]; 1 of one that is taken as given.
        effect_reliability: reliability of the effects, float64 [layer].
    """

    layers: EstimateArray
    mean: Estimate
    corrected_layers: EstimateArray
    corrected_mean: Estimate
    observed_reliability: Floats
    effect_reliability: Floats


@dataclass(frozen=True)
class Correlations:
    """Rank correlations of one layer.

    Attributes:
        whole: over all blocks.
        halves: over random halves of the blocks, each followed by the other half, float64 [halves].
        null: with effects exchanged between experts, float64 [permutation].
        reliabilities: of the observed quantity and of the effects.
    """

    whole: float
    halves: Floats
    null: Floats
    reliabilities: tuple[float, float]


def weigh_blocks(num_blocks: int) -> Floats:
    """Return weights 0 and 1 of the blocks, float64 [1 + halves, blocks]: all, then halves and their other halves.

    Halves are the same in every call, so that layers correspond; blocks are drawn at random already.
    """
    whole = np.ones((1, num_blocks))
    if num_blocks < 2:
        return whole
    order = generator(0).permuted(np.tile(np.arange(num_blocks), (SPLITS, 1)), axis=1)
    first = (order < num_blocks // 2).astype(np.float64)
    return np.vstack([whole, np.stack([first, 1 - first], axis=1).reshape(-1, num_blocks)])


def correlate_layer(observed: Floats, effects: Floats, *, permutations: int, seed: Seed) -> Correlations:
    """Correlate an observed quantity with effects over the cells of a layer.

    Args:
        observed: the observed quantity for each row of `weigh_blocks`, float64 [row, label, expert]; NaN in cells that
            are left out.
        effects: the same of the effects.
        permutations: number of permutations of the experts under the null.
        seed: seed of these permutations.
    """
    found = rank_correlations(_flatten(observed), _flatten(effects))
    order = np.tile(np.arange(effects.shape[2]), (permutations, 1))
    exchanged = np.moveaxis(effects[0][:, generator(seed).permuted(order, axis=1)], 1, 0)
    null = rank_correlations(_flatten(np.broadcast_to(observed[0], exchanged.shape)), _flatten(exchanged))
    return Correlations(float(found[0]), found[1:], null, (_relate_halves(observed), _relate_halves(effects)))


def _relate_halves(measured: Floats) -> float:
    """Return the reliability of a quantity, measured for each row of `weigh_blocks`; NaN with fewer than two blocks."""
    if len(measured) == 1:
        return float("nan")
    return step_up(float(rank_correlations(_flatten(measured[1::2]), _flatten(measured[2::2])).mean()))


def estimate_agreement(
    found: list[Correlations], *, num_blocks: int, n_tokens: int, n_documents: int | None
) -> RankAgreement:
    """Make the estimates of each layer and of their mean."""
    whole = np.array([each.whole for each in found])
    halves, null = np.stack([each.halves for each in found], axis=-1), np.stack([each.null for each in found], axis=-1)
    reliabilities = np.array([each.reliabilities for each in found]).T
    product = np.maximum(reliabilities, 0).prod(axis=0)
    kept = weigh_blocks(num_blocks)[1:].sum(axis=1)

    def estimate(value: Floats, replicates: Floats, drawn: Floats, *, note: str) -> EstimateArray:
        # of a sum, deleting d of n blocks changes the value by d / (n - d) of its variance
        ratio = (kept / (num_blocks - kept)).reshape(-1, *(1,) * value.ndim)
        centre = (value + drawn.sum(axis=0)) / (1 + len(drawn))
        return make_estimates(
            value,
            np.sqrt((ratio * (replicates - value) ** 2).mean(axis=0)) if len(kept) else np.full_like(value, np.nan),
            unit=UNIT,
            num_blocks=num_blocks,
            n_tokens=n_tokens,
            n_documents=n_documents,
            null=drawn,
            tested=(np.abs(value - centre), np.abs(drawn - centre)),
            method="delete-half jackknife",
            note=note,
        )

    def summarize(factor: Floats, drawn: Floats, *, note: str) -> tuple[EstimateArray, EstimateArray]:
        """Make the estimates of layers and of their mean, each layer being multiplied by its factor."""
        parts = whole * factor, halves * factor, drawn
        known = ~np.isnan(parts[0])
        means = [each[..., known].mean(axis=-1) if known.any() else np.full(each.shape[:-1], np.nan) for each in parts]
        return estimate(*parts, note=note), estimate(means[0], means[1], means[2], note=note)

    factor = 1 / np.sqrt(np.where(product >= LEAST_RELIABILITY, product, np.nan))
    measured = summarize(np.ones(len(whole)), null, note="")
    corrected = summarize(factor, null[:0], note=", corrected for noise")
    noisy = ~np.isnan(whole) & ~(product >= RELIABLE)
    layers, mean = (
        _within_limits(each).noted(BIASED, where)
        for each, where in zip(measured, (noisy, np.asarray(noisy.any())), strict=True)
    )
    return RankAgreement(layers, mean[()], corrected[0], corrected[1][()], *reliabilities)


def _within_limits(estimates: EstimateArray) -> EstimateArray:
    """Cut intervals at -1 and 1, the limits of a correlation."""
    return replace(estimates, ci_low=np.maximum(estimates.ci_low, -1.0), ci_high=np.minimum(estimates.ci_high, 1.0))


def _flatten(cells: Floats) -> Floats:
    """Put all cells of each row beside each other, [row, cells]."""
    return cells.reshape(len(cells), int(np.prod(cells.shape[1:])))
