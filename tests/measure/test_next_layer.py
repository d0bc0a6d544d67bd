import numpy as np
import pytest

from planted.usage import draw_routing
from specialize.errors import MeasurementError
from specialize.measure import assign_blocks, measure_next_layer_recall


def plant_flow(followed, *, seed=0, num_documents=40, tokens=30, num_experts=8):
    """One expert a token, uniform; the next layer has the one after it, or with 1 - `followed` any expert."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, num_experts, num_documents * tokens)
    follows = rng.random(len(first)) < followed
    second = np.where(follows, (first + 1) % num_experts, rng.integers(0, num_experts, len(first)))
    return first[:, None], second[:, None], np.repeat(np.arange(num_documents), tokens)


def test_planted_flow_is_predicted():
    """The expert after this one is the most frequent: recall is followed + (1 - followed) / 8, and m / 8 by load."""
    before, after, documents = plant_flow(0.6, num_documents=400)
    found = measure_next_layer_recall(before, after, documents, num_experts=8, num_following=8)
    assert found.num_top == 1
    assert found.recall.ci_low < 0.6 + 0.4 / 8 < found.recall.ci_high
    assert found.recall.null_mean == pytest.approx(1 / 8, abs=0.02)
    assert found.above_load.value == pytest.approx(found.recall.value - found.recall.null_mean)
    everything = measure_next_layer_recall(before, after, documents, num_experts=8, num_following=8, num_top=8)
    assert (everything.recall.value, everything.recall.null_mean) == (1, 1)


def test_intervals_cover_the_planted_recall():
    held = []
    for seed in range(200):
        found = measure_next_layer_recall(*plant_flow(0.6, seed=seed), num_experts=8, num_following=8)
        held.append(found.recall.ci_low <= 0.65 <= found.recall.ci_high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_layers_without_relation_are_predicted_as_well_as_by_load():
    above = [
        measure_next_layer_recall(*plant_flow(0.0, seed=seed), num_experts=8, num_following=8).above_load
        for seed in range(100)
    ]
    assert abs(np.mean([each.value for each in above])) < 0.01
    assert np.mean([each.ci_low > 0 for each in above]) <= 0.05


def brute_force(before, after, documents, blocks, num_top, experts):
    hits, by_load, slots = 0, 0, 0
    rows = [row for row in range(len(before)) if max(before[row]) >= 0 and max(after[row]) >= 0]
    for row in rows:
        others = [other for other in rows if blocks[documents[other]] % 2 != blocks[documents[row]] % 2]
        load = [sum(expert in after[other] for other in others) for expert in range(experts)]
        score = [0.0] * experts
        for first in before[row]:
            having = [other for other in others if first >= 0 and first in before[other]]
            for expert in range(experts):
                if having:
                    score[expert] += sum(expert in after[other] for other in having) / len(having)
        ranked = sorted(range(experts), key=lambda expert: (-round(score[expert], 9), -load[expert], expert))
        loaded = sorted(range(experts), key=lambda expert: (-load[expert], expert))
        chosen = [expert for expert in after[row] if expert >= 0]
        hits += sum(expert in ranked[:num_top] for expert in chosen)
        by_load += sum(expert in loaded[:num_top] for expert in chosen)
        slots += len(chosen)
    return hits / slots, by_load / slots


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_top", [1, 3])
def test_recall_is_that_of_loops_over_tokens(seed, num_top):
    before, documents = draw_routing(80, num_experts=5, top_k=2, num_documents=9, seed=seed)
    after, _ = draw_routing(80, num_experts=6, top_k=3, num_documents=9, dropped=0.3, seed=seed + 100)
    after[:, 0] = np.where(before[:, 0] >= 0, before[:, 0], after[:, 0])
    after[:, 1:][after[:, 1:] == after[:, :1]] = -1
    found = measure_next_layer_recall(
        before, after, documents, num_experts=5, num_following=6, num_top=num_top, num_blocks=4
    )
    routed = (before >= 0).any(axis=1) & (after >= 0).any(axis=1)
    present = np.unique(documents[routed])
    blocks = dict(zip(present.tolist(), assign_blocks(present, num_blocks=4).tolist(), strict=True))
    expected = brute_force(before.tolist(), after.tolist(), documents.tolist(), blocks, num_top, 6)
    assert (found.recall.value, found.recall.null_mean) == pytest.approx(expected)
    assert found.recall.n_tokens == routed.sum()


def test_what_cannot_be_held_out_or_does_not_match():
    alone = measure_next_layer_recall([[0], [1]], [[1], [0]], [0, 0], num_experts=2, num_following=2)
    assert np.isnan([alone.recall.value, alone.above_load.value]).all()
    with pytest.raises(MeasurementError, match="that both layers routed, got none"):
        measure_next_layer_recall([[0]], [[-1]], [0], num_experts=2, num_following=2)
    with pytest.raises(MeasurementError, match=r"got shapes \(1, 1\), \(2, 1\)"):
        measure_next_layer_recall([[0]], [[0], [0]], [0], num_experts=2, num_following=2)
    with pytest.raises(MeasurementError, match="num_top: expected a number from 1 to 2, got 3"):
        measure_next_layer_recall([[0]], [[0]], [0], num_experts=2, num_following=2, num_top=3)
