"""Routing statistics of models with stacks, shared routers or several routers per layer."""

import numpy as np
import pytest
from scipy.stats import entropy, t

from planted.stacks import StackedRun, StackRouter
from planted.streams import PlantedRun
from specialize.measure import measure_coactivation, measure_flow, measure_routing

DOCUMENTS = np.repeat(np.arange(30, dtype=np.int32), 12)
PLACES = np.arange(len(DOCUMENTS))


def column(values):
    return np.asarray(values, dtype=np.int16)[:, None]


def flow_rows(frame):
    rows = frame[frame["metric"] == "flow_uncertainty_coefficient"]
    return [(row["routing"], row["router"], row["label"]) for _, row in rows.iterrows()]


def test_flow_into_a_layer_that_merges_experts():
    """Four equally frequent experts; the next layer maps 0, 1 and 2 to expert 0, and 3 to expert 1."""
    one, other = column(PLACES % 4), column(PLACES % 4 == 3)
    onward = measure_flow(one, other, DOCUMENTS, num_experts=4, num_following=2, permutations=0)
    back = measure_flow(other, one, DOCUMENTS, num_experts=2, num_following=4, permutations=0)
    merged = entropy([0.75, 0.25], base=2)
    for flow, share in [(onward, 1), (back, merged / 2)]:
        assert flow.mutual_information.value == pytest.approx(merged)
        assert flow.uncertainty_coefficient.value == pytest.approx(share)
        assert flow.uncertainty_coefficient.ci_high == pytest.approx(share)
    np.testing.assert_allclose(onward.transitions.value, [[1, 1, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(back.transitions.value, [[1 / 3, 0], [1 / 3, 0], [1 / 3, 0], [0, 1]])
    np.testing.assert_allclose(onward.transitions.null_mean, [[0.75] * 4, [0.25] * 4])


@pytest.mark.parametrize("related", [True, False])
def test_document_level_routing_is_not_significant_under_shifts(related):
    """Shifts within a document with a single expert change nothing, so that p = 1."""
    rng = np.random.default_rng(0)
    choice = rng.integers(0, 3, 30)
    following = (choice + 1) % 3 if related else rng.integers(0, 3, 30)
    flow = measure_flow(
        column(choice[DOCUMENTS]),
        column(following[DOCUMENTS]),
        DOCUMENTS,
        num_experts=3,
        num_following=3,
        permutations=19,
    )
    assert flow.mutual_information.p_value == 1
    assert flow.mutual_information.null_mean == pytest.approx(flow.mutual_information.value)
    if related:
        assert flow.uncertainty_coefficient.value == pytest.approx(1)


def test_flow_into_a_layer_with_one_expert_is_undefined():
    flow = measure_flow(
        column(PLACES % 4), column(np.zeros(360)), DOCUMENTS, num_experts=4, num_following=1, permutations=5
    )
    assert flow.mutual_information.value == pytest.approx(0, abs=1e-12)
    assert np.isnan(flow.uncertainty_coefficient.value)


def test_one_decision_for_all_layers_is_one_routing():
    """A model that routes once: all layers have the same rows, and each determines the next."""
    experts = np.stack([PLACES % 5, (PLACES + 2) % 5], axis=1).astype(np.int16)
    frame = measure_routing(PlantedRun(DOCUMENTS, {0: experts, 1: experts, 2: experts}, num_experts=5), permutations=5)
    first, second = (frame[frame["layer"] == layer].reset_index(drop=True) for layer in (0, 1))
    for name in ("metric", "expert", "value", "ci_low", "ci_high", "null_mean", "p_value"):
        assert first[name].equals(second[name])
    rows = frame[frame["metric"] == "flow_uncertainty_coefficient"]
    np.testing.assert_allclose(rows["value"], [1, 1])


def test_two_routers_of_one_layer_number_are_distinguished_and_follow_each_other():
    routers = [StackRouter(layer, f"{layer}.{name}", 3, 1) for layer in (0, 1) for name in ("up", "down")]
    experts = [column((PLACES + step) % 3) for step in range(4)]
    frame = measure_routing(StackedRun(DOCUMENTS, list(zip(routers, experts, strict=True))), permutations=3)
    assert flow_rows(frame) == [
        ("learned", "0.up", "0.down"),
        ("learned", "0.down", "1.up"),
        ("learned", "1.up", "1.down"),
    ]
    assert not frame.duplicated(["routing", "router", "metric", "label_set", "label", "expert"]).any()
    assert frame.groupby("layer")["router"].nunique().tolist() == [2, 2]


def test_flow_stays_in_its_stack_and_counts_its_tokens():
    """Encoder and decoder route different tokens; a random router does not follow a router of the model."""
    read = (PLACES % 12 < 4)[:, None]
    routers = []
    for kind in ("learned", "random"):
        for stack, own in (("encoder", read), ("decoder", ~read)):
            for layer in (0, 1):
                experts = np.where(own, column((PLACES + layer) % 3), -1).astype(np.int16)
                routers.append((StackRouter(layer, f"{stack}.{layer}", 3, 1, kind, stack), experts))
    frame = measure_routing(StackedRun(DOCUMENTS, routers), permutations=3)
    assert flow_rows(frame) == [
        (kind, f"{stack}.0", f"{stack}.1") for kind in ("learned", "random") for stack in ("encoder", "decoder")
    ]
    for stack, tokens in (("encoder", 120), ("decoder", 240)):
        rows = frame[frame["router"].str.startswith(stack)]
        assert set(rows["n_tokens"]) == {tokens}
        assert set(rows["n_documents"]) == {30}


def test_of_many_experts_the_most_frequent_partners_are_kept():
    """Of 66 experts each keeps 64 of 65 partners, those it is chosen with most; of 65 none is left out."""
    rng = np.random.default_rng(0)
    for num_experts, kept in ((66, 64), (65, 64)):
        odds = rng.dirichlet(np.ones(num_experts))
        pairs = [rng.choice(num_experts, 2, replace=False, p=odds) for _ in range(360)]
        experts = np.array(pairs, dtype=np.int16)
        frame = measure_routing(PlantedRun(DOCUMENTS, {0: experts}, num_experts=num_experts), permutations=1)
        rows = frame[frame["metric"] == "coactivation"]
        together = np.zeros((num_experts, num_experts))
        for left, right in pairs:
            together[left, right] += 1
            together[right, left] += 1
        for expert, own in rows.groupby("expert"):
            shares = np.delete(together[expert], expert) / together[expert].sum()
            assert len(own) == kept
            assert len(set(own["label"])) == kept
            assert str(expert) not in set(own["label"])
            np.testing.assert_allclose(np.sort(own["value"])[::-1], np.sort(shares)[::-1][:kept])
        assert rows["expert"].nunique() == np.count_nonzero(together.any(axis=1))


def test_hundreds_of_experts_are_estimated_as_few_are():
    """The table is cut into slabs of experts: the values at both sides of a cut are those of a count by hand."""
    rng = np.random.default_rng(1)
    num_experts, tokens = 300, 3000
    first = rng.integers(0, num_experts, tokens)
    experts = np.stack([first, (first + rng.integers(1, 4, tokens)) % num_experts], axis=1).astype(np.int16)
    documents = np.repeat(np.arange(50), tokens // 50)
    measured = measure_coactivation(experts, documents, num_experts=num_experts)
    members = (experts[:, :, None] == np.arange(num_experts)).any(axis=1)
    for one in (0, 277, 278, 279, 280, 299):  # 2 ** 22 cells of 50 blocks of 300 are 279 experts
        other = (one + 1) % num_experts
        own = members[:, one]
        assert measured.value[one, other] == pytest.approx(members[own, other].mean())
        without = [members[own & (documents != block), other].mean() for block in range(50)]
        error = np.sqrt(49 / 50 * ((without - np.mean(without)) ** 2).sum())
        assert measured.ci_high[one, other] == pytest.approx(measured.value[one, other] + t.ppf(0.975, 49) * error)
        assert np.isnan(measured.value[one, one])
    np.testing.assert_allclose(np.nansum(measured.value, axis=1), 1)  # of two experts the other one is some expert
    np.testing.assert_allclose(np.nansum(measured.null_mean, axis=1), 1, atol=1e-6)
