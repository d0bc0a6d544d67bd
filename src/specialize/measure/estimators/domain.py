"""Domain specialization: the share of a domain's tokens that choose each expert.

Source: Muennighoff et al. 2024, "OLMoE: Open Mixture-of-Experts Language Models", https://arxiv.org/abs/2409.02060,
N(expert, domain) / N(domain).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.counting import add_to, as_codes, check_range, tabulate
from specialize.measure.base.estimate import EstimateArray, jackknife_values, make_estimates
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.nulls import permuted_tables
from specialize.measure.base.routed import has_expert
from specialize.measure.estimators.observed import observe_units

UNIT = "share of the label's tokens"


def measure_domain_specialization(
    codes: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_labels: int,
    num_experts: int,
    permutations: int = 1000,
    counts: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> EstimateArray:
    """Measure the share of each domain's tokens that choose each expert, ``N(expert, domain) / N(domain)``.

    N(domain) is the number of the domain's routed tokens; the shares of a domain sum to k where no slot is empty, and a
    uniform load gives k/E. Tokens are pooled, so that documents are weighted by their length. The null permutes domains
    across documents (across groups, where documents belong together); its mean is the load. P-values are two-sided,
    based on the distance from the load. Intervals are symmetric on the logit scale, as a domain may have few documents;
    a share of 0 or 1 has none.

    Args:
        codes: integers [documents], the domain of each document; negative where there is none.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], index into ``codes``.
        num_labels: number of labels of the label set, including labels that do not occur.
        num_experts: E.
        permutations: number of permutations under the null; 0 for none.
        counts: how often each choice counts, float [tokens, k]; default: once.
        tokens: how many tokens each row stands for, float [tokens]; default: one.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        Estimates [label, expert], not bias-corrected; NaN for a label that does not occur.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled token was routed.
    """
    chosen, labels, places = np.ascontiguousarray(experts, dtype=np.int16), as_codes(codes), as_codes(documents)
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    check_range("documents", places, len(labels))
    if chosen.ndim != 2 or len(chosen) != len(places):
        raise MeasurementError(f"expected experts [{len(places)} tokens, k], got shape {chosen.shape}")
    usage = np.zeros((len(labels), 1, num_experts + 1))
    _add_choices(usage, chosen, places, counts, tokens)
    return _measure(usage[:, 0], labels, num_labels, groups, permutations, num_blocks, seed)


def specialize_domains(
    layer: LayerInput,
    codes: ArrayLike,
    *,
    num_labels: int,
    permutations: int = 1000,
    num_blocks: int = 50,
    seed: int = 0,
) -> EstimateArray:
    """Measure domain specialization, as `measure_domain_specialization`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        codes: integers [documents], the domain of each document; negative where there is none.
        num_labels: number of labels of the label set.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    labels = as_codes(codes)
    check_range("codes", labels, num_labels)
    usage = np.zeros((len(labels), 1, layer.num_experts + 1))
    for part in layer.parts():
        check_range("experts", part.experts, layer.num_experts)
        _add_choices(usage, part.experts, as_codes(part.documents), **part.multiples)
    return _measure(usage[:, 0], labels, num_labels, layer.groups, permutations, num_blocks, seed)


def _add_choices(
    usage: NDArray[np.float64],
    experts: NDArray[np.int16],
    documents: NDArray[np.int32],
    counts: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
) -> None:
    """Add choices of each expert and, last, tokens to ``usage`` [document, 1, expert + 1]."""
    num_experts = usage.shape[2] - 1
    # an additional column counts the tokens, the denominator of the other columns
    slots = np.hstack([experts, np.where(has_expert(experts), num_experts, -1).astype(np.int16)[:, None]])
    masses = np.ones((len(slots), 1)) if counts is None else np.column_stack([np.asarray(counts), np.asarray(tokens)])
    add_to(usage, np.zeros(len(slots), dtype=np.int32), slots, masses, documents)


def _measure(
    usage: NDArray[np.float64],
    labels: NDArray[np.int32],
    num_labels: int,
    groups: ArrayLike | None,
    permutations: int,
    num_blocks: int,
    seed: int,
) -> EstimateArray:
    """Make the estimates from choices of each expert and, last, tokens of each document [document, expert + 1]."""
    num_experts = usage.shape[1] - 1
    kept = np.flatnonzero((labels >= 0) & (usage[:, -1] > 0))
    if not len(kept):
        raise MeasurementError("expected documents with both a label and an expert, got none: check the labels")
    seen = observe_units(
        labels[kept],
        np.tile(np.arange(num_experts + 1, dtype=np.int16), (len(kept), 1)),
        usage[kept],
        kept,
        groups=groups,
        num_blocks=num_blocks,
    )
    blocks = tabulate(
        seen.codes, seen.experts, seen.masses, seen.unit_blocks, shape=(seen.num_blocks, num_labels, num_experts + 1)
    )
    value = _shares(blocks.sum(axis=0))
    _, error = jackknife_values(blocks, _shares)
    pooled = replace(seen, blocks=np.zeros_like(seen.blocks))
    null = np.empty((permutations, num_labels, num_experts))
    for batch, tables in permuted_tables(
        pooled, shape=(1, num_labels, num_experts + 1), permutations=permutations, seed=seed
    ):
        null[batch] = _shares(tables[:, 0])
    load = usage[kept].sum(axis=0)[:-1] / usage[kept, -1].sum()
    return make_estimates(
        value,
        error,
        unit=UNIT,
        num_blocks=seen.num_blocks,
        n_tokens=round(float(usage[kept, -1].sum())),
        n_documents=len(kept),
        null=null,
        tested=(np.abs(value - load), np.abs(null - load)),
        scale="logit",
    )


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return divide(counts[..., :-1], np.broadcast_to(counts[..., -1:], counts[..., :-1].shape))
