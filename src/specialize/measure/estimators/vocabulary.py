"""Vocabulary specialization: the concentration of a token type on the experts that process it.

Source: Muennighoff et al. 2024, "OLMoE: Open Mixture-of-Experts Language Models", https://arxiv.org/abs/2409.02060,
N(token, expert) / N(token) for the input, the predicted and the next token; here weighted by tokens, and compared with
the value expected from the load alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.counting import as_codes
from specialize.measure.base.estimate import Estimate, EstimateArray, correct_bias, make_estimates
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.frequent_types import FrequentTypes

MIN_COUNT = 10
UNIT = "share of the type's tokens"


@dataclass(frozen=True)
class VocabularyMeasurement:
    """Vocabulary specialization of one layer and its experts, for token types (ids).

    Attributes:
        specialization: mean over tokens and their experts e of N(x, e) / N(x), x the token's type.
        above_load: the same minus its expectation from the load alone, given the counts of the types.
        expert_specialization: mean over the tokens of each expert, [expert].
        expert_above_load: the same minus its expectation from the load alone, [expert].
        num_types: number of types counted.
    """

    specialization: Estimate
    above_load: Estimate
    expert_specialization: EstimateArray
    expert_above_load: EstimateArray
    num_types: int


def measure_vocabulary(
    types: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    min_count: int = MIN_COUNT,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> VocabularyMeasurement:
    """Measure vocabulary specialization, the mean share of a type's tokens that choose the same expert.

    With N(x) tokens of type x, of which N(x, e) choose expert e, the specialization of an expert is
    ``sum_x N(x, e)^2 / N(x) / sum_x N(x, e)``, which is 1 where the expert receives all tokens of each of its types.
    If experts are assigned to tokens at random at the observed load p, its expectation is exactly
    ``p + (1 - p) (X - 1) / (N - 1)`` for X types of N tokens in all: rare types appear specialized by chance.
    ``above_load`` subtracts this expectation. The null of the p-value circularly shifts types within documents,
    which also preserves the load of each document. Types with fewer than ``min_count`` routed tokens are excluded.

    Args:
        types: integers [tokens], token ids; negative where unknown.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: E.
        min_count: minimum number of routed tokens of a type.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates, shares of the type's tokens; NaN for an expert without tokens. They are not bias-corrected,
        because the expectation from the load has the same bias.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no type reaches ``min_count``.
    """
    layer = _as_layer(types, experts, documents, num_experts=num_experts, groups=groups)
    with FrequentTypes(layer, as_codes(types), min_count=min_count) as kept:
        return concentrate_types(kept, permutations=permutations, num_blocks=num_blocks, seed=seed)


def concentrate_types(
    kept: FrequentTypes, *, permutations: int = 200, num_blocks: int = 50, seed: int = 0
) -> VocabularyMeasurement:
    """Measure vocabulary specialization, as `measure_vocabulary`, part by part.

    Args:
        kept: the tokens of frequent types, with the experts of one layer.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    counted = kept.count(num_blocks=num_blocks)
    special = _divide_squares(counted.squares, counted.load)
    expected = _expect(counted.num_types, counted.sizes, counted.load)
    drawn = kept.permute(permutations=permutations, seed=seed)
    null = _divide_squares(drawn, np.broadcast_to(counted.load[-1], drawn.shape))
    numbers = {"n_tokens": kept.num_tokens, "n_documents": kept.num_documents}
    note = ", biased: as counted, above the share of a larger corpus"
    both = [
        _estimate(special, null, note=note, **numbers),
        _estimate(special - expected, null - expected[-1], **numbers),
    ]
    return VocabularyMeasurement(
        specialization=both[0][-1],
        above_load=both[1][-1],
        expert_specialization=both[0].part(np.s_[:-1]),
        expert_above_load=both[1].part(np.s_[:-1]),
        num_types=len(kept.ids),
    )


def top_tokens(
    types: ArrayLike, experts: ArrayLike, *, num_experts: int, min_count: int = MIN_COUNT, most: int = 10
) -> dict[str, NDArray[Any]]:
    """List the most characteristic types of each expert, by decreasing lift and then by decreasing count.

    Args:
        types: integers [tokens], token ids; negative where unknown.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        num_experts: E.
        min_count: minimum number of routed tokens of a type.
        most: maximum number of types per expert.

    Returns:
        Columns of a table, arrays [rows]: expert, rank (from 1), token_id, share (N(x, e) / N(x)), lift (share divided
        by the share of all counted tokens that choose the expert), count (N(x)).

    Raises:
        MeasurementError: as `measure_vocabulary`.
    """
    documents = np.zeros(len(np.asarray(types)), dtype=np.int32)
    with FrequentTypes(
        _as_layer(types, experts, documents, num_experts=num_experts), as_codes(types), min_count=min_count
    ) as kept:
        return list_top_tokens(kept, most=most)


def list_top_tokens(kept: FrequentTypes, *, most: int = 10) -> dict[str, NDArray[Any]]:
    """List the most characteristic types of each expert, as `top_tokens`.

    Args:
        kept: the tokens of frequent types, with the experts of one layer.
        most: maximum number of types per expert.
    """
    names, counts, table = kept.ids, kept.counts, kept.table.astype(np.float64)
    share = table / counts[:, None]
    lift = divide(share, np.broadcast_to(table.sum(axis=0) / kept.num_tokens, share.shape))
    chosen_rows = []
    for expert in range(table.shape[1]):
        rows = np.lexsort((names, -counts, -lift[:, expert]))[:most]
        chosen_rows.append(rows[table[rows, expert] > 0])
    sizes = [len(rows) for rows in chosen_rows]
    expert_of, row = np.repeat(np.arange(table.shape[1]), sizes), np.concatenate(chosen_rows)
    return {
        "expert": expert_of,
        "rank": np.concatenate([np.arange(1, size + 1) for size in sizes]),
        "token_id": names[row],
        "share": share[row, expert_of],
        "lift": lift[row, expert_of],
        "count": counts[row],
    }


def _as_layer(
    types: ArrayLike, experts: ArrayLike, documents: ArrayLike, *, num_experts: int, groups: ArrayLike | None = None
) -> LayerInput:
    if np.ndim(experts) != 2 or not len(np.asarray(types)) == len(np.asarray(experts)) == len(np.asarray(documents)):
        raise MeasurementError(
            "types, experts [tokens, k] and documents must be of one length, "
            f"got {len(np.asarray(types))}, {list(np.shape(experts))} and {len(np.asarray(documents))}"
        )
    return LayerInput.of(experts, documents, num_experts=num_experts, groups=groups)


def _divide_squares(squares: NDArray[np.float64], load: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the specialization of each expert and, last, of the layer, [..., expert + 1]."""
    together = divide(squares.sum(axis=-1), load.sum(axis=-1))
    return np.concatenate([divide(squares, load), together[..., None]], axis=-1)


def _expect(
    num_types: NDArray[np.float64], sizes: NDArray[np.float64], load: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the expectation from the load alone (hypergeometric), [block + 1, expert + 1]."""
    chance = load / np.maximum(sizes, 1.0)[:, None]
    rare = ((num_types - 1) / np.maximum(sizes - 1, 1.0))[:, None]
    each = chance + (1 - chance) * rare
    together = divide((load * each).sum(axis=1), load.sum(axis=1))
    return np.hstack([each, together[:, None]])


def _estimate(values: NDArray[np.float64], null: NDArray[np.float64], **counted: Any) -> EstimateArray:
    num_blocks = len(values) - 1
    error = np.full(values.shape[1], np.nan)
    if num_blocks > 1:
        _, error = correct_bias(values[-1], values[:-1], axis=0)
    return make_estimates(values[-1], error, unit=UNIT, num_blocks=num_blocks, null=null, **counted)
