"""Concentration of a label on its top experts: Spec, and its excess over a uniform load and over the observed load.

The share of the top experts is a maximum over sets of experts. Counted in the sample that also selects the experts
(plug-in), it is too high; with experts selected in one half of the documents and their share taken in the other half
(two-fold cross-fitting), it is too low. The two expected values enclose the truth, whatever the distance between the
experts' true shares, so the estimate is the middle of both, and the interval spans both.

Source: Antoine, Béchet & Langlais 2025, "Part-of-Speech Sensitivity of Routers in Mixture of Experts Models",
https://aclanthology.org/2025.coling-main.431, for the share of the top experts and its excess over k*/E;
Chernozhukov, Lee & Rosen 2013, "Intersection Bounds: Estimation and Inference", https://doi.org/10.3982/ECTA8718, for
the bias of estimated maxima; Satterthwaite 1946, https://doi.org/10.2307/3002019, for the effective number of blocks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import EstimateArray, make_estimates

UNIT = "share of the label's mass"
MIN_MASS, FEW = 10.0, 5.0  # tokens
# Shares of two experts whose counts differ by less are tied; sums of 1/k in another order differ by rounding.
TIE = 1e-9


@dataclass(frozen=True)
class Composition:
    """Concentration of each label on its top experts, [label + 1]; the last entry is the mean over all tokens.

    Attributes:
        top_share: Spec, the share of the label's mass at its k* top experts, those with most of its mass.
        above_uniform: delta U, Spec minus k*/E, the share of these experts under a uniform load.
        above_load: the largest excess of k* experts over the load: their share of the label's mass minus their share
            of all mass, for the k* experts where this difference is largest.
        num_top: k*.
    """

    top_share: EstimateArray
    above_uniform: EstimateArray
    above_load: EstimateArray
    num_top: int


def estimate_composition(
    blocks: NDArray[np.float64], null: NDArray[np.float64], *, num_top: int, n_tokens: int, n_documents: int
) -> Composition:
    """Estimate the concentration of labels on their top experts.

    Shares are normalised by the label's mass, to which each of its tokens contributes 1. Under the selection rule
    this is the share of the label's slots; as a token's experts are distinct, one expert holds at most 1/k of it.

    The value is that of `estimate_shares`. With ``s`` the linearised standard error of the share over blocks, the
    interval is from the cross-fitted share - t s to the plug-in share + t s, where t is the quantile of Student's t
    distribution with b - 1 degrees of freedom and b = (sum n)^2 / sum n^2 is the effective number of blocks, of the
    label's mass n in each block. Where the top experts are clear, both shares coincide, and the interval is the usual
    one. Where experts are nearly tied it is wider, and covers the truth more often. A label whose mass is below
    `MIN_MASS` tokens has no interval: with 5 tokens or fewer, coverage fell to 90 %.

    Args:
        blocks: float64 [block, label, expert].
        null: the same estimator under the null, float64 [permutation, label + 1, 3], see `estimate_shares`.
        num_top: k*.
        n_tokens: number of tokens counted.
        n_documents: number of documents counted.

    Returns:
        The estimates; NaN for a label that does not occur.
    """
    value, low, high = estimate_shares(blocks, num_top), cross_fit_shares(blocks, num_top), _plug_in(blocks, num_top)
    error, effective = _standard_errors(blocks, num_top)
    reach = (student_t.ppf(0.975, np.maximum(effective - 1, 1))[:, None] * error) if len(blocks) > 1 else np.nan
    mass = blocks.sum(axis=(0, 2))
    too_few = np.append((mass > 0) & (mass < MIN_MASS), False)[:, None]
    reach = np.where(too_few, np.nan, reach)
    uniform = num_top / blocks.shape[-1]
    least, most = np.array([0, -uniform, -1]), np.array([1, 1 - uniform, 1])  # what shares and differences can be
    ends = np.maximum(np.minimum(low, high) - reach, least), np.minimum(np.maximum(low, high) + reach, most)
    estimates = make_estimates(
        value,
        error,
        unit=UNIT,
        num_blocks=len(blocks),
        n_tokens=n_tokens,
        n_documents=n_documents,
        null=null,
        ends=ends,
        method="from cross-fitted to plug-in share",
        note=", effective number of blocks",
    )
    estimates.ci_kind[np.broadcast_to(too_few, value.shape)] = f"none: below {MIN_MASS:g} tokens of the label"
    share, above_uniform, above_load = (estimates.part(np.s_[..., part]) for part in range(3))
    return Composition(share, above_uniform, above_load, num_top)


def top_shares(counts: ArrayLike, num_top: int) -> NDArray[np.float64]:
    """Compute each label's share at its top experts (Spec), its excess over k*/E and the largest excess over the load.

    Args:
        counts: float64 [..., label, expert].
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3], shares of the label's mass; the last row is the mean over labels weighted by
        their mass. NaN for a label without mass.
    """
    table = np.asarray(counts, dtype=np.float64)[..., None, :, :]
    return _measure_shares(table, table, num_top)


def cross_fit_shares(blocks: ArrayLike, num_top: int) -> NDArray[np.float64]:
    """Compute `top_shares` with experts selected in the one half of the blocks and measured in the other.

    Even blocks are one half, odd blocks the other. Each selects the experts for the other, and masses are pooled.

    Args:
        blocks: float64 [..., block, label, expert].
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3], as `top_shares` returns them.
    """
    tables = np.asarray(blocks, dtype=np.float64)
    halves = np.stack([tables[..., half::2, :, :].sum(axis=-3) for half in range(2)], axis=-3)
    return _measure_shares(halves[..., ::-1, :, :], halves, num_top)


def estimate_shares(blocks: ArrayLike, num_top: int) -> NDArray[np.float64]:
    """Compute the mean of plug-in and cross-fitted shares; its bias is at most half of their expected difference.

    Args:
        blocks: float64 [..., block, label, expert]; with one block the plug-in shares are returned.
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3], as `top_shares` returns them.
    """
    tables = np.asarray(blocks, dtype=np.float64)
    plug_in = _plug_in(tables, num_top)
    return plug_in if tables.shape[-3] < 2 else (plug_in + cross_fit_shares(tables, num_top)) / 2


def _plug_in(blocks: NDArray[np.float64], num_top: int) -> NDArray[np.float64]:
    return top_shares(blocks.sum(axis=-3), num_top)


def _measure_shares(selecting: NDArray[np.float64], measured: NDArray[np.float64], num_top: int) -> NDArray[np.float64]:
    """Select experts and measure their shares, pooled over parts of the corpus.

    Args:
        selecting: tables that select the top experts, float64 [..., part, label, expert].
        measured: tables in which they are measured, of the same shape.
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3].
    """
    held = [
        np.einsum("...ple,...ple->...l", _select(view(selecting), num_top), view(measured))
        for view in (np.asarray, _subtract_load)
    ]
    by_label = measured.sum(axis=(-3, -1))
    share, excess = (divide(_append_sum(each), _append_sum(by_label)) for each in held)
    return np.stack([share, share - num_top / measured.shape[-1], excess], axis=-1)


def _subtract_load(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract from the mass of each label [..., label, expert] what the load alone would give it."""
    load = tables.sum(axis=-2, keepdims=True)
    total = np.maximum(load.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    return tables - tables.sum(axis=-1, keepdims=True) * (load / total)


def _select(criterion: NDArray[np.float64], num_top: int) -> NDArray[np.float64]:
    """Return weights [..., expert] of the experts with the largest criterion, of sum k*.

    Experts that tie for the last places share them, so that the result does not depend on the order of experts.
    """
    threshold = np.partition(criterion, -num_top, axis=-1)[..., -num_top, None]
    above, at_least = criterion > threshold + TIE, criterion >= threshold - TIE
    taken, reached = np.count_nonzero(above, axis=-1), np.count_nonzero(at_least, axis=-1)
    portion = ((num_top - taken) / (reached - taken))[..., None]
    return np.where(above, 1.0, at_least * portion)


def _standard_errors(blocks: NDArray[np.float64], num_top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute linearised standard errors [label + 1, 3] of plug-in shares, and effective numbers of blocks [label + 1].

    The top experts are held fixed, as the derivative of a maximum is that of the set which attains it. Near 0 and 1
    they are at least those of `_least_variance`.
    """
    num_blocks, (table, total) = len(blocks), (blocks.sum(axis=0), blocks.sum())
    by_label, by_expert = blocks.sum(axis=2), blocks.sum(axis=1)
    load = table.sum(axis=0) / total
    errors = []
    for view in (np.asarray, _subtract_load):
        weights = _select(view(table), num_top)
        held = np.einsum("ble,le->bl", blocks, weights)
        least = _least_variance(_append_sum(held).sum(axis=0), _append_sum(by_label).sum(axis=0))
        if view is _subtract_load:  # the load is estimated, too
            strays = (by_expert - load * by_expert.sum(axis=1, keepdims=True)) @ weights.T / total
            held -= by_label * (weights @ load) + strays * table.sum(axis=1)
        mass, each = _append_sum(by_label), _append_sum(held)
        ratio = divide(each.sum(axis=0), mass.sum(axis=0))
        residuals = divide(each - ratio * mass, np.broadcast_to(mass.sum(axis=0), mass.shape))
        variance = (residuals**2).sum(axis=0) * num_blocks / max(num_blocks - 1, 1)
        errors.append(np.sqrt(np.maximum(variance, least)))
    effective = divide(mass.sum(axis=0) ** 2, (mass**2).sum(axis=0))
    return np.stack([errors[0], errors[0], errors[1]], axis=-1), effective


def _least_variance(held: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the binomial variance of a share near 0 or 1 that one more token would give; 0 for other shares.

    Blocks cannot tell the error of a share from the mass of `FEW` tokens or less.
    """
    rarer = np.minimum(held, mass - held)
    return np.where(rarer < FEW, divide((rarer + 1) * (1 - divide(rarer, mass)), mass**2), 0.0)


def _append_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the sum over labels [..., label] as another entry."""
    return np.concatenate([values, values.sum(axis=-1, keepdims=True)], axis=-1)
