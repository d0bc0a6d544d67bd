"""Consecutive repeats: how often neighbouring tokens choose the same experts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks, divide, estimate_blocks, group_documents
from specialize.measure.base.chance import repeat_chance, sharing_chance
from specialize.measure.base.estimate import Estimate
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.neighbours import NeighbourCounter, check_neighbours, check_part, find_runs


@dataclass(frozen=True)
class Repeats:
    """Consecutive repeats of one layer, over all documents or a subset of them.

    Attributes:
        first: share of pairs of neighbouring tokens with the same first expert. Null: tokens in random order.
        shared: share of pairs of neighbouring tokens with at least one expert in common. Null: tokens in random order.
        first_chance: `first` expected if tokens drew their first expert independently from the observed load.
        shared_chance: `shared` expected if tokens drew their experts independently at the observed load, see
            `specialize.measure.base.chance`.
    """

    first: Estimate
    shared: Estimate
    first_chance: Estimate
    shared_chance: Estimate


def measure_repeats(
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    sequences: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    subsets: Sequence[ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> list[Repeats]:
    """Measure how often neighbouring tokens of one layer share their experts.

    Neighbours are consecutive tokens in a sequence of a document. The first expert is that of slot 0; pairs with a
    token without experts are excluded. The null permutes the tokens, with their experts, within each run of
    neighbours. It preserves which experts a sequence uses and tests their order only, so that the p-value is exact
    even where documents differ in their load. Layers measured with the same seed share their permutations.

    Args:
        experts: integers [tokens, k], distinct within a token; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        sequences: see `find_runs`.
        positions: see `find_runs`.
        subsets: bool [documents] for each subset, whether it contains a document; one subset of all by default.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        `Repeats` of each subset, as shares of pairs of neighbours. Values are NaN for a subset without neighbours.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or a token has an expert twice.

    Source:
        Jiang et al. (2024), Mixtral of Experts, section 5, where chance is 12.5 % and 46 % for E = 8, k = 2.
    """
    check_neighbours(experts, documents)
    layer = LayerInput.of(
        experts, documents, num_experts=num_experts, sequences=_optional(sequences), positions=_optional(positions),
        groups=groups,
    )  # fmt: skip
    return repeat_layer(layer, subsets, permutations=permutations, num_blocks=num_blocks, seed=seed)


def _optional(values: ArrayLike | None) -> NDArray[np.integer] | None:
    return None if values is None else np.asarray(values)


def repeat_layer(
    layer: LayerInput,
    subsets: Sequence[ArrayLike] | None = None,
    *,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> list[Repeats]:
    """Measure the consecutive repeats of a layer, as `measure_repeats`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        subsets: bool [documents] for each subset; one subset of all by default.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.
    """
    num_documents, num_experts = len(layer.counts), layer.num_experts
    members = [np.ones(num_documents, dtype=bool)] if subsets is None else [np.asarray(each) for each in subsets]
    for member in members:
        if len(member) < num_documents:
            raise MeasurementError(f"expected subsets [{num_documents} documents], got {len(member)}")
    tokens = np.zeros(num_documents, dtype=np.int64)  # routed tokens of each document
    for part in layer.parts():
        check_part(part)
        np.add.at(tokens, part.documents[part.routed], 1)
    seen = tokens > 0
    rows, sizes = _assign_rows(
        [member[:num_documents] & seen for member in members], layer.groups, num_blocks=num_blocks
    )
    pairs, null = np.zeros((1, sum(sizes), 4)), np.zeros((permutations, sum(sizes), 4))
    loads = np.zeros((sum(sizes), 2 * num_experts + layer.experts.shape[1] + 1))
    drawn = 0
    for part in layer.parts(ordered=True):
        counter = NeighbourCounter(part.experts, find_runs(part.documents, part.sequences, part.positions), rows)
        counter.add_pairs(pairs)
        counter.add_pairs(null, shuffled=True, seed=seed, drawn=drawn)
        counter.add_loads(loads, num_experts)
        drawn += counter.num_draws
    measured, offset = [], 0
    for member, size in zip(members, sizes, strict=True):
        own = slice(offset, offset + size)
        counted = member[:num_documents] & seen
        measured.append(
            _estimate(
                pairs[0, own],
                null[:, own],
                loads[own],
                num_experts=num_experts,
                n_tokens=int(tokens[counted].sum()),
                n_documents=int(counted.sum()),
            )
        )
        offset += size
    return measured


def count_repeats(layer: LayerInput, blocks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Count neighbours and repeats in given blocks of documents, for `repeat_shares`.

    Args:
        layer: the routing decisions, in memory or on disk.
        blocks: int32 [documents], the block of each document; documents with a negative block are not counted.

    Returns:
        float64 [block, 1, 4], numbers of pairs of neighbours: with the same first expert, both with a first expert,
        with a shared expert, both with an expert.
    """
    tables = np.zeros((1, int(blocks.max(initial=-1)) + 1, 4))
    for part in layer.parts(ordered=True):
        check_part(part)
        runs = find_runs(part.documents, part.sequences, part.positions)
        NeighbourCounter(part.experts, runs, blocks[:, None]).add_pairs(tables)
    return tables[0][:, None]


def repeat_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute shares of neighbours [..., 2] (same first expert, shared expert) from `count_repeats` [..., 1, 4]."""
    return divide(counts[..., 0, 0::2], counts[..., 0, 1::2])


def _assign_rows(
    members: Sequence[NDArray[np.bool_]], groups: ArrayLike | None, *, num_blocks: int
) -> tuple[NDArray[np.int32], list[int]]:
    """Assign each subset its own blocks, as consecutive rows of one table.

    Returns:
        Rows of each document, int32 [documents, maximum number of subsets with a document], padded with -1, and
        the number of blocks of each subset.
    """
    rows = np.full((len(members[0]), len(members)), -1, dtype=np.int32)
    sizes: list[int] = []
    for number, member in enumerate(members):
        blocks = assign_blocks(group_documents(np.flatnonzero(member), groups), num_blocks=num_blocks)
        rows[member, number] = sum(sizes) + blocks
        sizes.append(int(blocks.max(initial=-1)) + 1)
    most = int((rows >= 0).sum(axis=1).max(initial=1))
    rows = np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)
    return np.ascontiguousarray(rows[:, :most]), sizes


def _estimate(
    pairs: NDArray[np.float64],
    null: NDArray[np.float64],
    loads: NDArray[np.float64],
    *,
    num_experts: int,
    n_tokens: int,
    n_documents: int,
) -> Repeats:
    if not len(pairs):
        nothing = Estimate(value=float("nan"), unit="share of neighbours", n_tokens=0, n_documents=0)
        return Repeats(nothing, nothing, nothing, nothing)

    def chance(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        first, chosen, sizes = np.split(counts[..., 0, :], [num_experts, 2 * num_experts], axis=-1)
        return np.stack([repeat_chance(first), sharing_chance(chosen, sizes)], axis=-1)

    drawn = repeat_shares(null.sum(axis=1)[:, None])
    unit = "share of neighbours"
    shares = estimate_blocks(
        pairs[:, None], repeat_shares, unit=unit, n_tokens=n_tokens, n_documents=n_documents, null=drawn
    )
    chances = estimate_blocks(
        loads[:, None], chance, unit=unit, n_tokens=n_tokens, n_documents=n_documents, corrected=True
    )
    return Repeats(shares[0], shares[1], chances[0], chances[1])
