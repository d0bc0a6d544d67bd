"""Count routing decisions into tables of mass [block, label, expert], in one pass.

Every measure starts from these tables. One kernel adds a run of tokens to a table; counts of the observed, the
shifted and the permuted labels differ only in the label that each token receives.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.choices import MassRule, SlotRule, check_choice
from specialize.errors import MeasurementError


def spread_mass(
    experts: NDArray[np.integer],
    weights: NDArray[np.floating] | None = None,
    *,
    rule: MassRule = "selection",
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Spread a mass of 1 per token over the token's experts.

    The token is the unit of observation: its k slots share one unit of mass and do not count as k observations.

    Args:
        experts: integers [tokens, k]; negative where a slot holds no expert (a dropped or skipped token).
        weights: gate weights [tokens, k], non-negative; required by the rule ``"gate"`` only.
        rule: ``"selection"`` gives equal shares to the token's experts, ``"gate"`` shares proportional to the gate
            weights, normalised to sum to 1 over the token's slots, ``"first"`` all mass to slot 0. ``"counts"`` takes
            the weights as masses, where a row is a document and not a token.

    Returns:
        Experts int16 [tokens, slots] and masses float64 [tokens, slots], or [tokens, 1] where all slots of
        a token have the same mass. A token without experts, or whose gate weights are all zero, has no mass.

    Raises:
        MeasurementError: the rule is unknown, or gate weights are missing, of the wrong shape, negative or not finite.
    """
    if rule != "counts":
        check_choice("slot rule", rule, SlotRule, error=MeasurementError)
    if experts.ndim != 2:
        raise MeasurementError(f"expected experts [tokens, k], got shape {experts.shape}: add the axis of slots")
    if rule == "first":
        experts = experts[:, :1]
    chosen = np.ascontiguousarray(experts, dtype=np.int16)
    if rule not in ("gate", "counts"):
        return chosen, _share_equally(chosen)
    if weights is None or weights.shape != chosen.shape:
        got = "none" if weights is None else f"shape {weights.shape}"
        raise MeasurementError(
            f"rule {rule}: expected weights of shape {chosen.shape}, got {got}: pass the gate weights"
        )
    masses = np.where(chosen >= 0, weights, 0.0).astype(np.float64)
    if masses.size and not (masses.min() >= 0 and np.isfinite(masses.max())):
        raise MeasurementError("expected finite, non-negative gate weights, got others: use the selection rule instead")
    if rule == "gate":
        total = masses.sum(axis=1, keepdims=True)
        masses /= np.where(total > 0, total, 1.0)
    return chosen, masses


def count_blocks(
    codes: ArrayLike,
    experts: ArrayLike,
    *,
    blocks: ArrayLike,
    num_labels: int,
    num_experts: int,
    num_blocks: int,
    weights: ArrayLike | None = None,
    rule: MassRule = "selection",
) -> NDArray[np.float64]:
    """Count the mass of each label at each expert, by block of documents.

    Args:
        codes: integers [tokens], the label of each token; tokens with a negative code have no label and are skipped.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        blocks: integers [tokens], the block of each token.
        num_labels: number of labels; codes are below it.
        num_experts: number of experts; expert numbers are below it.
        num_blocks: number of blocks; block numbers are below it.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.

    Returns:
        float64 [block, label, expert], in tokens: each labelled token with an expert adds 1.

    Raises:
        MeasurementError: shapes do not match, or numbers are out of range.
    """
    chosen, masses = spread_mass(np.asarray(experts), None if weights is None else np.asarray(weights), rule=rule)
    labels, places = as_codes(codes), as_codes(blocks)
    if not len(labels) == len(places) == len(chosen):
        raise MeasurementError(
            f"codes, experts and blocks must be of one length, got {len(labels)}, {len(chosen)} and {len(places)}"
        )
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    check_range("blocks", places, num_blocks)
    if places.size and places.min() < 0:
        raise MeasurementError(f"blocks must be at least 0, got {places.min()}: every token needs a block")
    return tabulate(labels, chosen, masses, places, shape=(num_blocks, num_labels, num_experts))


def as_codes(values: ArrayLike) -> NDArray[np.int32]:
    """Return a contiguous int32 array, the type that the kernels are compiled for.

    Raises:
        MeasurementError: a value is no whole number, or too large, and would be another one.
    """
    given = np.asarray(values)
    with np.errstate(invalid="ignore"):  # NaN
        codes = np.ascontiguousarray(given, dtype=np.int32)
    if given.dtype != np.int32 and not np.array_equal(codes, given):
        wrong = given[codes != given].flat[0]
        raise MeasurementError(f"expected whole numbers of labels or documents, got {wrong}: number them from 0")
    return codes


def check_range(name: str, values: NDArray[np.integer], limit: int) -> None:
    """Raise MeasurementError unless all values are below `limit`; negative values stand for "none"."""
    if values.size and values.max() >= limit:
        raise MeasurementError(
            f"{name} must be below {limit}, got {values.max()}: correct the values or raise the limit"
        )


def check_distinct(name: str, experts: NDArray[np.int16], first: int = 0) -> None:
    """Raise MeasurementError if a token [tokens, k], numbered from ``first``, has an expert twice; negative: "none"."""
    token = _first_repeated(experts)
    if token >= 0:
        raise MeasurementError(
            f"{name}: expected different experts in the slots of a token, got {experts[token].tolist()} for token "
            f"{first + token}: leave out the second"
        )


@njit(cache=True, nogil=True)
def _first_repeated(experts):  # type: ignore[no-untyped-def]
    """Return the first token that has an expert twice, -1 if there is none."""
    for token in range(experts.shape[0]):
        for slot in range(1, experts.shape[1]):
            for other in range(slot):
                if experts[token, slot] >= 0 and experts[token, slot] == experts[token, other]:
                    return token
    return -1


def tabulate(
    codes: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    blocks: NDArray[np.int32],
    *,
    shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Count masses as `spread_mass` returns them, without checks; see `count_blocks` for a checked version."""
    table = np.zeros(shape)
    add_to(table, codes, experts, masses, blocks)
    return table


def add_to(
    table: NDArray[np.float64],
    codes: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    blocks: NDArray[np.int32],
) -> None:
    """Add masses to a table [block, label, expert], as `tabulate` counts them."""
    _count_each(table, codes, np.arange(len(codes), dtype=np.int32), experts, masses, blocks)


@njit(cache=True, nogil=True)
def _share_equally(experts):  # type: ignore[no-untyped-def]
    """Return 1 / (slots with an expert), float64 [tokens, 1]; ten times as fast as NumPy's sum over short rows."""
    shares = np.empty((experts.shape[0], 1))
    for row in range(experts.shape[0]):
        slots = 0
        for slot in range(experts.shape[1]):
            slots += experts[row, slot] >= 0
        shares[row, 0] = 1.0 / max(slots, 1)
    return shares


@njit(cache=True, nogil=True, inline="always")
def _add_run(table, block, codes, first_code, experts, masses, first_row, count):  # type: ignore[no-untyped-def]
    """Add `count` tokens, starting at `first_row`, with the labels of `codes`, starting at `first_code`."""
    slots = experts.shape[1]
    one_mass = masses.shape[1] == 1  # per token; otherwise one per slot
    for offset in range(count):
        label = codes[first_code + offset]
        if label >= 0:
            row = first_row + offset
            if one_mass:
                mass = masses[row, 0]  # in a register: 1.5 times as fast as reading it for each slot
                for slot in range(slots):
                    expert = experts[row, slot]
                    if expert >= 0:
                        table[block, label, expert] += mass
            else:
                for slot in range(slots):
                    expert = experts[row, slot]
                    if expert >= 0:
                        table[block, label, expert] += masses[row, slot]


@njit(cache=True, nogil=True)
def _count_each(table, codes, source, experts, masses, blocks):  # type: ignore[no-untyped-def]
    for row in range(experts.shape[0]):
        _add_run(table, blocks[row], codes, source[row], experts, masses, row, 1)


@njit(cache=True, nogil=True, parallel=True)
def count_permuted(tables, codes, sources, experts, masses, blocks):  # type: ignore[no-untyped-def]
    """Add tokens to ``tables`` [permutation, block, label, expert]; row r has the label ``codes[sources[p, r]]``.

    Permutations p run in parallel, each into its own table: the result does not depend on the number of threads.
    """
    for permutation in prange(tables.shape[0]):
        _count_each(tables[permutation], codes, sources[permutation], experts, masses, blocks)


@njit(cache=True, nogil=True, parallel=True)
def count_shifted(tables, codes, shifts, experts, masses, starts, blocks):  # type: ignore[no-untyped-def]
    """Add tokens to ``tables`` [permutation, block, label, expert] with labels circularly shifted in each document.

    Document d holds rows ``starts[d]`` to ``starts[d + 1]`` and belongs to block ``blocks[d]``. In permutation p its
    row i receives the label of its row ``(i + shifts[p, d]) mod length``. No array is copied. Permutations run in
    parallel, each into its own table: the result does not depend on the number of threads.
    """
    for permutation in prange(tables.shape[0]):
        for document in range(len(starts) - 1):
            start, block = starts[document], blocks[document]
            length = starts[document + 1] - start
            shift = shifts[permutation, document]
            kept = length - shift
            _add_run(tables[permutation], block, codes, start + shift, experts, masses, start, kept)
            _add_run(tables[permutation], block, codes, start, experts, masses, start + kept, shift)
