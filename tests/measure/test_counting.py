import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.errors import MeasurementError
from specialize.measure import (
    assign_blocks,
    count_blocks,
    measure_cache,
    measure_coactivation,
    measure_next_layer_recall,
    measure_repeats,
    measure_same_token,
    measure_saturation,
    spread_mass,
)
from specialize.measure.base.counting import as_codes, check_distinct, count_permuted, count_shifted

LABELS, EXPERTS, BLOCKS = 4, 5, 3


def count_plainly(codes, experts, blocks, weights, rule):
    """Count token by token, slot by slot, in plain Python."""
    table = [[[0.0] * EXPERTS for _ in range(LABELS)] for _ in range(BLOCKS)]
    for token, label in enumerate(codes):
        slots = [slot for slot, expert in enumerate(experts[token]) if expert >= 0]
        if rule == "first":
            slots = [slot for slot in slots if slot == 0]
        mass = {slot: float(weights[token][slot]) if rule == "gate" else 1.0 for slot in slots}
        total = sum(mass.values())
        if label < 0 or total == 0:
            continue
        for slot in slots:
            table[blocks[token]][label][experts[token][slot]] += mass[slot] / total
    return np.array(table)


def random_routing(seed, tokens=60, k=3):
    rng = np.random.default_rng(seed)
    experts = rng.integers(-1, EXPERTS, (tokens, k)).astype(np.int16)
    experts[0] = -1  # a token that every expert dropped
    weights = rng.random((tokens, k)).astype(np.float32)
    weights[1] = 0.0
    codes = rng.integers(-1, LABELS, tokens).astype(np.int32)
    codes[:2] = 0
    return codes, experts, rng.integers(0, BLOCKS, tokens).astype(np.int32), weights


def count(codes, experts, blocks, **options):
    return count_blocks(
        codes,
        experts,
        blocks=blocks,
        num_labels=LABELS,
        num_experts=EXPERTS,
        num_blocks=BLOCKS,
        **options,
    )


@pytest.mark.parametrize("rule", ["selection", "gate", "first"])
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_counts_equal_a_plain_loop(rule, seed, k):
    codes, experts, blocks, weights = random_routing(seed, k=k)
    table = count(codes, experts, blocks, weights=weights, rule=rule)
    np.testing.assert_allclose(table, count_plainly(codes, experts, blocks, weights, rule), atol=1e-12)


def test_every_labelled_token_with_an_expert_adds_one():
    codes, experts, blocks, weights = random_routing(3)
    counted = (codes >= 0) & (experts >= 0).any(axis=1)
    assert count(codes, experts, blocks).sum() == pytest.approx(counted.sum(), abs=1e-12)
    counted &= np.where(experts >= 0, weights, 0).sum(axis=1) > 0
    assert count(codes, experts, blocks, weights=weights, rule="gate").sum() == pytest.approx(counted.sum())


def test_other_integer_types_are_counted_alike():
    codes, experts, blocks, _ = random_routing(4)
    expected = count(codes, experts, blocks)
    np.testing.assert_array_equal(count(codes.astype(np.int64), experts.astype(np.int64), blocks.tolist()), expected)


def test_no_tokens_give_an_empty_table():
    nothing = np.empty(0, dtype=np.int32)
    assert not count(nothing, np.empty((0, 2), dtype=np.int16), nothing).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": [LABELS]}, "codes must be below 4"),
        ({"experts": [[EXPERTS]]}, "experts must be below 5"),
        ({"experts": [0]}, r"expected experts \[tokens, k\]"),
        ({"blocks": [BLOCKS]}, "blocks must be below 3"),
        ({"blocks": [-1]}, "blocks must be at least 0"),
        ({"codes": [0, 1]}, "of one length, got 2, 1 and 1"),
        ({"rule": "gates"}, "Did you mean 'gate'?"),
        ({"rule": "gate"}, "got none"),
        ({"rule": "gate", "weights": [[0.5, 0.5]]}, r"got shape \(1, 2\)"),
        ({"rule": "gate", "weights": [[-0.5]]}, "expected finite, non-negative"),
        ({"rule": "gate", "weights": [[float("nan")]]}, "expected finite, non-negative"),
    ],
)
def test_misfits_are_named(change, message):
    arguments = {"codes": [0], "experts": [[0]], "blocks": [0], **change}
    codes, experts, blocks = (np.array(arguments.pop(name)) for name in ("codes", "experts", "blocks"))
    with pytest.raises(MeasurementError, match=message):
        count(codes, experts, blocks, **arguments)


def test_a_weight_in_a_dropped_slot_is_ignored():
    experts, weights = np.array([[2, -1]]), np.array([[0.2, np.nan]])
    _, masses = spread_mass(experts, weights, rule="gate")
    np.testing.assert_array_equal(masses, [[1.0, 0.0]])


@pytest.mark.parametrize("num_documents", [0, 1, 2, 49, 50, 51, 99, 100, 101, 120, 1234])
def test_blocks_are_equal_as_far_as_their_number_allows(num_documents):
    blocks = assign_blocks(np.arange(num_documents))
    assert len(blocks) == num_documents
    if not num_documents:
        return
    sizes = np.bincount(blocks)
    assert min(num_documents, 25) <= len(sizes) <= 50
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_blocks_do_not_depend_on_the_order_of_documents():
    groups = np.random.default_rng(0).integers(-(2**62), 2**62, 700)
    blocks, order = assign_blocks(groups), np.random.default_rng(1).permutation(700)
    np.testing.assert_array_equal(assign_blocks(groups[order]), blocks[order])


def test_blocks_are_drawn_at_random():
    """Neighbours share a block as often as two documents that are drawn at random, so do all pairs at any distance."""
    blocks = assign_blocks(np.arange(5000), num_blocks=50)
    for distance in (1, 2, 7, 50, 100):
        share = (blocks[distance:] == blocks[:-distance]).mean()
        assert abs(share - 1 / 50) < 4 * np.sqrt(0.02 * 0.98 / 5000)


def test_groups_stay_together_and_large_ones_do_not_upset_the_balance():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(200), rng.integers(1, 30, 200))
    rng.shuffle(groups)
    blocks = assign_blocks(groups, num_blocks=20)
    assert all(len(set(blocks[groups == group])) == 1 for group in range(200))
    sizes = np.bincount(blocks)
    assert len(sizes) == 20
    assert sizes.max() - sizes.min() <= 2
    assert assign_blocks([5, 5, 5, 8], num_blocks=20).tolist() in ([0, 0, 0, 1], [1, 1, 1, 0])


def test_a_number_of_documents_is_not_their_groups():
    with pytest.raises(MeasurementError, match="expected the group of each document"):
        assign_blocks(40)
    for groups in ([1.2, 1.7], ["a", "b"], [True, False]):
        with pytest.raises(MeasurementError, match=r"groups: expected integers, got .*: number the groups"):
            assign_blocks(groups)


def test_no_blocks_is_an_error():
    with pytest.raises(MeasurementError, match="at least 1, got 0"):
        assign_blocks(range(10), num_blocks=0)


@pytest.fixture
def documents():
    """Return labelled tokens of five documents of different lengths, in three blocks."""
    rng = np.random.default_rng(0)
    starts = np.array([0, 1, 8, 20, 22, 40], dtype=np.int64)
    codes = rng.integers(0, LABELS, 40).astype(np.int32)
    experts, masses = spread_mass(rng.integers(-1, EXPERTS, (40, 3)), rng.random((40, 3)), rule="gate")
    return codes, experts, masses, starts, np.array([0, 0, 1, 1, 2], dtype=np.int32)


def test_shifting_equals_rolling_the_labels(documents):
    codes, experts, masses, starts, blocks = documents
    shifts = np.random.default_rng(1).integers(0, np.diff(starts), size=(9, 5), dtype=np.int32)
    shifts[0] = 0
    tables = np.zeros((9, BLOCKS, LABELS, EXPERTS))
    count_shifted(tables, codes, shifts, experts, masses, starts, blocks)
    for draw in range(9):
        pieces = np.split(codes, starts[1:-1])
        rolled = np.concatenate([np.roll(p, -s) for p, s in zip(pieces, shifts[draw], strict=True)])
        expected = count(rolled, experts, np.repeat(blocks, np.diff(starts)), weights=masses, rule="gate")
        np.testing.assert_allclose(tables[draw], expected, atol=1e-12)


def test_counts_do_not_depend_on_threads(documents):
    codes, experts, masses, starts, blocks = documents
    shifts = np.random.default_rng(1).integers(0, np.diff(starts), size=(33, 5), dtype=np.int32)
    sources = np.random.default_rng(2).permuted(np.tile(np.arange(40, dtype=np.int32), (33, 1)), axis=1)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            shifted, permuted = np.zeros((2, 33, BLOCKS, LABELS, EXPERTS))
            count_shifted(shifted, codes, shifts, experts, masses, starts, blocks)
            count_permuted(permuted, codes, sources, experts, masses, np.repeat(blocks, np.diff(starts)))
            results.append((shifted, permuted))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


TWICE, ONCE = np.array([[0, 1], [2, 2], [1, 0]]), np.array([[0, 1], [2, 3], [1, 0]])
PLACES = np.arange(3)


@pytest.mark.parametrize(
    "measure",
    [
        lambda experts: measure_cache(experts, PLACES, num_experts=4),
        lambda experts: measure_coactivation(experts, PLACES, num_experts=4),
        lambda experts: measure_next_layer_recall(experts, ONCE, PLACES, num_experts=4, num_following=4),
        lambda experts: measure_next_layer_recall(ONCE, experts, PLACES, num_experts=4, num_following=4),
        lambda experts: measure_repeats(experts, PLACES, num_experts=4),
        lambda experts: measure_same_token([0, 0, 0], experts, PLACES, num_experts=4),
        lambda experts: measure_saturation(experts, ONCE, PLACES, num_experts=4),
        lambda experts: measure_saturation(ONCE, experts, PLACES, num_experts=4),
    ],
)
def test_an_expert_that_a_token_has_twice_is_refused(measure):
    measure(ONCE)
    with pytest.raises(MeasurementError, match=r"expected different experts .*, got \[2, 2\] for token 1"):
        measure(TWICE)


def test_slots_without_an_expert_are_not_the_same_expert():
    check_distinct("experts", np.array([[-1, -1], [3, -1]], dtype=np.int16))


@pytest.mark.parametrize("values", [[0, 0.6], [1.0, np.nan], [0, 2**32 + 1], [np.inf, 0.0]])
def test_labels_that_are_no_whole_numbers_are_not_rounded(values):
    with pytest.raises(MeasurementError, match="expected whole numbers of labels or documents, got"):
        as_codes(values)
    with pytest.raises(MeasurementError, match="expected whole numbers"):
        count_blocks(values, [[0], [1]], blocks=[0, 0], num_labels=2, num_experts=2, num_blocks=1)


def test_whole_numbers_of_any_type_are_labels():
    for values in ([0.0, 3.0], np.array([0, 3], dtype=np.uint8), np.array([0, 3]), [False, True]):
        codes = as_codes(values)
        assert codes.dtype == np.int32
        assert codes.tolist() == [int(value) for value in values]
    assert as_codes([]).size == 0
