"""Load balance: how evenly a layer's tokens are distributed over its experts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import MassRule
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted, block_tokens, estimate_blocks
from specialize.measure.base.counting import count_blocks
from specialize.measure.base.estimate import Estimate, EstimateArray
from specialize.measure.base.information import load, load_entropy


@dataclass(frozen=True)
class Balance:
    """The load balance of one layer.

    Attributes:
        load: P(expert), the expert's share of all mass, [expert].
        entropy: H(expert) in bits, bias-corrected; log2 E for a uniform load.
        variation: coefficient of variation of the load, see `load_variation`, bias-corrected, as random differences
            between experts add to it.
        peak: maximum over mean load, see `load_peak`, as counted.
        dead: number of experts without any load; without interval.
    """

    load: EstimateArray
    entropy: Estimate
    variation: Estimate
    peak: Estimate
    dead: Estimate


def load_variation(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the coefficient of variation of the load, its standard deviation over experts divided by its mean.

    It is 0 for a uniform load and sqrt(E - 1) where one expert has all of it.

    Args:
        counts: float64 [..., label, expert].

    Returns:
        float64 [...]; NaN for an empty table.
    """
    shares = load(counts)
    return shares.std(axis=-1) * shares.shape[-1]


def load_peak(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the maximum of the load over its mean: 1 for a uniform load, E where one expert has all of it.

    Args:
        counts: float64 [..., label, expert].

    Returns:
        float64 [...]; NaN for an empty table.
    """
    shares = load(counts)
    return shares.max(axis=-1) * shares.shape[-1]


def measure_balance(
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    weights: ArrayLike | None = None,
    rule: MassRule = "selection",
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> Balance:
    """Measure how evenly one layer distributes its tokens over its experts.

    Args:
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.

    Returns:
        The estimates, with jackknife intervals over document blocks; NaN where no token was routed.

    Raises:
        MeasurementError: there are no tokens, arrays do not match in length, or values are out of range.
    """
    cut = block_tokens(documents, groups=groups, num_blocks=num_blocks)
    if not len(cut.documents):
        raise MeasurementError("expected tokens, got none: trace a corpus first")
    tables = count_blocks(
        np.zeros(len(cut.documents), dtype=np.int32),
        experts,
        blocks=cut.token_blocks,
        num_labels=1,
        num_experts=num_experts,
        num_blocks=cut.num_blocks,
        weights=weights,
        rule=rule,
    )
    present = (np.asarray(experts) >= 0).any(axis=1)
    n_tokens = round(float(tables.sum())) if rule == "counts" else int(present.sum())
    counts: Counted = {"n_tokens": n_tokens, "n_documents": len(np.unique(cut.documents[present]))}

    entropy = estimate_blocks(tables, load_entropy, unit="bits", corrected=True, **counts)
    dead = int((tables.sum(axis=(0, 1)) == 0).sum())
    return Balance(
        load=estimate_blocks(tables, load, unit="share", **counts),
        entropy=entropy.at_most(float(np.log2(num_experts)))[()],
        variation=estimate_blocks(tables, load_variation, unit="ratio", corrected=True, **counts)[()],
        peak=estimate_blocks(tables, load_peak, unit="ratio", **counts)[()],
        dead=Estimate(value=float(dead), unit="count", **counts),
    )
