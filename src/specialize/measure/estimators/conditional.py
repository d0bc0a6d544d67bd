"""Conditional information I(E;Y|W): how informative routing is about a label given the word.

Only occurrences of the same word are compared, so that a router that depends on token identity alone scores zero.
There are many word types (values of W) with few tokens each, which `specialize.measure.estimators.type_runs` counts
one at a time. All quantities are differences of entropies of the expert given type, or type and label, computed over
all tokens and without each block of documents.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, SlotRule, check_choice
from specialize.errors import MeasurementError
from specialize.measure.base import information
from specialize.measure.base.blocks import assign_blocks, divide, estimate_blocks, group_documents, note_sparse
from specialize.measure.base.counting import add_to, as_codes, check_range
from specialize.measure.base.estimate import Estimate, correct_bias, jackknife_values, make_estimates
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.nulls import permuted_tables, shifted_tables
from specialize.measure.base.units import Observations, ObservedParts
from specialize.measure.estimators.ambiguous import MIN_COUNT, MIN_LABELS, AmbiguousTypes, TypeParts
from specialize.measure.estimators.observed import count_labelled, read_labelled
from specialize.measure.estimators.type_entropies import TypeEntropies, read_ambiguous


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
    layer = LayerInput.of(experts, documents, num_experts=num_experts, weights=weights, rule=rule, groups=groups)
    labels, words, size = as_codes(codes), np.asarray(types), len(layer.experts)
    check_range("codes", labels, num_labels)
    check_range("experts", layer.experts, num_experts)
    check_choice("level", level, Level, error=MeasurementError)
    if level == "document":
        check_range("documents", layer.documents, len(labels))
    if not size == len(words) == len(layer.documents) == (len(labels) if level == "token" else size):
        raise MeasurementError(
            "codes, types, experts and documents must be of one length, "
            f"got {len(labels)}, {len(words)}, {size} and {len(layer.documents)}"
        )
    own = labels if level == "token" else labels[layer.documents]
    ambiguous = AmbiguousTypes(words, own, num_labels=num_labels, min_count=min_count, min_labels=min_labels)
    how = {"permutations": permutations, "num_blocks": num_blocks, "seed": seed}
    measured = condition_layer(layer, own, words, ambiguous, level=level, num_labels=num_labels, **how)
    if measured is None:
        raise MeasurementError(
            f"expected routed tokens of a type with {min_count} occurrences and {min_labels} labels, got none: "
            "trace more text, or lower min_count"
        )
    return measured


def condition_layer(
    layer: LayerInput,
    labels: Any,
    types: Any,
    ambiguous: AmbiguousTypes,
    *,
    level: Level,
    num_labels: int,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> ConditionalInformation | None:
    """Measure conditional information as `measure_conditional_information`, part by part.

    Tokens of ambiguous types are divided by type; parts of about 262,000 tokens are in memory one at a time, the others
    in temporary files.

    Args:
        layer: the routing decisions, in memory or on disk.
        labels: integers [tokens] at both levels, in memory or as a column.
        types: integers [tokens], likewise.
        ambiguous: the ambiguous types of these tokens and labels.
        level: whether labels are of documents.
        num_labels: number of labels of the label set.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the nulls.

    Returns:
        The estimates; None if no token of an ambiguous type was routed.
    """
    kept = ambiguous.restrict(labels, types)
    lengths = count_labelled(kept, layer.counts, num_labels=num_labels)
    present = np.flatnonzero(lengths)
    if not len(present):
        return None
    own = group_documents(present, layer.groups)
    observed = ObservedParts(
        partial(read_labelled, layer, kept), lengths[present], assign_blocks(own, num_blocks=num_blocks), own
    )
    slots, equal = (1 if layer.rule == "first" else layer.experts.shape[1]), layer.rule != "gate"
    blocks = np.full(len(lengths), -1, dtype=np.int32)
    blocks[present] = observed.blocks
    stored: dict[str, Any] = {"slots": slots, "masses": 1 if equal else slots}
    with TypeParts(ambiguous, kept, types, counts=layer.counts, blocks=blocks, **stored) as parts:
        seen = read_ambiguous(observed, layer, kept, types, parts, num_labels=num_labels)
        if not seen.tokens:
            return None
        entropies = TypeEntropies(observed, parts, seen, shape=(num_labels, layer.num_experts))
        given_type, given_both, null = entropies.measure(level, permutations=permutations, seed=seed)
    remaining = np.append(seen.mass.sum() - seen.mass, seen.mass.sum())  # without each block, and overall
    per_mass = divide(np.ones_like(remaining), remaining)
    given_type, given_both = given_type * per_mass, given_both * per_mass
    nulls = [given_type - each * per_mass for each in null]
    null_values = nulls[0] if level == "token" else nulls[0] - _mean(nulls[0]) + _mean(nulls[1])
    shape = (observed.num_blocks, num_labels, layer.num_experts)
    load = seen.table.sum(axis=1)
    unconditional = information.entropy(np.vstack([load.sum(axis=0) - load, load.sum(axis=0)]))
    freedom = (seen.pairs - seen.types) * (np.count_nonzero(load.sum(axis=0)) - 1)
    note = note_sparse(seen.tokens, int(freedom))
    counted: dict[str, Any] = {"n_tokens": seen.tokens, "n_documents": seen.documents}
    return ConditionalInformation(
        conditional_information=_estimate((given_type - given_both)[0], null_values, note=note, **counted),
        mutual_information=estimate_blocks(
            seen.table,
            information.mutual_information,
            unit="bits",
            corrected=True,
            null=_null_information(observed, level=level, shape=shape, permutations=permutations, seed=seed),
            **counted,
        )[()],
        word_information=_estimate(unconditional - given_type[0], null_values[:0], **counted),
        num_types=len(ambiguous.types),
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
    ambiguous = AmbiguousTypes(
        types, codes, num_labels=int(codes.max(initial=0)) + 1, min_count=min_count, min_labels=min_labels
    )
    return ambiguous.hold(types) & (codes >= 0)


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
    observed: ObservedParts, *, level: Level, shape: tuple[int, int, int], permutations: int, seed: int
) -> NDArray[np.float64]:
    """Compute I(expert; label) under the null, [permutation]: labels shifted within or permuted across documents."""
    if level == "token":
        tables = shifted_tables(observed, shape=shape, permutations=permutations, seed=seed)
    else:
        usage, codes, first = np.zeros((len(observed.blocks), 1, shape[2])), [np.zeros(0, dtype=np.int32)], 0
        for part in observed.parts():
            own = first + np.repeat(np.arange(len(part.blocks), dtype=np.int32), part.lengths)
            add_to(usage, np.zeros_like(own), part.experts, part.masses, own.astype(np.int32))
            codes.append(part.codes[part.starts[:-1]])
            first += len(part.blocks)
        whole = Observations(
            codes=np.concatenate(codes),
            experts=np.tile(np.arange(shape[2], dtype=np.int16), (len(usage), 1)),
            masses=usage[:, 0],
            starts=np.arange(len(usage) + 1, dtype=np.int64),
            blocks=observed.blocks,
            groups=observed.groups,
        )
        tables = permuted_tables(whole, shape=shape, permutations=permutations, seed=seed)
    null = np.empty(permutations)
    for batch, counts in tables:
        null[batch], _ = jackknife_values(counts, information.mutual_information)
    return null
