"""Association of the labels of tokens or documents with the experts of one layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, SlotRule, check_choice
from specialize.errors import MeasurementError
from specialize.measure.base import information
from specialize.measure.base.counting import (
    as_codes,
    assign_blocks,
    check_range,
    count_usage,
    spread_mass,
    tabulate,
)
from specialize.measure.base.estimate import (
    Estimate,
    EstimateArray,
    jackknife_values,
    make_estimates,
)
from specialize.measure.base.nulls import Observations, permuted_tables, shifted_tables
from specialize.measure.estimators.composition import Composition, estimate_composition, estimate_shares


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
    num_blocks: int = 50,
    seed: int = 0,
) -> LayerMeasurement:
    """Measure the association of one layer's routing with a label.

    At token level the unit is the token, and the null circularly shifts labels among the labelled tokens of each
    document. At document level the unit is the document, whose mass of 1 is distributed over experts as the mean over
    its tokens, whether tokens or whole sequences were routed, and the null permutes labels across documents. Intervals
    are delete-one-block jackknife intervals over blocks of documents at both levels.

    Compare a value with its ``null_mean``, not with 0. The jackknife removes the bias where there are at
    least about twice as many documents as cells of the table (labels x experts). With fewer documents, as with many
    topics and many experts routed by sequence, value and null mean remain too high and intervals undercover.

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
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates. Intervals are NaN with fewer than two documents, quantities of a label or expert that does not
        occur are NaN, and the uncertainty coefficient is NaN where only one label occurs.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, k* is not between 1 and E, or no
            labelled unit was routed.
    """
    chosen, masses = spread_mass(np.asarray(experts), None if weights is None else np.asarray(weights), rule=rule)
    labels, places = as_codes(codes), as_codes(documents)
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    _check_documents(labels, chosen, places, level=level)
    num_top = min(np.shape(experts)[1], num_experts) if num_top is None else num_top
    if not 1 <= num_top <= num_experts:
        raise MeasurementError(f"num_top: expected between 1 and {num_experts} top experts, got {num_top}: k is usual")
    if level == "token":
        seen, counts = _observe_tokens(labels, chosen, masses, places, num_blocks=num_blocks)
    else:
        usage = count_usage(chosen, masses, places, num_documents=len(labels), num_experts=num_experts)
        seen, counts = _observe_documents(labels, usage, places, num_blocks=num_blocks)
    if not counts.n_tokens:
        raise MeasurementError(f"expected {level}s with both a label and an expert, got none: check the labels")

    shape = (seen.num_blocks, num_labels, num_experts)
    blocks = tabulate(seen.codes, seen.experts, seen.masses, seen.unit_blocks, shape=shape)
    null_tables = (shifted_tables if level == "token" else permuted_tables)(
        seen, shape=shape, permutations=permutations, seed=seed
    )
    null_profile, null_lift = (
        np.empty((permutations, 2 + num_experts)),
        np.empty((permutations, num_labels, num_experts)),
    )
    null_shares = np.empty((permutations, num_labels + 1, 3))
    for batch, tables in null_tables:
        null_profile[batch], _ = jackknife_values(tables, _profile)
        if level == "token":
            null_shares[batch] = estimate_shares(tables, num_top)
        null_lift[batch] = information.lift(tables.sum(axis=1))

    value, error = jackknife_values(blocks, _profile)
    without_null = np.empty((0, 2))
    entropies = _estimate(*jackknife_values(blocks, _entropies), without_null, unit="bits", counts=counts)
    loads = jackknife_values(blocks, information.load)
    return LayerMeasurement(
        mutual_information=_estimate(value[:1], error[:1], null_profile[:, :1], unit="bits", counts=counts)[0],
        uncertainty_coefficient=_estimate(
            value[1:2], error[1:2], null_profile[:, 1:2], unit="share of H(label)", counts=counts
        )[0],
        label_entropy=entropies[0],
        load_entropy=entropies[1],
        load=_estimate(*loads, np.empty((0, num_experts)), unit="share", counts=counts),
        specific_information=_estimate(value[2:], error[2:], null_profile[:, 2:], unit="bits", counts=counts),
        lift=_estimate_lift(blocks, null_lift, counts=counts),
        composition=estimate_composition(
            blocks, null_shares, num_top=num_top, n_tokens=counts.n_tokens, n_documents=counts.n_documents
        )
        if level == "token"
        else None,
        table=blocks.sum(axis=0),
        null_uncertainty=null_profile[:, 1],
    )


@dataclass(frozen=True)
class _Counts:
    """Numbers of tokens, documents and blocks counted, as keyword arguments of an estimate."""

    n_tokens: int
    n_documents: int
    num_blocks: int


def _check_documents(
    labels: NDArray[np.int32], experts: NDArray[np.int16], documents: NDArray[np.int32], *, level: Level
) -> None:
    check_choice("level", level, Level, error=MeasurementError)
    if len(documents) != len(experts) or (level == "token" and len(labels) != len(experts)):
        raise MeasurementError(
            "codes, experts and documents must be of one length, "
            f"got {len(labels)}, {len(experts)} and {len(documents)}"
        )
    if len(documents) and (documents[0] < 0 or np.any(documents[1:] < documents[:-1])):
        raise MeasurementError("documents: expected non-decreasing numbers from 0, got others: sort tokens by document")
    if level == "document":
        check_range("documents", documents, len(labels))


def _observe_tokens(
    labels: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    documents: NDArray[np.int32],
    *,
    num_blocks: int,
) -> tuple[Observations, _Counts]:
    """Keep the labelled tokens, routed by this layer or not, so that blocks and nulls of layers correspond."""
    labelled = labels >= 0
    _, first, lengths = np.unique(documents[labelled], return_index=True, return_counts=True)
    seen = Observations(
        codes=labels[labelled],
        experts=experts[labelled],
        masses=masses[labelled],
        starts=np.append(first, lengths.sum()).astype(np.int64),
        blocks=assign_blocks(len(first), num_blocks=num_blocks),
    )
    routed = ((seen.experts >= 0) & (seen.masses > 0)).any(axis=1)
    n_documents = int(np.count_nonzero(np.add.reduceat(routed, first))) if len(first) else 0
    return seen, _Counts(int(routed.sum()), n_documents, seen.num_blocks)


def _observe_documents(
    labels: NDArray[np.int32], usage: NDArray[np.float64], documents: NDArray[np.int32], *, num_blocks: int
) -> tuple[Observations, _Counts]:
    """Keep the labelled documents that have tokens, routed by this layer or not."""
    kept = np.flatnonzero((labels >= 0) & (np.bincount(documents, minlength=len(labels)) > 0))
    routed = usage[kept].sum(axis=1)
    seen = Observations(
        codes=labels[kept],
        experts=np.tile(np.arange(usage.shape[1], dtype=np.int16), (len(kept), 1)),
        masses=usage[kept] / np.where(routed > 0, routed, 1.0)[:, None],
        starts=np.arange(len(kept) + 1, dtype=np.int64),
        blocks=assign_blocks(len(kept), num_blocks=num_blocks),
    )
    return seen, _Counts(round(float(routed.sum())), int(np.count_nonzero(routed)), seen.num_blocks)


def _profile(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute [I, U, specific information of each expert] in one pass, float64 [..., 2 + expert]."""
    specific = information.specific_information(counts)
    pooled = information.pool_information(specific, information.load(counts))[..., None]
    entropy = information.label_entropy(counts)[..., None]
    share = np.where(entropy > 0, pooled / np.where(entropy > 0, entropy, 1.0), np.nan)
    return np.concatenate([pooled, share, specific], axis=-1)


def _entropies(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([information.label_entropy(counts), information.load_entropy(counts)], axis=-1)


def _estimate(
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    null: NDArray[np.float64],
    *,
    unit: str,
    counts: _Counts,
) -> EstimateArray:
    return make_estimates(value, error, unit=unit, null=null, **vars(counts))


def _estimate_lift(blocks: NDArray[np.float64], null: NDArray[np.float64], *, counts: _Counts) -> EstimateArray:
    value = information.lift(blocks.sum(axis=0))
    _, error = jackknife_values(blocks, information.lift)
    with np.errstate(divide="ignore"):  # log 0 = -inf: a lift of 0 is the most extreme
        tested = np.abs(np.log(value)), np.abs(np.log(null))
    return make_estimates(value, error, unit="ratio", null=null, tested=tested, log_scale=True, **vars(counts))
