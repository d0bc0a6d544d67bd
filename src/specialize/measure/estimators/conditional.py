"""Conditional information I(E;Y|W): how informative routing is about a label given the word.

Only occurrences of the same word are compared, so that a router that depends on token identity alone scores zero.
There are many word types (values of W) with few tokens each, which `specialize.measure.estimators.type_runs` counts
one at a time. All quantities are differences of entropies of the expert given type, or type and label, computed over
all tokens and without each block of documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, SlotRule, check_choice
from specialize.errors import MeasurementError
from specialize.measure.base import information
from specialize.measure.base.blocks import check_order, divide, estimate_blocks, note_sparse
from specialize.measure.base.counting import as_codes, check_range, count_usage, spread_mass, tabulate
from specialize.measure.base.estimate import Estimate, correct_bias, jackknife_values, make_estimates
from specialize.measure.base.nulls import Observations, permuted_tables, shifted_tables
from specialize.measure.estimators.observed import observe_units
from specialize.measure.estimators.type_runs import sort_by_type

MIN_COUNT = 10
MIN_LABELS = 2
_FOR_THE_MEAN = 100  # permutations within types, of which only the mean is used


@dataclass(frozen=True)
class ConditionalInformation:
    """Information of one layer over the tokens of ambiguous word types, in bits, all over the same tokens.

    Attributes:
        conditional_information: I(expert; label | type). Null: labels permuted within a type; for labels of documents,
            also across documents, see `measure_conditional_information`.
        mutual_information: I(expert; label). Null: labels circularly shifted within documents, or permuted across
            documents at document level.
        word_information: I(expert; type). No null.
        num_types: number of ambiguous types.
    """

    conditional_information: Estimate
    mutual_information: Estimate
    word_information: Estimate
    num_types: int


def measure_conditional_information(
    codes: ArrayLike,
    types: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_experts: int,
    weights: ArrayLike | None = None,
    rule: SlotRule = "selection",
    min_count: int = MIN_COUNT,
    min_labels: int = MIN_LABELS,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> ConditionalInformation:
    """Measure how informative routing is about a label among the occurrences of the same word type.

    The unit is the token at both levels; a document label applies to all tokens of the document. A type is ambiguous
    if it has at least ``min_count`` labelled occurrences with at least ``min_labels`` different labels. Tokens of
    other types are excluded from all three quantities.

    The null permutes labels within a type, between documents in which the type occurs equally often: the labels of
    all its occurrences in one document move to another document together, circularly shifted. This preserves the
    labels of each type and the clustering of labels and of routing by document, so that differences between
    documents in both are not mistaken for an association. In simulations with such clustering, freely permuting the
    occurrences of a type rejects a true null up to seven times too often, and shifting them in corpus order three
    times too often. A type whose number of occurrences differs in every document is only shifted within documents,
    which is conservative.

    A label of a document is shared by its tokens of all types, and so may their routing be; with types permuted one by
    one, a true null would be rejected in a fifth of the data sets where whole documents go to one expert. The null of
    document labels therefore has the spread that comes of permuting them across documents, and the mean that comes of
    permuting them within types, as the bias depends on the labels of each type. The test is cautious where words and
    labels are closely associated.

    Compare the value with its ``null_mean``: with few occurrences per type the bias correction is incomplete. Where
    there are fewer than 5 tokens for each degree of freedom, (labels of a type - 1) (experts - 1) summed over
    types, the value can be too high by more than the width of its interval, and ``ci_kind`` says so.

    Args:
        codes: integers [tokens], or [documents] at document level, the labels; negative where there is none.
        types: integers [tokens], the word type, the variable conditioned on; negative where unknown.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], non-decreasing; at document level an index into ``codes``.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set.
        num_experts: number of experts of the layer.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        min_count: minimum number of labelled occurrences of a type.
        min_labels: minimum number of different labels of a type.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the nulls; layers measured with the same seed share their permutations.

    Returns:
        The estimates, in bits.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no token of an ambiguous type
            was routed.
    """
    chosen, masses = spread_mass(np.asarray(experts), None if weights is None else np.asarray(weights), rule=rule)
    labels, places, words = as_codes(codes), as_codes(documents), np.asarray(types)
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    check_choice("level", level, Level, error=MeasurementError)
    if level == "document":
        check_range("documents", places, len(labels))
        labels = labels[places]
    if not len(labels) == len(words) == len(places) == len(chosen):
        raise MeasurementError(
            "codes, types, experts and documents must be of one length, "
            f"got {len(labels)}, {len(words)}, {len(chosen)} and {len(places)}"
        )
    kept = np.flatnonzero(find_ambiguous(words, labels, min_count=min_count, min_labels=min_labels))
    labels, words, places = labels[kept], words[kept], places[kept]
    chosen, masses = chosen[kept], masses[kept]
    routed = ((chosen >= 0) & (masses > 0)).any(axis=1)
    if not routed.any():
        raise MeasurementError(
            f"expected routed tokens of a type with {min_count} occurrences and {min_labels} labels, got none: "
            "trace more text, or lower min_count"
        )
    check_order(places)
    observed = observe_units(labels, chosen, masses, places, groups=groups, num_blocks=num_blocks)
    tokens = sort_by_type(observed, words)
    mass = np.bincount(observed.unit_blocks, weights=np.where(chosen >= 0, masses, 0.0).sum(axis=1))
    remaining = np.append(mass.sum() - mass, mass.sum())  # without each block, and overall
    per_mass = divide(np.ones_like(remaining), remaining)
    given_type = tokens.expert_entropy(np.zeros((1, len(labels)), np.int32), 1, num_experts) * per_mass
    given_both = tokens.expert_entropy(tokens.codes[None], num_labels, num_experts) * per_mass

    def draw(labels_under_null: Iterator[tuple[slice, NDArray[np.int32]]]) -> NDArray[np.float64]:
        drawn = [tokens.expert_entropy(codes, num_labels, num_experts) for _, codes in labels_under_null]
        return given_type - np.concatenate([np.empty((0, len(per_mass))), *drawn]) * per_mass

    if level == "token":
        null = draw(tokens.exchange(permutations=permutations, seed=seed))
    else:
        of_documents = observed.codes[observed.starts[:-1]]
        together = draw(tokens.permute(of_documents, observed.group_numbers, permutations=permutations, seed=seed))
        within_types = draw(tokens.exchange(permutations=min(permutations, _FOR_THE_MEAN), seed=seed))
        null = together - _mean(together) + _mean(within_types)
    shape = (observed.num_blocks, num_labels, num_experts)
    blocks = tabulate(labels, chosen, masses, observed.unit_blocks, shape=shape)
    load = blocks.sum(axis=1)
    unconditional = information.entropy(np.vstack([load.sum(axis=0) - load, load.sum(axis=0)]))

    pairs = len(np.unique(words[routed].astype(np.int64) * num_labels + labels[routed]))
    freedom = (pairs - len(np.unique(words[routed]))) * (np.count_nonzero(load.sum(axis=0)) - 1)
    note = note_sparse(routed.sum(), int(freedom))
    counted: dict[str, Any] = {"n_tokens": int(routed.sum()), "n_documents": len(np.unique(places[routed]))}
    return ConditionalInformation(
        conditional_information=_estimate((given_type - given_both)[0], null, note=note, **counted),
        mutual_information=estimate_blocks(
            blocks,
            information.mutual_information,
            unit="bits",
            corrected=True,
            null=_null_information(observed, level=level, shape=shape, permutations=permutations, seed=seed),
            **counted,
        )[()],
        word_information=_estimate(unconditional - given_type[0], null[:0], **counted),
        num_types=len(tokens.starts) - 1,
    )


def find_ambiguous(
    types: NDArray[np.integer],
    codes: NDArray[np.integer],
    *,
    min_count: int = MIN_COUNT,
    min_labels: int = MIN_LABELS,
) -> NDArray[np.bool_]:
    """Find the labelled tokens of ambiguous types, those with enough occurrences and enough different labels.

    Args:
        types: integers [tokens], the word type of each token; negative where unknown.
        codes: integers [tokens], the label of each token; negative where there is none.
        min_count: minimum number of labelled occurrences of a type.
        min_labels: minimum number of different labels of a type.

    Returns:
        bool [tokens].
    """
    labelled = (types >= 0) & (codes >= 0)
    if not labelled.any():
        return labelled
    _, word = np.unique(types[labelled], return_inverse=True)
    pairs = np.unique(word.astype(np.int64) * (int(codes.max()) + 1) + codes[labelled]) // (int(codes.max()) + 1)
    enough = (np.bincount(word) >= min_count) & (np.bincount(pairs) >= min_labels)
    labelled[labelled] = enough[word]
    return labelled


def _mean(null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over permutations [permutation, block + 1]; zeros where there are none."""
    return null.mean(axis=0) if len(null) else np.zeros(null.shape[1:])


def _estimate(values: NDArray[np.float64], null: NDArray[np.float64], **counted: Any) -> Estimate:
    """Make an estimate of values [block + 1] (without each block, then overall) and null [permutation, block + 1]."""
    num_blocks = len(values) - 1
    value, error = _correct(values)
    return make_estimates(value, error, unit="bits", num_blocks=num_blocks, null=_correct(null)[0], **counted)[()]


def _correct(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    whole, without_one = values[..., -1], values[..., :-1]
    if without_one.shape[-1] < 2:
        return whole, np.full_like(whole, np.nan)
    return correct_bias(whole, without_one, axis=without_one.ndim - 1)


def _null_information(
    observed: Observations, *, level: Level, shape: tuple[int, int, int], permutations: int, seed: int
) -> NDArray[np.float64]:
    """Compute I(expert; label) under the null, [permutation]: labels shifted within or permuted across documents."""
    if level == "token":
        tables = shifted_tables(observed, shape=shape, permutations=permutations, seed=seed)
    else:
        documents = np.repeat(np.arange(len(observed.blocks), dtype=np.int32), np.diff(observed.starts))
        usage = count_usage(
            observed.experts, observed.masses, documents, num_documents=len(observed.blocks), num_experts=shape[2]
        )
        whole = Observations(
            codes=observed.codes[observed.starts[:-1]],
            experts=np.tile(np.arange(shape[2], dtype=np.int16), (len(usage), 1)),
            masses=usage,
            starts=np.arange(len(usage) + 1, dtype=np.int64),
            blocks=observed.blocks,
            groups=observed.groups,
        )
        tables = permuted_tables(whole, shape=shape, permutations=permutations, seed=seed)
    null = np.empty(permutations)
    for batch, counts in tables:
        null[batch], _ = jackknife_values(counts, information.mutual_information)
    return null
