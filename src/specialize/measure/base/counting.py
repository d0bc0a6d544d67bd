"""One pass over routing decisions: tables of mass [block, label, expert].

Everything the measurement room computes starts from these tables. One kernel adds a run of tokens to a
table; counting, counting under shifted labels and counting under permuted labels differ only in which
label a token is given.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.choices import SlotRule, check_choice
from specialize.errors import MeasurementError


def spread_mass(
    experts: NDArray[np.integer],
    weights: NDArray[np.floating] | None = None,
    *,
    rule: SlotRule = "selection",
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Spread mass 1 of every token over its experts.

    The token is the unit of observation: its k slots share one unit of mass and are not k observations.

    Args:
        experts: integers [tokens, k]; negative where a slot holds no expert (dropped, skipped).
        weights: gate weights [tokens, k], non-negative; needed by the rule ``"gate"`` only.
        rule: ``"selection"`` gives equal shares to the experts that are there, ``"gate"`` shares in
            proportion to the gate weights, ``"first"`` everything to slot 0.

    Returns:
        Experts int16 [tokens, slots] and masses float64 [tokens, slots], or [tokens, 1] where all slots of
        a token weigh the same. A token without experts, or whose gate weights are all zero, has no mass.

    Raises:
        MeasurementError: for an unknown rule, or weights that are missing, misshapen, negative or not finite.
    """
    check_choice("slot rule", rule, SlotRule, error=MeasurementError)
    if experts.ndim != 2:
        raise MeasurementError(f"experts must be [tokens, k], got shape {experts.shape}: add the slot axis")
    if rule == "first":
        experts = experts[:, :1]
    chosen = np.ascontiguousarray(experts, dtype=np.int16)
    if rule != "gate":
        return chosen, _share_equally(chosen)
    if weights is None or weights.shape != chosen.shape:
        got = "none" if weights is None else f"shape {weights.shape}"
        raise MeasurementError(f"the gate rule needs weights of shape {chosen.shape}, got {got}: pass the gate weights")
    masses = np.where(chosen >= 0, weights, 0.0).astype(np.float64)
    if masses.size and not (masses.min() >= 0 and np.isfinite(masses.max())):
        raise MeasurementError("gate weights must be finite and non-negative: use the selection rule for this router")
    total = masses.sum(axis=1, keepdims=True)
    masses /= np.where(total > 0, total, 1.0)
    return chosen, masses


def assign_blocks(num_documents: int, *, num_blocks: int = 50) -> NDArray[np.int32]:
    """Assign documents to blocks of consecutive documents, for the delete-one-block jackknife.

    Blocks are contiguous because neighbours in a corpus are often related (chapters of one book, posts of
    one thread): kept together they make blocks that are nearly independent, which is what the jackknife
    needs. Dealt out one by one, every block would hold a part of every book, blocks would look alike and
    intervals would come out too short.

    A corpus that is sorted by the very label to be measured should be shuffled before it is traced. Its
    blocks hold one label each, which the jackknife takes for few draws of labels: intervals come out about
    three times too wide, and the label entropy, and with it the uncertainty coefficient, some 5 % off. The
    mutual information itself is hardly moved.

    Blocks hold equal numbers of documents (the last may be smaller), not of tokens: documents are what was
    sampled. That leaves between half of ``num_blocks`` and ``num_blocks`` blocks, or one a document when
    there are fewer documents.

    Args:
        num_documents: documents that carry at least one observation.
        num_blocks: the most blocks to make.

    Returns:
        int32 [documents], non-decreasing block numbers from 0.
    """
    if num_blocks < 1:
        raise MeasurementError(f"num_blocks must be at least 1, got {num_blocks}")
    size = max(1, -(-num_documents // num_blocks))
    return np.arange(num_documents, dtype=np.int32) // np.int32(size)


def count_blocks(
    codes: ArrayLike,
    experts: ArrayLike,
    *,
    blocks: ArrayLike,
    num_labels: int,
    num_experts: int,
    num_blocks: int,
    weights: ArrayLike | None = None,
    rule: SlotRule = "selection",
) -> NDArray[np.float64]:
    """Count the mass of every label at every expert, by block of documents.

    Args:
        codes: integers [tokens], the label of each token; negative where it has none and is not counted.
        experts: integers [tokens, k]; negative where a slot holds no expert.
        blocks: integers [tokens], the block of each token.
        num_labels: labels in the table; codes are below it.
        num_experts: experts in the table; expert numbers are below it.
        num_blocks: blocks in the table; block numbers are below it.
        weights: gate weights [tokens, k], for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`.

    Returns:
        float64 [block, label, expert]: each labelled token with an expert adds 1.

    Raises:
        MeasurementError: for shapes that do not fit, or numbers out of range.
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
    """Return a contiguous int32 array, the one type the kernels are compiled for."""
    return np.ascontiguousarray(values, dtype=np.int32)


def check_range(name: str, values: NDArray[np.integer], limit: int) -> None:
    """Raise MeasurementError unless all values are below `limit` (negative ones mean "none")."""
    if values.size and values.max() >= limit:
        raise MeasurementError(f"{name} must be below {limit}, got {values.max()}: count with more of them")


def tabulate(
    codes: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    blocks: NDArray[np.int32],
    *,
    shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Count masses that are spread already, unchecked; `count_blocks` is the checked way in."""
    table = np.zeros(shape)
    _count_each(table, codes, np.arange(len(codes), dtype=np.int32), experts, masses, blocks)
    return table


def count_usage(
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    documents: NDArray[np.int32],
    *,
    num_documents: int,
    num_experts: int,
) -> NDArray[np.float64]:
    """Sum the masses of each document's tokens at each expert.

    Args:
        experts: int16 [tokens, slots], as `spread_mass` returns them.
        masses: float64 [tokens, slots] or [tokens, 1].
        documents: int32 [tokens], the document of each token.
        num_documents: rows of the table.
        num_experts: columns of the table.

    Returns:
        float64 [document, expert]; a row sums to the document's routed tokens.
    """
    one_label = np.zeros(len(experts), dtype=np.int32)
    return tabulate(one_label, experts, masses, documents, shape=(num_documents, 1, num_experts))[:, 0]


@njit(cache=True, nogil=True)
def count_stored(table, codes, experts, blocks, limit, absent):  # type: ignore[no-untyped-def]
    """Add tokens to ``table`` [block, label, expert] by the selection rule, from experts as they are stored.

    Mass is spread while counting: nothing of the size of the experts is made. ``limit``, the number of experts, and
    ``absent``, the mark of a slot without one, are of the type of the experts, so that a row is compared at once.
    Return how many numbers are neither an expert of the table nor the mark; they are not counted.
    """
    slots = experts.shape[1]
    even, strange = 1.0 / max(slots, 1), 0
    for row in range(experts.shape[0]):
        label, block = codes[row], blocks[row]
        if label < 0:
            continue
        full = True
        for slot in range(slots):
            full &= experts[row, slot] < limit
        if full:
            for slot in range(slots):
                table[block, label, experts[row, slot]] += even
        else:
            present = 0
            for slot in range(slots):
                present += experts[row, slot] < limit
                strange += (experts[row, slot] >= limit) and (experts[row, slot] != absent)
            for slot in range(slots):
                if experts[row, slot] < limit:
                    table[block, label, experts[row, slot]] += 1.0 / present
    return strange


@njit(cache=True, nogil=True)
def _share_equally(experts):  # type: ignore[no-untyped-def]
    """Return one over the number of slots with an expert, [tokens, 1]; NumPy sums short rows ten times slower."""
    shares = np.empty((experts.shape[0], 1))
    for row in range(experts.shape[0]):
        slots = 0
        for slot in range(experts.shape[1]):
            slots += experts[row, slot] >= 0
        shares[row, 0] = 1.0 / max(slots, 1)
    return shares


@njit(cache=True, nogil=True, inline="always")
def _add_run(table, block, codes, first_code, experts, masses, first_row, count):  # type: ignore[no-untyped-def]
    """Add `count` tokens from `first_row` on, labelled by `codes` from `first_code` on."""
    slots = experts.shape[1]
    one_mass = masses.shape[1] == 1  # a token; otherwise one a slot
    for offset in range(count):
        label = codes[first_code + offset]
        if label >= 0:
            row = first_row + offset
            if one_mass:
                mass = masses[row, 0]  # held in a register: half as fast again as reading it for every slot
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
    """Add to ``tables`` [draw, block, label, expert], row r of a draw labelled ``codes[sources[draw, r]]``.

    Draws run in parallel, each into its own table: the result does not depend on the number of threads.
    """
    for draw in prange(tables.shape[0]):
        _count_each(tables[draw], codes, sources[draw], experts, masses, blocks)


@njit(cache=True, nogil=True, parallel=True)
def count_shifted(tables, codes, shifts, experts, masses, starts, blocks):  # type: ignore[no-untyped-def]
    """Add to ``tables`` [draw, block, label, expert] with labels shifted within each document.

    Document d holds rows ``starts[d]`` to ``starts[d + 1]`` and belongs to ``blocks[d]``; its row i gets the
    label of its row ``(i + shifts[draw, d]) mod length``. Nothing is copied, every draw recounts from memory.
    The result does not depend on the number of threads.
    """
    for draw in prange(tables.shape[0]):
        for document in range(len(starts) - 1):
            start, block = starts[document], blocks[document]
            length = starts[document + 1] - start
            shift = shifts[draw, document]
            kept = length - shift
            _add_run(tables[draw], block, codes, start + shift, experts, masses, start, kept)
            _add_run(tables[draw], block, codes, start, experts, masses, start + kept, shift)
