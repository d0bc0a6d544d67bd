"""Load balance: how evenly a layer's tokens are distributed over its experts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import MassRule
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted, estimate_blocks
from specialize.measure.base.counting import add_to, check_range, spread_mass
from specialize.measure.base.estimate import Estimate, EstimateArray
from specialize.measure.base.information import load, load_entropy
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.routed import RoutedCount


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
    layer = LayerInput.of(experts, documents, num_experts=num_experts, weights=weights, rule=rule, groups=groups)
    return balance_layer(layer, num_blocks=num_blocks)


def balance_layer(layer: LayerInput, *, num_blocks: int = 50) -> Balance:
    """Measure the load balance of a layer, as `measure_balance`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        num_blocks: maximum number of document blocks.
    """
    blocks, num_experts = layer.blocks(num_blocks), layer.num_experts
    if not layer.counts.any():
        raise MeasurementError("expected tokens, got none: trace a corpus first")
    tables = np.zeros((int(blocks.max()) + 1, 1, num_experts))
    routed = RoutedCount(len(blocks))
    for part in layer.parts():
        chosen, masses = spread_mass(part.experts, part.weights, rule=layer.rule)
        check_range("experts", chosen, num_experts)
        add_to(tables, np.zeros(len(chosen), dtype=np.int32), chosen, masses, blocks[part.documents])
        routed.add(part.routed, part.documents)
    n_tokens = routed.tokens if layer.has_tokens else round(float(tables.sum()))
    counts: Counted = {"n_tokens": n_tokens, "n_documents": routed.num_documents}

    entropy = estimate_blocks(tables, load_entropy, unit="bits", corrected=True, **counts)
    dead = int((tables.sum(axis=(0, 1)) == 0).sum())
    return Balance(
        load=estimate_blocks(tables, load, unit="share", **counts),
        entropy=entropy.at_most(float(np.log2(num_experts)))[()],
        variation=estimate_blocks(tables, load_variation, unit="ratio", corrected=True, **counts)[()],
        peak=estimate_blocks(tables, load_peak, unit="ratio", **counts)[()],
        dead=Estimate(value=float(dead), unit="count", **counts),
    )
