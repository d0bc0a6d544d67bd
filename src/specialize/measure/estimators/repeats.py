"""How often neighbouring tokens go to the same experts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import block_tokens, divide, estimate_blocks
from specialize.measure.base.chance import repeat_chance, sharing_chance
from specialize.measure.base.counting import as_codes, assign_blocks, check_range
from specialize.measure.base.estimate import Estimate


@dataclass(frozen=True)
class Repeats:
    """Consecutive repeats of one layer, over all documents or a group of them.

    Attributes:
        first: share of neighbouring tokens with the same first expert; against the same tokens in random order.
        shared: share of neighbouring tokens with any expert in common; against the same.
        first_chance: what `first` would be if every token drew its first expert from the observed load.
        shared_chance: what `shared` would be if every token drew its experts at the observed load, see
            `specialize.measure.base.chance`.
    """

    first: Estimate
    shared: Estimate
    first_chance: Estimate
    shared_chance: Estimate


@dataclass(frozen=True)
class Runs:
    """Stretches of tokens that follow each other in one sequence of one document.

    Attributes:
        starts: int64 [runs + 1], first token of each; its last entry is the number of tokens.
        documents: int32 [runs], the document of each.
    """

    starts: NDArray[np.int64]
    documents: NDArray[np.int32]


def find_runs(documents: ArrayLike, sequences: ArrayLike | None = None, positions: ArrayLike | None = None) -> Runs:
    """Cut tokens where a document or a sequence ends, or where positions leave a gap.

    Args:
        documents: integers [tokens], the document of each token.
        sequences: integers [tokens], the window that went through the model; one a document unless given.
        positions: integers [tokens], the place in that window; without gaps unless given.
    """
    places = as_codes(documents)
    broken = np.ones(len(places), dtype=bool)
    broken[1:] = places[1:] != places[:-1]
    if sequences is not None:
        broken[1:] |= np.diff(np.asarray(sequences)) != 0
    if positions is not None:
        broken[1:] |= np.diff(np.asarray(positions)) != 1
    starts = np.flatnonzero(broken)
    return Runs(np.append(starts, len(places)), places[starts])


def measure_repeats(
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    sequences: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    groups: Sequence[ArrayLike] | None = None,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
) -> list[Repeats]:
    """Measure how often neighbouring tokens of one layer share their experts.

    Neighbours follow each other in a sequence of a document. The first expert is the one in slot 0; tokens
    without experts have no neighbours. The null puts the tokens of every run of neighbours in random order with
    their experts: what a sequence is routed to stays, in what order is in question, so that the p-value is exact
    whatever the mixes of documents. One seed gives the same orders in every layer.

    Args:
        experts: integers [tokens, k], distinct within a token; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: experts of the layer.
        sequences: see `find_runs`.
        positions: see `find_runs`.
        groups: bool [documents] each, the documents of a group; one group of all unless given.
        permutations: number of permutations under the null; 0 for none.
        num_blocks: the most blocks of documents.
        seed: seed of the null.

    Returns:
        `Repeats` of each group. Values are NaN where a group has no neighbours.

    Raises:
        MeasurementError: for arrays that do not fit each other.

    Source:
        Jiang et al. (2024), Mixtral of Experts, section 5: chance 12.5 % and 46 % for E = 8, k = 2.
    """
    chosen, places = _check(experts, documents, num_experts)
    num_documents = int(places[-1]) + 1 if len(places) else 0
    members = [np.ones(num_documents, dtype=bool)] if groups is None else [np.asarray(each) for each in groups]
    for member in members:
        if len(member) < num_documents:
            raise MeasurementError(f"groups must tell of {num_documents} documents each, got {len(member)}")
    present = (chosen >= 0).any(axis=1)
    seen = np.bincount(places[present], minlength=num_documents) > 0
    rows, sizes = _assign_rows([member[:num_documents] & seen for member in members], num_blocks=num_blocks)
    runs = find_runs(places, sequences, positions)
    layer = _Layer(chosen, runs, rows, sum(sizes))
    pairs = layer.count_pairs(shuffled=False, permutations=1, seed=seed)[0]
    null = layer.count_pairs(shuffled=True, permutations=permutations, seed=seed)
    loads = layer.count_loads(num_experts)
    tokens = np.bincount(places[present], minlength=num_documents)
    measured, offset = [], 0
    for member, size in zip(members, sizes, strict=True):
        own = slice(offset, offset + size)
        counted = member[:num_documents] & seen
        measured.append(
            _estimate(
                pairs[own],
                null[:, own],
                loads[own],
                num_experts=num_experts,
                n_tokens=int(tokens[counted].sum()),
                n_documents=int(counted.sum()),
            )
        )
        offset += size
    return measured


def count_repeats(
    experts: ArrayLike,
    documents: ArrayLike,
    blocks: ArrayLike,
    *,
    num_experts: int,
    sequences: ArrayLike | None = None,
    positions: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Count neighbours and repeats in given blocks of documents, for `repeat_shares`.

    Args:
        experts: as in `measure_repeats`.
        documents: as in `measure_repeats`.
        blocks: integers [documents], the block of each document; negative where it is not counted.
        num_experts: as in `measure_repeats`.
        sequences: see `find_runs`.
        positions: see `find_runs`.

    Returns:
        float64 [block, 1, 4]: neighbours with the same first expert, neighbours with first experts, neighbours that
        share an expert, neighbours with experts.
    """
    chosen, places = _check(experts, documents, num_experts)
    rows = as_codes(blocks)[:, None]
    layer = _Layer(chosen, find_runs(places, sequences, positions), rows, int(rows.max(initial=-1)) + 1)
    return layer.count_pairs(shuffled=False, permutations=1, seed=0)[0][:, None]


def repeat_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn counts [..., 1, 4] of `count_repeats` into shares [..., 2]: the same first expert, any expert shared."""
    return divide(counts[..., 0, 0::2], counts[..., 0, 1::2])


def _check(experts: ArrayLike, documents: ArrayLike, num_experts: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    chosen, places = np.ascontiguousarray(experts, dtype=np.int16), as_codes(documents)
    if chosen.ndim != 2 or len(chosen) != len(places):
        raise MeasurementError(
            f"expected experts [tokens, k] and as many documents, got shapes {chosen.shape} and {places.shape}"
        )
    check_range("experts", chosen, num_experts)
    block_tokens(places)  # refuses documents out of order
    return chosen, places


def _assign_rows(members: Sequence[NDArray[np.bool_]], *, num_blocks: int) -> tuple[NDArray[np.int32], list[int]]:
    """Give every group its own blocks, one under the other.

    Returns:
        int32 [documents, most groups of a document], the rows of each document, -1 where it has no more; and the
        number of blocks of each group.
    """
    rows = np.full((len(members[0]), len(members)), -1, dtype=np.int32)
    sizes: list[int] = []
    for number, member in enumerate(members):
        blocks = assign_blocks(int(member.sum()), num_blocks=num_blocks)
        rows[member, number] = sum(sizes) + blocks
        sizes.append(int(blocks[-1]) + 1 if len(blocks) else 0)
    most = int((rows >= 0).sum(axis=1).max(initial=1))
    rows = np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)
    return np.ascontiguousarray(rows[:, :most]), sizes


@dataclass(frozen=True)
class _Layer:
    """Experts int16 [tokens, k] in runs; the rows of each document, int32 [documents, groups], and their number."""

    experts: NDArray[np.int16]
    runs: Runs
    rows: NDArray[np.int32]
    num_rows: int

    def count_pairs(self, *, shuffled: bool, permutations: int, seed: int) -> NDArray[np.float64]:
        """Count [draw, row, 4], see `count_repeats`."""
        sets = _pack(self.experts)
        first = np.ascontiguousarray(self.experts[:, 0])
        tables = np.zeros((permutations, self.num_rows, 4))
        _count_pairs(tables, first, sets, self.runs.starts, self.runs.documents, self.rows, shuffled, seed)
        return tables

    def count_loads(self, num_experts: int) -> NDArray[np.float64]:
        """Count [row, 2 E + k + 1]: first experts, chosen experts, and tokens by their number of experts."""
        out = np.zeros((self.num_rows, 2 * num_experts + self.experts.shape[1] + 1))
        _count_loads(out, self.experts, self.runs.starts, self.runs.documents, self.rows, num_experts)
        return out


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


@njit(cache=True, nogil=True)
def _pack(experts):  # type: ignore[no-untyped-def]
    """Pack each token's experts into bits, uint64 [tokens, words]."""
    words = max(1, (np.max(experts) // 64 + 1) if experts.size else 1)
    sets = np.zeros((experts.shape[0], words), dtype=np.uint64)
    for row in range(experts.shape[0]):
        for slot in range(experts.shape[1]):
            expert = experts[row, slot]
            if expert >= 0:
                sets[row, expert // 64] |= np.uint64(1) << np.uint64(expert % 64)
    return sets


@njit(cache=True, nogil=True, inline="always")
def _mix(state):  # type: ignore[no-untyped-def]
    """Scramble a counter into 64 random bits (SplitMix64; Steele, Lea & Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@njit(cache=True, nogil=True, parallel=True)
def _count_pairs(tables, first, sets, starts, documents, rows, shuffled, seed):  # type: ignore[no-untyped-def]
    """Count neighbours, each draw in its own order: the result does not depend on the number of threads."""
    longest = 1
    for run in range(len(documents)):
        longest = max(longest, starts[run + 1] - starts[run])
    words = sets.shape[1]
    step = np.uint64(0x9E3779B97F4A7C15)
    for draw in prange(tables.shape[0]):
        order = np.empty(longest, dtype=np.int64)
        state = _mix(_mix(np.uint64(seed)) + np.uint64(draw) * step)
        for run in range(len(documents)):
            length = starts[run + 1] - starts[run]
            for place in range(length):
                order[place] = starts[run] + place
            if shuffled:
                for place in range(length - 1, 0, -1):
                    state += step
                    other = np.int64(((_mix(state) >> np.uint64(32)) * np.uint64(place + 1)) >> np.uint64(32))
                    order[place], order[other] = order[other], order[place]
            same, firsts, shared, pairs = 0, 0, 0, 0
            last_first, last_present = -1, False
            for place in range(length):
                row = order[place]
                now, present, common = first[row], False, False
                last = order[max(place - 1, 0)]
                for word in range(words):
                    present |= sets[row, word] != 0
                    common |= (sets[row, word] & sets[last, word]) != 0
                if place > 0:
                    if present and last_present:
                        pairs += 1
                        shared += common
                    if now >= 0 and last_first >= 0:
                        firsts += 1
                        same += now == last_first
                last_first, last_present = now, present
            for group in range(rows.shape[1]):
                target = rows[documents[run], group]
                if target >= 0:
                    tables[draw, target, 0] += same
                    tables[draw, target, 1] += firsts
                    tables[draw, target, 2] += shared
                    tables[draw, target, 3] += pairs


@njit(cache=True, nogil=True)
def _count_loads(table, experts, starts, documents, rows, num_experts):  # type: ignore[no-untyped-def]
    for run in range(len(documents)):
        for group in range(rows.shape[1]):
            target = rows[documents[run], group]
            if target >= 0:
                for row in range(starts[run], starts[run + 1]):
                    size = 0
                    for slot in range(experts.shape[1]):
                        expert = experts[row, slot]
                        if expert >= 0:
                            size += 1
                            table[target, num_experts + expert] += 1
                            if slot == 0:
                                table[target, expert] += 1
                    table[target, 2 * num_experts + size] += 1
