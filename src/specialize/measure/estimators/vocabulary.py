"""Vocabulary specialization: the concentration of a token type on the experts that process it.

Source: Muennighoff et al. 2024, "OLMoE: Open Mixture-of-Experts Language Models", https://arxiv.org/abs/2409.02060,
N(token, expert) / N(token) for the input, the predicted and the next token; here weighted by tokens, and compared with
the value expected from the load alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import TokenBlocks, block_tokens, divide
from specialize.measure.base.counting import as_codes, check_range
from specialize.measure.base.estimate import Estimate, EstimateArray, correct_bias, make_estimates
from specialize.measure.base.nulls import draw_shifts

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
    ids, chosen, places = _keep(types, experts, documents, num_experts=num_experts, min_count=min_count)
    cut = block_tokens(places, groups=groups, num_blocks=num_blocks)
    order = np.argsort(ids, kind="stable")
    starts = np.append(np.unique(ids[order], return_index=True)[1], len(ids)).astype(np.int64)
    squares = np.zeros((cut.num_blocks + 1, num_experts + 1))
    by_block = np.lexsort((cut.token_blocks, ids))
    _sum_squares(squares, chosen[by_block], cut.token_blocks[by_block], starts)
    sizes, load = _count(chosen, cut, num_experts)
    special = _divide_squares(squares, load)
    expected = _expect(squares[:, -1], sizes, load)
    first = np.append(np.unique(cut.documents, return_index=True)[1], len(ids)).astype(np.int64)
    shifts = draw_shifts(np.diff(first), permutations=permutations, seed=seed)
    drawn = np.zeros((permutations, num_experts + 1))
    _sum_shifted(drawn, chosen, order, cut.documents, first, shifts, starts)
    null = _divide_squares(drawn, np.broadcast_to(load[-1], (permutations, num_experts)))
    counted = {"n_tokens": len(ids), "n_documents": len(cut.blocks)}
    note = ", biased: as counted, above the share of a larger corpus"
    both = [
        _estimate(special, null, note=note, **counted),
        _estimate(special - expected, null - expected[-1], **counted),
    ]
    return VocabularyMeasurement(
        specialization=both[0][num_experts],
        above_load=both[1][num_experts],
        expert_specialization=both[0].part(np.s_[:-1]),
        expert_above_load=both[1].part(np.s_[:-1]),
        num_types=len(starts) - 1,
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
    ids, chosen, _ = _keep(
        types, experts, np.zeros(len(np.asarray(types))), num_experts=num_experts, min_count=min_count
    )
    names, word = np.unique(ids, return_inverse=True)
    table = np.zeros((len(names), num_experts))
    present = chosen >= 0
    np.add.at(table, (np.repeat(word, present.sum(axis=1)), chosen[present]), 1.0)
    counts = np.bincount(word)
    share = table / counts[:, None]
    lift = divide(share, np.broadcast_to(table.sum(axis=0) / len(ids), share.shape))
    chosen_rows = []
    for expert in range(num_experts):
        rows = np.lexsort((names, -counts, -lift[:, expert]))[:most]
        chosen_rows.append(rows[table[rows, expert] > 0])
    sizes = [len(rows) for rows in chosen_rows]
    expert_of, row = np.repeat(np.arange(num_experts), sizes), np.concatenate(chosen_rows)
    return {
        "expert": expert_of,
        "rank": np.concatenate([np.arange(1, size + 1) for size in sizes]),
        "token_id": names[row],
        "share": share[row, expert_of],
        "lift": lift[row, expert_of],
        "count": counts[row],
    }


def _keep(
    types: ArrayLike, experts: ArrayLike, documents: ArrayLike, *, num_experts: int, min_count: int
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int32]]:
    """Keep the routed tokens of types that reach ``min_count``."""
    ids, chosen, places = as_codes(types), np.ascontiguousarray(experts, dtype=np.int16), as_codes(documents)
    if chosen.ndim != 2 or not len(ids) == len(chosen) == len(places):
        raise MeasurementError(
            "types, experts [tokens, k] and documents must be of one length, "
            f"got {len(ids)}, {list(chosen.shape)} and {len(places)}"
        )
    check_range("experts", chosen, num_experts)
    kept = (ids >= 0) & (chosen >= 0).any(axis=1)
    counts = np.bincount(ids[kept]) if kept.any() else np.zeros(0, dtype=np.int64)
    kept[kept] = counts[ids[kept]] >= min_count
    if not kept.any():
        raise MeasurementError(
            f"expected a token type with {min_count} occurrences, got none: trace more text or lower min_count"
        )
    return ids[kept], chosen[kept], places[kept]


def _count(
    experts: NDArray[np.int16], cut: TokenBlocks, num_experts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count tokens [block + 1] and tokens of each expert [block + 1, expert]: without each block, then overall."""
    blocks, present = cut.token_blocks, experts >= 0
    load = np.zeros((cut.num_blocks, num_experts))
    np.add.at(load, (np.repeat(blocks, present.sum(axis=1)), experts[present]), 1.0)
    sizes = np.bincount(blocks, minlength=cut.num_blocks).astype(np.float64)
    return np.append(sizes.sum() - sizes, sizes.sum()), np.vstack([load.sum(axis=0) - load, load.sum(axis=0)])


def _divide_squares(squares: NDArray[np.float64], load: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the specialization of each expert and, last, of the layer, [..., expert + 1]."""
    own = squares[..., :-1]
    together = divide(own.sum(axis=-1), load.sum(axis=-1))
    return np.concatenate([divide(own, load), together[..., None]], axis=-1)


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


@njit(cache=True, nogil=True)
def _sum_squares(result, experts, blocks, starts):  # type: ignore[no-untyped-def]
    """Add N(x, e)^2 / N(x) and, last, types to ``result`` [block + 1, expert + 1]: without each block, overall.

    Tokens are sorted by type and then by block.
    """
    last, num_experts = result.shape[0] - 1, result.shape[1] - 1
    counts, lost = np.zeros(num_experts), np.zeros(num_experts)
    for word in range(len(starts) - 1):
        first, end = starts[word], starts[word + 1]
        counts[:] = 0.0
        _add_experts(counts, experts, first, end)
        size = end - first
        for expert in range(num_experts):
            result[last, expert] += counts[expert] ** 2 / size
        result[last, num_experts] += 1
        run = first
        while run < end:
            stop = run
            while stop < end and blocks[stop] == blocks[run]:
                stop += 1
            lost[:] = 0.0
            _add_experts(lost, experts, run, stop)
            left = size - (stop - run)
            for expert in range(num_experts):
                now = (counts[expert] - lost[expert]) ** 2 / left if left > 0 else 0.0
                result[blocks[run], expert] += now - counts[expert] ** 2 / size
            if left == 0:
                result[blocks[run], num_experts] -= 1
            run = stop
    for block in range(last):
        result[block] += result[last]


@njit(cache=True, nogil=True, inline="always")
def _add_experts(counts, experts, first, end):  # type: ignore[no-untyped-def]
    for token in range(first, end):
        for slot in range(experts.shape[1]):
            if experts[token, slot] >= 0:
                counts[experts[token, slot]] += 1.0


@njit(cache=True, nogil=True, parallel=True)
def _sum_shifted(result, experts, order, documents, first, shifts, starts):  # type: ignore[no-untyped-def]
    """Add N(x, e)^2 / N(x) to ``result`` [permutation, expert + 1], with types shifted within documents."""
    for permutation in prange(len(result)):
        counts = np.zeros(result.shape[1] - 1)
        for word in range(len(starts) - 1):
            counts[:] = 0.0
            for place in range(starts[word], starts[word + 1]):
                document = documents[order[place]]
                row = order[place] + shifts[permutation, document]
                if row >= first[document + 1]:
                    row -= first[document + 1] - first[document]
                for slot in range(experts.shape[1]):
                    if experts[row, slot] >= 0:
                        counts[experts[row, slot]] += 1.0
            size = starts[word + 1] - starts[word]
            for expert in range(len(counts)):
                result[permutation, expert] += counts[expert] ** 2 / size
