"""Whether two sides choose the same experts for a token, against sets of Python."""

import numpy as np
import pytest

from planted.streams import PlantedRun
from planted.usage import draw_routing
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import compare_traces
from specialize.measure.estimators.token_agreement import compare_tokens


def held(row):
    return {int(expert) for expert in row if expert >= 0}


def test_each_token_is_compared_as_sets_are():
    one, _ = draw_routing(600, num_experts=5, top_k=3, num_documents=9, dropped=0.3, seed=1)
    two, _ = draw_routing(600, num_experts=5, top_k=3, num_documents=9, dropped=0.3, seed=2)
    two[:200] = one[:200, ::-1]
    draw = np.random.default_rng(3)
    gates = [draw.random(one.shape).astype(np.float32) for _ in range(2)]
    found = compare_tokens(one, two, weights=gates[0], other_weights=gates[1])
    for row, (own, theirs) in enumerate(zip(one, two, strict=True)):
        common = held(own) & held(theirs)
        if not (held(own) and held(theirs)):
            assert np.isnan([found.overlap[row], found.differs[row], found.same_first[row]]).all()
            assert np.isnan(found.weight_difference[row])
            continue
        assert found.overlap[row] == pytest.approx(len(common) / 3)
        assert found.differs[row] == (held(own) != held(theirs))
        known = own[0] >= 0 and theirs[0] >= 0
        assert found.same_first[row] == (own[0] == theirs[0]) if known else np.isnan(found.same_first[row])
        of = [dict(zip(side.tolist(), gate[row], strict=True)) for side, gate in zip((own, theirs), gates, strict=True)]
        gaps = [abs(float(of[0][expert]) - float(of[1][expert])) for expert in common]
        expected = np.mean(gaps) if gaps else np.nan
        np.testing.assert_allclose(found.weight_difference[row], expected, rtol=1e-6)
    assert 0 < np.isnan(found.overlap).sum() < 200
    assert compare_tokens(one, two).weight_difference is None


def test_arrays_of_other_shapes_raise():
    with pytest.raises(MeasurementError, match=r"compare the same tokens and k"):
        compare_tokens([[0, 1]], [[0]])
    with pytest.raises(MeasurementError, match=r"got shapes \(1, 2\), \(1, 2\), \(1, 2\) and \(1, 1\)"):
        compare_tokens([[0, 1]], [[0, 1]], weights=[[0.5, 0.5]], other_weights=[[1.0]])


def test_a_planted_share_of_changed_tokens_is_recovered_in_the_layer_and_the_label():
    """In layer 5 a token of label b gets another expert with probability 0.3; any other token keeps its own."""
    draw = np.random.default_rng(0)
    inside = {"with b": 0, "all": 0}
    for _ in range(20):
        documents = np.repeat(np.arange(60, dtype=np.int32), 30)
        codes = (draw.random(len(documents)) < 0.4).astype(np.int32)
        experts = draw.random((len(documents), 6)).argsort(axis=1)[:, :2].astype(np.int16)
        others = experts.copy()
        moved = (codes == 1) & (draw.random(len(documents)) < 0.3)
        others[moved, 1] = 6
        one = PlantedRun(documents, {3: experts, 5: experts}, num_experts=7)
        two = PlantedRun(documents, {3: experts, 5: others}, num_experts=7)
        label = Annotation("kind", "token", ("a", "b"), codes)
        frame = compare_traces(one, two, [], by=[label])
        rows = frame[(frame["label_set"] == "kind") & (frame["metric"] == "saturation")].set_index(["layer", "label"])
        assert (rows.loc[3, "value"] == 1).all()
        assert rows.loc[(5, "a"), "value"] == 1
        agreed = rows.loc[(5, "b")]
        inside["with b"] += agreed["ci_low"] <= 1 - 0.3 / 2 <= agreed["ci_high"]
        anywhere = frame[frame["metric"] == "mismatched_tokens_in_any_layer"]
        [whole] = [row for _, row in anywhere[anywhere["label_set"].isna()].iterrows()]
        assert whole["value"] == moved.mean()
        assert np.isnan(whole["p_value"])
        inside["all"] += whole["ci_low"] <= 0.4 * 0.3 <= whole["ci_high"]
        apart = frame[frame["metric"] == "mismatched_tokens"].set_index("layer")["value"]
        assert apart.to_dict() == {3: 0, 5: moved.mean()}
        assert (frame.loc[frame["metric"] == "first_expert_agreement", "value"] == 1).all()
    assert min(inside.values()) >= 17
