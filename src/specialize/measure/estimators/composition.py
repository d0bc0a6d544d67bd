"""How much of a label a few experts hold: Spec and its distance from an even spread and from the load.

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
    """How concentrated each label is on its top experts, [label + 1]; the last entry is the mean over all tokens.

    Attributes:
        top_share: Spec, the share of the label's mass at the k* experts that hold most of it.
        above_uniform: delta U, the same minus k*/E.
        above_load: the same minus the share of all mass at those experts: what they hold of every label.
        num_top: k*.
    """

    top_share: EstimateArray
    above_uniform: EstimateArray
    above_load: EstimateArray
    num_top: int


def estimate_composition(
    blocks: NDArray[np.float64], null: NDArray[np.float64], *, num_top: int, n_tokens: int, n_documents: int
) -> Composition:
    """Estimate how concentrated labels are on their top experts, corrected for bias, with jackknife intervals.

    The denominator is the label's mass: each of its tokens spreads 1 over its experts. Under the selection rule
    that is its share of slots; as a token's experts are distinct, no expert can hold more than 1/k of it. The top
    experts are found in the very counts that are measured, so that chance alone puts the share above k*/E: the
    null finds its own top experts and shows by how much.

    Args:
        blocks: float64 [block, label, expert].
        null: the same estimator under the null, float64 [permutation, label + 1, 3], see `top_shares`.
        num_top: k*.
        n_tokens: tokens counted.
        n_documents: documents counted.

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
    """Compute the share of each label's mass at its top experts, above nothing, above k*/E and above the load.

    Args:
        counts: float64 [..., label, expert].
        num_top: k*.

    Returns:
        float64 [..., label + 1, 3]; the last label is the mean over all mass. NaN for a label without mass.
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
