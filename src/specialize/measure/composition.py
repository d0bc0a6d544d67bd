"""How much of a label a few experts hold: Spec and its distance from an even spread and from the load.

Source: Antoine, Béchet & Langlais 2025, "Part-of-Speech Sensitivity of Routers in Mixture of Experts Models",
https://aclanthology.org/2025.coling-main.431, for the share of the top experts and its excess over k*/E.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.blocks import block_tokens, divide, estimate_blocks
from specialize.measure.counting import SlotRule, as_codes, check_range, spread_mass, tabulate
from specialize.measure.estimate import EstimateArray, jackknife_values
from specialize.measure.nulls import Observations, shifted_tables

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


def measure_composition(
    codes: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_labels: int,
    num_experts: int,
    num_top: int | None = None,
    weights: ArrayLike | None = None,
    rule: SlotRule = "selection",
    draws: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> Composition:
    """Measure how concentrated labels of tokens are on their top experts.

    The denominator is the label's mass: each of its tokens spreads 1 over its experts. Under the selection rule
    that is its share of slots; as a token's experts are distinct, no expert can hold more than 1/k of it. The top
    experts are found in the very counts that are measured, so that chance alone puts the share above k*/E: the
    null, labels rotated within documents, finds its own top experts and shows by how much.

    Args:
        codes: integers [tokens]; negative where there is no label.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_labels: labels in the label set, whether or not they occur.
        num_experts: E.
        num_top: k*, the experts that count as a label's own; k unless given.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        draws: draws of the null; 0 for none.
        num_blocks: the most blocks of documents for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates; NaN for a label that does not occur.

    Raises:
        MeasurementError: for arrays that do not fit each other, k* that is not between 1 and E, or when nothing
            that is labelled was routed.
    """
    chosen, masses = spread_mass(np.asarray(experts), None if weights is None else np.asarray(weights), rule=rule)
    labels, places = as_codes(codes), as_codes(documents)
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    if not len(labels) == len(places) == len(chosen):
        raise MeasurementError(
            f"codes, experts and documents must be of one length, got {len(labels)}, {len(chosen)} and {len(places)}"
        )
    num_top = min(np.asarray(experts).shape[1], num_experts) if num_top is None else num_top
    if not 1 <= num_top <= num_experts:
        raise MeasurementError(f"expected between 1 and {num_experts} top experts, got {num_top}")
    kept = labels >= 0
    cut = block_tokens(places[kept], num_blocks=num_blocks)
    seen = Observations(
        codes=labels[kept],
        experts=chosen[kept],
        masses=masses[kept],
        starts=np.append(np.unique(cut.documents, return_index=True)[1], kept.sum()).astype(np.int64),
        blocks=cut.blocks,
    )
    routed = ((seen.experts >= 0) & (seen.masses > 0)).any(axis=1)
    if not routed.any():
        raise MeasurementError("expected a token that has both a label and an expert, got none: check the labels")
    shape = (cut.num_blocks, num_labels, num_experts)

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return top_shares(counts, num_top)

    null = np.empty((draws, num_labels + 1, 3))
    for batch, tables in shifted_tables(seen, shape=shape, draws=draws, seed=seed):
        null[batch], _ = jackknife_values(tables, statistic)
    estimates = estimate_blocks(
        tabulate(seen.codes, seen.experts, seen.masses, cut.token_blocks, shape=shape),
        statistic,
        unit=UNIT,
        n_tokens=int(routed.sum()),
        n_documents=len(np.unique(cut.documents[routed])),
        corrected=True,
        null=null,
    )
    return Composition(_part(estimates, 0), _part(estimates, 1), _part(estimates, 2), num_top)


def _part(estimates: EstimateArray, part: int) -> EstimateArray:
    cells: dict[str, Any] = {
        name: value[..., part] if isinstance(value, np.ndarray) else value for name, value in vars(estimates).items()
    }
    return EstimateArray(**cells)


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
