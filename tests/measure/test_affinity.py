import numpy as np
import pytest

from planted import PlantedTrace
from specialize.errors import MeasurementError
from specialize.measure.runs.affinity import affinity_set, gate_scores, measure_affinity, token_scores

EXPERTS = np.array([[0, 2], [2, 1], [2, -1]])
WEIGHTS = np.array([[0.5, 0.25], [0.75, 0.125], [1.0, 9.0]])


def test_scores_by_hand():
    np.testing.assert_allclose(token_scores(EXPERTS, 4), [1 / 6, 1 / 6, 3 / 6, 0])
    np.testing.assert_allclose(gate_scores(EXPERTS, WEIGHTS, 4), [0.5 / 3, 0.125 / 3, 2 / 3, 0])


def test_scores_of_many_tokens_are_what_a_loop_finds():
    rng = np.random.default_rng(0)
    experts, weights = rng.integers(0, 9, (400, 3)), rng.random((400, 3))
    token, gate = [0.0] * 9, [0.0] * 9
    for row, gates in zip(experts.tolist(), weights.tolist(), strict=True):
        for expert, weight in zip(row, gates, strict=True):
            token[expert] += 1 / 1200
            gate[expert] += weight / 400
    np.testing.assert_allclose(token_scores(experts, 9), token)
    np.testing.assert_allclose(gate_scores(experts, weights, 9), gate)


def test_renaming_experts_renames_scores_and_selection():
    rng = np.random.default_rng(1)
    experts = rng.choice(9, (500, 2), p=np.arange(1, 10) / 45)
    names = rng.permutation(9)
    np.testing.assert_array_equal(token_scores(names[experts], 9)[names], token_scores(experts, 9))
    selected = affinity_set(token_scores(experts, 9), 0.5)
    assert affinity_set(token_scores(names[experts], 9), 0.5).tolist() == names[selected].tolist()


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.1, [2]), (0.4, [2]), (0.41, [2, 0]), (0.7, [2, 0]), (0.75, [2, 0, 3]), (1.0, [2, 0, 3, 1])],
)
def test_the_smallest_set_that_reaches_the_share(top_p, expected):
    assert affinity_set([0.3, 0.1, 0.4, 0.2], top_p).tolist() == expected


def test_ties_and_shares_out_of_reach():
    scores = [0.10001, 0.10004, 0.3]
    assert affinity_set(scores, 0.45).tolist() == [2, 0, 1]
    assert affinity_set(scores, 0.45, decimals=None).tolist() == [2, 1, 0]
    assert affinity_set([0.1, 0.2], 0.9).tolist() == [1, 0]


def test_layers_of_a_trace():
    trace = PlantedTrace(np.zeros(3, np.int32), {4: EXPERTS.astype(np.int16)}, num_experts=4, weights={4: WEIGHTS})
    trace.contents = ("weights",)
    done = []
    (layer,) = measure_affinity(trace, top_p=0.6, by="gate", progress=lambda *counts: done.append(counts))
    assert (layer.layer, layer.selected, done) == ("4", (2,), [(1, 1)])
    assert layer.as_dict()["gate_scores"]["2"] == pytest.approx(2 / 3)
    trace.contents = ()
    (layer,) = measure_affinity(trace, top_p=0.6)
    assert layer.as_dict()["gate_scores"] is None
    assert layer.as_dict()["selected"] == [2, 0]


def test_what_cannot_be_measured():
    with pytest.raises(MeasurementError, match=r"share above 0 and at most 1, got 1\.5"):
        affinity_set([0.5, 0.5], 1.5)
    with pytest.raises(MeasurementError, match="finite scores"):
        affinity_set([0.5, np.nan], 0.5)
    with pytest.raises(MeasurementError, match="experts below 2, got 2"):
        token_scores(EXPERTS, 2)
    with pytest.raises(MeasurementError, match=r"integers \[tokens, k\], got int64 \[0, 2\]"):
        token_scores(EXPERTS[:0], 2)
    with pytest.raises(MeasurementError, match=r"of shape \(3, 2\), got \(2, 2\)"):
        gate_scores(EXPERTS, WEIGHTS[1:], 4)
    with pytest.raises(MeasurementError, match=r"Did you mean 'token'"):
        list(measure_affinity(PlantedTrace(np.zeros(0, np.int32), {}, num_experts=1), by="tokens"))
