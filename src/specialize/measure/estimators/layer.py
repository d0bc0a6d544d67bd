"""Association of the labels of tokens or documents with the experts of one layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, SlotRule
from specialize.errors import MeasurementError
from specialize.measure.base import information
from specialize.measure.base.estimate import (
    Estimate,
    EstimateArray,
    jackknife_values,
    make_estimates,
)
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.nulls import permuted_tables, shifted_tables
from specialize.measure.base.reliability import find_shortage
from specialize.measure.base.units import tabulate_units
from specialize.measure.estimators.composition import Composition, estimate_composition, estimate_shares
from specialize.measure.estimators.observed import ObservedCounts, observe_layer


@dataclass(frozen=True)
class LayerMeasurement:
    """Association of one layer's routing with a label, overall and by expert.

    Attributes:
        mutual_information: I(label; expert) in bits.
        uncertainty_coefficient: I / H(label), the share of the label's entropy that routing explains.
        label_entropy: H(label) in bits.
        load_entropy: H(expert) in bits.
        load: P(expert) over the labelled units, [expert].
        specific_information: how informative each expert is about the label, in bits, [expert].
        lift: P(label | expert) / P(label), [label, expert]. Not bias-corrected, as the bias is small compared with
            the standard error; interval on the log scale; two-sided p-value, based on |log lift|.
        composition: concentration of each label on its top experts; None at document level.
        table: mass float64 [label, expert].
        null_uncertainty: uncertainty coefficient of each permutation under the null, float64 [permutation]. Layers
            measured with the same seed share their permutations, which provides a null for the maximum over layers.
    """

    mutual_information: Estimate
    uncertainty_coefficient: Estimate
    label_entropy: Estimate
    load_entropy: Estimate
    load: EstimateArray
    specific_information: EstimateArray
    lift: EstimateArray
    composition: Composition | None
    table: NDArray[np.float64]
    null_uncertainty: NDArray[np.float64]


def measure_layer(
    codes: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_experts: int,
    weights: ArrayLike | None = None,
    rule: SlotRule = "selection",
    num_top: int | None = None,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> LayerMeasurement:
    """Measure the association of one layer's routing with a label.

    At token level the unit is the token, and the null circularly shifts labels among the labelled tokens of each
    document. At document level the unit is the document, whose mass of 1 is distributed over experts as the mean over
    its tokens, whether tokens or whole sequences were routed, and the null permutes labels across documents (across
    groups, where documents belong together). Intervals
    are delete-one-block jackknife intervals over blocks of documents at both levels.

    Compare a value with its ``null_mean``, not with 0. With too few documents, both remain too high, and intervals
    undercover; ``ci_kind`` of information and uncertainty coefficient says so, see `find_shortage`. The upper end of
    their intervals is at least 0, as they are not negative. With labels of fewer than 200 documents, intervals of the
    entropy of the label and of specific information undercover, and ``ci_kind`` says so.

    Args:
        codes: integers [tokens] or [documents]; negative where there is no label.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing; at document level an index
            into ``codes``.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set, including labels that do not occur.
        num_experts: number of experts of the layer.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        num_top: k*, the number of top experts of a label; k by default.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates. Intervals are NaN with fewer than two documents, quantities of a label or expert that does not
        occur are NaN, and the uncertainty coefficient is NaN where only one label occurs.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, k* is not between 1 and E, or no
            labelled unit was routed.
    """
    layer = LayerInput.of(experts, documents, num_experts=num_experts, weights=weights, rule=rule, groups=groups)
    return associate_layer(
        layer,
        codes,
        level=level,
        num_labels=num_labels,
        num_top=num_top,
        permutations=permutations,
        num_blocks=num_blocks,
        seed=seed,
    )


def associate_layer(
    layer: LayerInput,
    codes: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_top: int | None = None,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> LayerMeasurement:
    """Measure the association of a layer with a label, as `measure_layer` does, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        codes: integers [tokens] or [documents], in memory or on disk.
        level: as in `measure_layer`, like the other arguments.
        num_labels: number of labels of the label set.
        num_top: k*.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    seen, counts = observe_layer(layer, codes, level=level, num_labels=num_labels, num_blocks=num_blocks)
    num_experts = layer.num_experts
    num_top = min(np.shape(layer.experts)[1], num_experts) if num_top is None else num_top
    if not 1 <= num_top <= num_experts:
        raise MeasurementError(f"num_top: expected between 1 and {num_experts} top experts, got {num_top}: k is usual")
    shape = (seen.num_blocks, num_labels, num_experts)
    blocks = tabulate_units(seen, shape=shape)
    null_tables = NULL_TABLES[level](seen, shape=shape, permutations=permutations, seed=seed)
    null_profile = np.empty((permutations, 2 + num_experts))
    null_lift = np.empty((permutations, num_labels, num_experts))
    null_shares = np.empty((permutations, num_labels + 1, 3))
    for batch, tables in null_tables:
        null_profile[batch], _ = jackknife_values(tables, _profile)
        if level == "token":
            null_shares[batch] = estimate_shares(tables, num_top)
        null_lift[batch] = information.lift(tables.sum(axis=1))

    value, error = jackknife_values(blocks, _profile)
    shortage = find_shortage(seen, blocks.sum(axis=0), n_documents=counts.n_documents)
    few = level == "document" and counts.n_documents < ENOUGH_DOCUMENTS
    note = f", undercovers: below {ENOUGH_DOCUMENTS} documents" if few else ""
    without_null = np.empty(0)
    label_entropy, load_entropy = (
        _estimate(*jackknife_values(blocks, entropy), without_null, unit="bits", counts=counts, note=said)
        for entropy, said in ((information.label_entropy, note), (information.load_entropy, ""))
    )
    most = float(np.log2(num_labels)), float(np.log2(num_experts))
    loads = jackknife_values(blocks, information.load)
    return LayerMeasurement(
        mutual_information=_estimate(
            value[0], error[0], null_profile[:, 0], unit="bits", counts=counts, least=0.0, shortage=shortage
        ).at_most(min(most))[()],
        uncertainty_coefficient=_estimate(
            value[1],
            error[1],
            null_profile[:, 1],
            unit="share of H(label)",
            counts=counts,
            least=0.0,
            shortage=shortage,
        ).at_most(1.0)[()],
        label_entropy=label_entropy.at_most(most[0])[()],
        load_entropy=load_entropy.at_most(most[1])[()],
        load=_estimate(*loads, np.empty((0, num_experts)), unit="share", counts=counts),
        specific_information=_estimate(
            value[2:], error[2:], null_profile[:, 2:], unit="bits", counts=counts, note=note
        ),
        lift=_estimate_lift(blocks, null_lift, counts=counts),
        composition=estimate_composition(
            blocks, null_shares, num_top=num_top, n_tokens=counts.n_tokens, n_documents=counts.n_documents
        )
        if level == "token"
        else None,
        table=blocks.sum(axis=0),
        null_uncertainty=null_profile[:, 1],
    )


ENOUGH_DOCUMENTS = 200  # with labels of documents, for the entropy of the label and the information of an expert
NULL_TABLES: dict[str, Any] = {"token": shifted_tables, "document": permuted_tables}


def _profile(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute [I, U, specific information of each expert] in one pass, float64 [..., 2 + expert]."""
    specific = information.specific_information(counts)
    pooled = information.pool_information(specific, information.load(counts))[..., None]
    entropy = information.label_entropy(counts)[..., None]
    share = np.where(entropy > 0, pooled / np.where(entropy > 0, entropy, 1.0), np.nan)
    return np.concatenate([pooled, share, specific], axis=-1)


def _estimate(
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    null: NDArray[np.float64],
    *,
    unit: str,
    counts: ObservedCounts,
    least: float | None = None,
    shortage: str = "",
    note: str = "",
) -> EstimateArray:
    return make_estimates(value, error, unit=unit, null=null, least=least, shortage=shortage, note=note, **vars(counts))


def _estimate_lift(blocks: NDArray[np.float64], null: NDArray[np.float64], *, counts: ObservedCounts) -> EstimateArray:
    value = information.lift(blocks.sum(axis=0))
    _, error = jackknife_values(blocks, information.lift)
    with np.errstate(divide="ignore"):  # log 0 = -inf: a lift of 0 is the most extreme
        tested = np.abs(np.log(value)), np.abs(np.log(null))
    return make_estimates(value, error, unit="ratio", null=null, tested=tested, scale="log", **vars(counts))
