"""Random sets of experts with the load of a chosen set, the control of its effect."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import check_whole
from specialize.errors import MeasurementError
from specialize.measure.base.random import generator

MOST_CANDIDATES = 100_000  # sets of one layer that are all compared by load; of more sets, some are drawn
DRAWN_CANDIDATES = 2_000
WINDOW = 16  # experts nearest in load to a chosen one, among which its replacement is drawn
NEAREST = 20  # one in so many candidates is near enough
FEWEST_NEAREST = 4  # of a layer, so that random sets of several layers differ


@dataclass(frozen=True)
class MatchedSets:
    """Random sets of experts, matched in load to a chosen set.

    Attributes:
        sets: the random sets, all different, each as (layer, expert) pairs in increasing order.
        loads: total load of each set in each layer of the chosen set, float64 [sets, layers].
        chosen_load: the same of the chosen set, float64 [layers].
        layers: these layers, increasing.
        num_possible: number of sets with as many experts in each of these layers and none of the chosen ones (where
            a layer has enough others), matched in load or not.
    """

    sets: tuple[tuple[tuple[int, int], ...], ...]
    loads: NDArray[np.float64]
    chosen_load: NDArray[np.float64]
    layers: tuple[int, ...]
    num_possible: int


def draw_matched_sets(
    load: Sequence[ArrayLike], chosen: Iterable[tuple[int, int]], *, count: int, seed: int = 0
) -> MatchedSets:
    """Draw random sets of experts that have the load of a chosen set, and as many experts as it in each layer.

    In each layer, candidates are the sets of as many experts without the chosen ones; where more than half of the
    experts are chosen, they hold all others and some of the chosen. Of more than 100,000 such sets, 2,000 are drawn, in
    which each chosen expert is replaced by one of the 16 nearest to it in load. Candidates are ranked by how far their
    total load is from that of the chosen experts. The random sets combine candidates of all layers, drawn uniformly
    from the nearest 5 % of each layer, and from more where there are fewer than four or where they do not make
    ``count`` different sets. With few experts these may be all, and no expert can replace one that has by far the
    largest load: compare ``loads`` with ``chosen_load``.

    Args:
        load: load of the experts of each layer, [layers][experts], in any unit: shares or tokens.
        chosen: (layer, expert) pairs, both numbered from 0 as in ``load``.
        count: number of random sets; there are fewer where fewer different ones exist.
        seed: seed of the draw.

    Returns:
        The random sets and their loads.

    Raises:
        MeasurementError: no expert is chosen, one is chosen twice or does not exist, a load is negative or not finite,
            all experts of the layers are chosen, ``count`` is below 1, or a number is not a whole one.
    """
    check_whole("count", count, error=MeasurementError)
    if count < 1:
        raise MeasurementError(f"count must be at least 1, got {count}: 20 random sets are usual")
    members = _group_by_layer(load, chosen)
    rng = generator(seed)
    loads = {layer: np.asarray(load[layer], dtype=np.float64) for layer in members}
    possible = {layer: _count_candidates(len(loads[layer]), len(own)) for layer, own in members.items()}
    if all(len(own) == len(loads[layer]) for layer, own in members.items()):
        raise MeasurementError("chosen: expected fewer than all experts of its layers, got all: choose fewer")
    ranked = [_rank_candidates(loads[layer], own, rng) for layer, own in members.items()]
    sizes = _size_pools([len(each) for each in ranked], count)
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < min(count, prod(sizes)):
        drawn.add(tuple(int(rng.integers(size)) for size in sizes))
    picked = [[candidates[place] for candidates, place in zip(ranked, row, strict=True)] for row in sorted(drawn)]
    return MatchedSets(
        sets=tuple(
            tuple((layer, int(expert)) for layer, experts in zip(members, row, strict=True) for expert in experts)
            for row in picked
        ),
        loads=np.array(
            [[loads[layer][experts].sum() for layer, experts in zip(members, row, strict=True)] for row in picked]
        ),
        chosen_load=np.array([loads[layer][own].sum() for layer, own in members.items()]),
        layers=tuple(members),
        num_possible=prod(possible.values()),
    )


def _group_by_layer(load: Sequence[ArrayLike], chosen: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the chosen experts of each layer, both in increasing order, after checks."""
    given = list(chosen)
    for layer, expert in given:
        check_whole("layer of an expert", layer, error=MeasurementError)
        check_whole("expert", expert, error=MeasurementError)
    pairs = sorted((int(layer), int(expert)) for layer, expert in given)
    if not pairs or len(set(pairs)) < len(pairs):
        raise MeasurementError(f"chosen: expected different (layer, expert) pairs, at least one, got {pairs}")
    members: dict[int, list[int]] = {}
    for layer, expert in pairs:
        if not 0 <= layer < len(load) or not 0 <= expert < len(np.asarray(load[layer])):
            raise MeasurementError(f"chosen: expected experts that have a load, got {(layer, expert)}: correct it")
        members.setdefault(layer, []).append(expert)
    for layer in members:
        own = np.asarray(load[layer], dtype=np.float64)
        if own.ndim != 1 or not (np.isfinite(own).all() and own.min() >= 0):
            raise MeasurementError(f"load: expected finite, non-negative loads [experts] of layer {layer}, got {own}")
    return members


def _count_candidates(num_experts: int, size: int) -> int:
    """Count the sets of `size` experts that hold as few of the `size` chosen ones as possible."""
    others = num_experts - size
    return comb(others, size) if others >= size else comb(size, size - others)


def _rank_candidates(load: NDArray[np.float64], own: list[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return candidates, different sets of experts [candidates, len(own)], the nearest in load first."""
    others = rng.permutation(np.setdiff1d(np.arange(len(load)), own))  # ties are drawn in random order
    size = len(own)
    pool, fixed = (others, others[:0]) if len(others) >= size else (np.array(own), others)
    left = size - len(fixed)
    if comb(len(pool), left) <= MOST_CANDIDATES:
        rows = np.array(list(combinations(range(len(pool)), left)), dtype=np.int64)
    else:
        members = rng.permuted(np.tile(own, (DRAWN_CANDIDATES, 1)), axis=1)[:, :left]
        rows = np.unique(_replace(load[pool], load[members], rng), axis=0)
    sets = np.sort(np.hstack([np.tile(fixed, (len(rows), 1)), pool[rows]]), axis=1)
    sets = rng.permutation(sets)  # sets of equal load are in random order
    distance = np.abs(load[sets].sum(axis=1) - load[own].sum())
    return np.asarray(sets[np.argsort(distance, kind="stable")])


def _replace(loads: NDArray[np.float64], targets: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a different expert for each target of a row, among the `WINDOW` nearest in load that are left.

    Args:
        loads: of the experts to draw from, float64 [experts].
        targets: float64 [rows, targets].
        rng: generator of the draws.

    Returns:
        Their places in ``loads``, increasing in each row, int64 [rows, targets].
    """
    every = np.arange(len(targets))
    taken = np.zeros((len(targets), len(loads)), dtype=bool)
    for step, target in enumerate(targets.T):
        distance = np.where(taken, np.inf, np.abs(loads - target[:, None]))
        width = min(WINDOW, len(loads) - step)
        nearest = np.argpartition(distance, width - 1, axis=1)[:, :width]
        taken[every, nearest[every, rng.integers(width, size=len(every))]] = True
    return np.nonzero(taken)[1].reshape(targets.shape)


def _size_pools(available: list[int], count: int) -> list[int]:
    """Return from how many of the nearest candidates of each layer to draw."""
    floor = FEWEST_NEAREST
    while True:
        sizes = [min(each, max(floor, each // NEAREST)) for each in available]
        if prod(sizes) >= count or sizes == available:
            return sizes
        floor += 1
