"""Concentration of a label on its top experts: Spec, and its excess over a uniform load and over the observed load.

Source: Antoine, Béchet & Langlais 2025, "Part-of-Speech Sensitivity of Routers in Mixture of Experts Models",
https://aclanthology.org/2025.coling-main.431, for the share of the top experts and its excess over k*/E.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.measure.base.blocks import divide, estimate_blocks
from specialize.measure.base.estimate import EstimateArray

UNIT = "share of the label's mass"


@dataclass(frozen=True)
class Composition:
    """Concentration of each label on its top experts, [label + 1]; the last entry is the mean over all tokens.

    Attributes:
        top_share: Spec, the share of the label's mass at its k* top experts, those with most of its mass.
        above_uniform: delta U, Spec minus k*/E, the share of these experts under a uniform load.
        above_load: Spec minus the share of all mass at the same experts.
        num_top: k*.
    """

    top_share: EstimateArray
    above_uniform: EstimateArray
    above_load: EstimateArray
    num_top: int


def estimate_composition(
    blocks: NDArray[np.float64], null: NDArray[np.float64], *, num_top: int, n_tokens: int, n_documents: int
) -> Composition:
    """Estimate the concentration of labels on their top experts, bias-corrected, with jackknife intervals.

    Shares are normalised by the label's mass, to which each of its tokens contributes 1. Under the selection rule
    this is the share of the label's slots; as a token's experts are distinct, one expert holds at most 1/k of it.
    The top experts are selected on the counts that are measured, so the share exceeds k*/E by chance alone. Each
    permutation under the null selects its own top experts, so the null mean includes this excess.

    Args:
        blocks: float64 [block, label, expert].
        null: the same estimator under the null, float64 [permutation, label + 1, 3], see `top_shares`.
        num_top: k*.
        n_tokens: number of tokens counted.
        n_documents: number of documents counted.

    Returns:
        The estimates; NaN for a label that does not occur.
    """
    estimates = estimate_blocks(
        blocks,
        lambda counts: top_shares(counts, num_top),
        unit=UNIT,
        n_tokens=n_tokens,
        n_documents=n_documents,
        corrected=True,
        null=null,
    )
    share, above_uniform, above_load = (estimates.part(np.s_[..., part]) for part in range(3))
    return Composition(share, above_uniform, above_load, num_top)


def top_shares(counts: ArrayLike, num_top: int) -> NDArray[np.float64]:
    """Compute each label's share at its top experts (Spec), its excess over k*/E and its excess over the load.

    Args:
        counts: float64 [..., label, expert].
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3], shares of the label's mass; the last row is the mean over labels weighted by
        their mass. NaN for a label without mass.
    """
    table = np.asarray(counts, dtype=np.float64)
    by_label, by_expert = table.sum(axis=-1), table.sum(axis=-2)
    total = by_label.sum(axis=-1, keepdims=True)
    top = np.argpartition(-table, num_top - 1, axis=-1)[..., :num_top]
    own = np.take_along_axis(table, top, axis=-1).sum(axis=-1)
    load = np.broadcast_to(divide(by_expert, np.broadcast_to(total, by_expert.shape))[..., None, :], table.shape)
    expected = np.take_along_axis(load, top, axis=-1).sum(axis=-1)
    share = divide(own, by_label)
    uniform = num_top / table.shape[-1]
    each = np.stack([share, share - uniform, share - expected], axis=-1)
    weighted = np.where(by_label[..., None] > 0, each * by_label[..., None], 0.0).sum(axis=-2, keepdims=True)
    return np.concatenate([each, divide(weighted, np.broadcast_to(total[..., None], weighted.shape))], axis=-2)
