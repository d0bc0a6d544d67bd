import itertools

import numpy as np
import pandas as pd
import pytest

from planted import PlantedTrace, plant_channel, plant_document_labels, plant_noise
from planted.words import PlantedText, plant_words
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import (
    RESULT_COLUMNS,
    drop_positions,
    measure_conditional_information,
    measure_details,
    measure_domain_specialization,
    measure_layer,
    next_codes,
    top_shares,
)
from specialize.measure.estimators.composition import cross_fit_shares, estimate_composition, estimate_shares

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])


def compose(planted, **options):
    return measure_layer(
        planted.codes, planted.experts, planted.documents, level="token", num_labels=planted.num_labels,
        num_experts=planted.num_experts, **{"permutations": 99, **options},
    ).composition  # fmt: skip


def inside(estimates, truth):
    return (estimates.ci_low < truth) & (truth < estimates.ci_high)


@pytest.mark.parametrize("top_k", [1, 2])
def test_planted_shares_are_recovered(top_k):
    """With k slots an expert becomes k that are chosen together: k* = k of them hold what the one held."""
    planted = plant_channel(
        SHARES, CHANNEL[[0, 2]][[0, 1, 0]], num_documents=200, tokens_per_document=50, concentration=30, top_k=top_k
    )
    measured = compose(planted)
    assert measured.num_top == top_k
    true_load = SHARES @ CHANNEL[[0, 2]][[0, 1, 0]]
    shares = np.array([0.7, 0.8, 0.7])
    loads = np.array([true_load[0], true_load[3], true_load[0]])
    truths = (shares, shares - 0.25, shares - loads)
    for estimates, truth in zip((measured.top_share, measured.above_uniform, measured.above_load), truths, strict=True):
        assert inside(estimates, np.append(truth, SHARES @ truth)).all()
        assert estimates.unit == "share of the label's mass"
        assert (estimates.n_tokens, estimates.n_documents) == (10_000, 200)
    assert measured.above_load.p_value[-1] == pytest.approx(1 / 100)


def test_noise_is_within_its_null():
    planted = plant_noise(SHARES, CHANNEL[2], num_documents=60, tokens_per_document=60, seed=2)
    measured = compose(planted)
    assert (measured.top_share.value > 0.6).all()  # a heavy load alone
    assert (measured.above_uniform.null_mean > 0.3).all()
    assert inside(measured.above_load, 0.0)[:3].all()
    np.testing.assert_allclose(measured.above_load.value, measured.above_load.null_mean, atol=0.03)
    assert (measured.above_load.p_value > 0.05).all()


def test_noise_is_rejected_no_more_often_than_it_should():
    found = []
    for seed in range(300):
        noise = plant_noise(SHARES, CHANNEL[1], num_documents=10, tokens_per_document=40, seed=seed)
        found.append(compose(noise, permutations=39, seed=seed).above_load.p_value[-1])
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.085


def test_shares_by_hand():
    table = np.array([[5.0, 3.0, 2.0], [4.0, 0.0, 6.0], [0.0, 0.0, 0.0]])
    shares = top_shares(table, 1)
    np.testing.assert_allclose(shares[0], [0.5, 0.5 - 1 / 3, 0.3 - 3 / 20])  # most used: 0; most above its load: 1
    np.testing.assert_allclose(shares[1], [0.6, 0.6 - 1 / 3, 0.6 - 8 / 20])
    assert np.isnan(shares[2]).all()
    np.testing.assert_allclose(shares[3], (shares[0] + shares[1]) / 2)
    np.testing.assert_allclose(top_shares(table, 3)[:2], [[1, 0, 0], [1, 0, 0]], atol=1e-15)


def test_cross_fitted_shares_by_hand():
    """Even blocks, 5:1:2, select expert 0; odd blocks, 1:1:4, expert 2, and for the second place 0 and 1 tie."""
    blocks = np.array([[[3.0, 1.0, 0.0]], [[1.0, 1.0, 4.0]], [[2.0, 0.0, 2.0]]])
    np.testing.assert_allclose(cross_fit_shares(blocks, 1)[0, 0], (2 + 1) / 14)
    np.testing.assert_allclose(cross_fit_shares(blocks, 2)[0, 0], ((1 + 4) + (2 + 5 / 2 + 1 / 2)) / 14)
    np.testing.assert_allclose(estimate_shares(blocks, 1)[0, 0], (3 / 14 + 6 / 14) / 2)
    np.testing.assert_allclose(estimate_shares(blocks[:1], 1), top_shares(blocks[0], 1))


def test_shares_are_what_a_loop_finds():
    rng = np.random.default_rng(0)
    tables = rng.random((4, 5, 7))
    shares = top_shares(tables, 3)
    for place in np.ndindex(4, 5):
        label, everyone = tables[place] / tables[place].sum(), tables[place[0]].sum(axis=0) / tables[place[0]].sum()
        sets = [list(chosen) for chosen in itertools.combinations(range(7), 3)]
        share = max(label[chosen].sum() for chosen in sets)
        excess = max((label - everyone)[chosen].sum() for chosen in sets)
        np.testing.assert_allclose(shares[place], [share, share - 3 / 7, excess], atol=1e-10)


def test_the_order_of_experts_and_labels_is_immaterial():
    """Few tokens tie often."""
    rng = np.random.default_rng(1)
    blocks = rng.poisson(0.4, (7, 4, 6)).astype(float)
    labels, experts = rng.permutation(4), rng.permutation(6)
    for statistic in (cross_fit_shares, estimate_shares):
        moved = statistic(blocks[:, labels][..., experts], 2)
        np.testing.assert_allclose(moved[:-1], statistic(blocks, 2)[labels], atol=1e-12)
        np.testing.assert_allclose(moved[-1], statistic(blocks, 2)[-1], atol=1e-12)


# Sixteen experts, k* = 2: a label with clear top experts, one with four near ties, a rare one with sixteen, all of one
# load. The most used experts are those most above the load.
CLEAR = np.array([6.0, 4.0, *np.ones(14)]) / 24
NEAR = np.array([1, 1, 1, 3.2, 3.1, 3.0, 2.9, *np.ones(9)]) / 24.2
LABELS, CHANNELS = np.array([0.6, 0.35, 0.05]), np.stack([CLEAR, NEAR, np.full(16, 1 / 16)])


def draw_blocks(rng, num_blocks=40, tokens=120):
    """Draw tables of documents with their own mix of labels and their own routing."""
    labels = rng.multinomial(tokens, rng.dirichlet(20 * LABELS, size=num_blocks))
    channels = np.stack([rng.dirichlet(60 * row, size=num_blocks) for row in CHANNELS], axis=1)
    return rng.multinomial(labels, channels).astype(float)


def test_intervals_cover_the_share_of_the_top_experts_with_near_ties():
    rng, rounds = np.random.default_rng(0), 1000
    load = LABELS @ CHANNELS
    share = np.sort(CHANNELS, axis=1)[:, -2:].sum(axis=1)
    excess = np.sort(CHANNELS - load, axis=1)[:, -2:].sum(axis=1)
    truths = np.stack([np.append(truth, LABELS @ truth) for truth in (share, excess)])
    none = np.empty((0, 4, 3))
    blocks = [draw_blocks(rng) for _ in range(rounds)]
    drawn = [estimate_composition(each, none, num_top=2, n_tokens=4800, n_documents=40) for each in blocks]
    found = [(each.top_share, each.above_load) for each in drawn]
    covered = np.array([[inside(part, truth) for part, truth in zip(parts, truths, strict=True)] for parts in found])
    assert (covered.mean(axis=0) >= 0.93).all()
    assert (covered.mean(axis=0)[:, 0] <= 0.97).all()  # clear top experts: the usual interval
    assert (covered.mean(axis=0)[:, 1] <= 0.99).all()
    values = np.array([[part.value for part in parts] for parts in found])
    error, spread = values.mean(axis=0) - truths, values.std(axis=0) / np.sqrt(rounds)
    assert (np.abs(error[:, [0, 1, 3]]) < 0.01).all()
    gap = np.mean([top_shares(each.sum(axis=0), 2) - cross_fit_shares(each, 2) for each in blocks], axis=0)[:, [0, 2]].T
    assert (np.abs(error) < gap / 2 + 3 * spread).all()


def test_a_label_of_few_tokens_has_no_interval():
    blocks = np.zeros((12, 3, 4))
    blocks[:, 0] = 5.0
    blocks[:9, 1, 2] = 1.0
    measured = estimate_composition(blocks, np.empty((0, 4, 3)), num_top=1, n_tokens=249, n_documents=12)
    share = measured.top_share
    assert share.value[:2] == pytest.approx([0.25, 1])
    assert np.isnan(share.ci_low).tolist() == [False, True, True, False]
    assert share[1].ci_kind == "none: below 10 tokens of the label"
    assert share[2].ci_kind is None
    assert (share.ci_low[0], share.ci_high[0]) == pytest.approx((0.25, 0.25))
    assert share[0].ci_kind.startswith("95 % from cross-fitted to plug-in share over 12 document blocks")


def test_too_many_top_experts_raise():
    planted = plant_noise(SHARES, CHANNEL[0], num_documents=5, tokens_per_document=9)
    with pytest.raises(MeasurementError, match="between 1 and 4 top experts, got 5"):
        compose(planted, num_top=5)


def test_domains_are_recovered():
    planted = plant_document_labels(SHARES, CHANNEL, num_documents=400, tokens_per_document=30, concentration=20)
    measured = measure_domain_specialization(
        planted.codes, planted.experts, planted.documents, num_labels=3, num_experts=4, permutations=199
    )
    assert inside(measured, CHANNEL).mean() > 0.8
    np.testing.assert_allclose(measured.value, CHANNEL, atol=0.04)
    np.testing.assert_allclose(measured.value.sum(axis=1), 1)
    load = np.bincount(planted.experts[:, 0], minlength=4) / len(planted.experts)
    np.testing.assert_allclose(measured.null_mean, np.tile(load, (3, 1)), atol=0.01)
    assert measured[0, 0].p_value == measured[0, 3].p_value == pytest.approx(1 / 200)


def test_domains_by_hand():
    experts = np.array([[0, 1], [1, 2], [-1, -1], [0, -1], [2, 0]])
    measured = measure_domain_specialization(
        [1, 0, -1], experts, [0, 0, 0, 1, 2], num_labels=3, num_experts=3, permutations=9, num_blocks=2
    )
    np.testing.assert_allclose(measured.value[:2], [[1, 0, 0], [0.5, 1, 0.5]])
    assert np.isnan(measured.value[2]).all()
    assert (measured.n_tokens, measured.n_documents) == (3, 2)
    assert np.isnan(measured.ci_low[0, 1:]).all()  # a share of 0: documents that were not seen may have another
    with pytest.raises(MeasurementError, match="both a label and an expert"):
        measure_domain_specialization([-1, -1, -1], experts, [0, 0, 0, 1, 2], num_labels=3, num_experts=3)


def test_intervals_of_domains_with_few_documents_cover_the_planted_share():
    """Whole documents go to one expert, so that a share is one of some twenty documents."""
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        codes = np.repeat([0, 1, 2], 20)
        experts = np.array([rng.choice(4, p=CHANNEL[code]) for code in codes])
        measured = measure_domain_specialization(
            codes, np.repeat(experts, 5)[:, None], np.repeat(np.arange(60), 5), num_labels=3, num_experts=4,
            permutations=0,
        )  # fmt: skip
        has_interval = ~np.isnan(measured.ci_low)
        covered.append(inside(measured, CHANNEL)[has_interval].mean())
        assert ((measured.ci_low > 0) & (measured.ci_high < 1))[has_interval].all()
    assert 0.93 <= np.mean(covered) <= 0.98


def test_domain_p_values_are_uniform():
    found = np.array([
        measure_domain_specialization(
            planted.codes, planted.experts, planted.documents, num_labels=3, num_experts=4, permutations=39, seed=seed
        ).p_value[0, 0]
        for seed in range(400)
        for planted in [plant_document_labels(
            SHARES, np.tile(CHANNEL[0], (3, 1)), num_documents=30, tokens_per_document=8, seed=seed
        )]
    ])  # fmt: skip
    assert 0.03 <= (found <= 0.05).mean() <= 0.07


TOKENS = pd.DataFrame({"document": [0, 0, 0, 0, 1, 1], "sequence": [0, 0, 1, 1, 2, 2], "position": [0, 1, 0, 1, 0, 1]})


def test_the_next_token_is_in_the_same_window():
    assert next_codes([0, 1, 2, -1, 4, 5], TOKENS).tolist() == [1, -1, -1, -1, 5, -1]
    assert next_codes([0, 1, 2, -1, 4, 5], TOKENS[["document"]]).tolist() == [1, 2, -1, -1, 5, -1]
    assert next_codes([], TOKENS[:0]).tolist() == []
    with pytest.raises(MeasurementError, match="each of 6 tokens, got 2 codes"):
        next_codes([0, 1], TOKENS)


def test_first_positions_lose_their_labels():
    annotation = Annotation("upos", "token", ("a", "b"), np.array([0, 1, 1, 0, 0, -1], np.int32), {"tool": "hand"})
    dropped = drop_positions(annotation, TOKENS, 1)
    assert dropped.codes.tolist() == [-1, 1, -1, 0, -1, -1]
    assert dropped.provenance == {"tool": "hand", "skip_positions": 1}
    assert drop_positions(annotation, TOKENS, 0) is annotation
    with pytest.raises(MeasurementError, match="at least 0, got -1"):
        drop_positions(annotation, TOKENS, -1)
    with pytest.raises(MeasurementError, match="only for labels of tokens"):
        drop_positions(Annotation("topic", "document", ("a",), np.zeros(2, np.int32)), TOKENS, 1)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    labels, experts = rng.dirichlet(np.ones(3), size=6), rng.dirichlet(np.ones(4), size=(6, 3))
    return plant_words(np.full(6, 1 / 6), labels, experts, num_documents=40, tokens_per_document=30)


@pytest.fixture(scope="module")
def trace(planted):
    tokens = pd.DataFrame(
        {"document": planted.documents, "sequence": planted.documents, "position": np.tile(np.arange(30), 40),
         "token_id": planted.words}
    )  # fmt: skip
    control = np.random.default_rng(1).integers(0, 4, (1200, 1)).astype(np.int16)
    return PlantedText(tokens, {2: planted.experts, 5: control}, num_experts=4, random_routers={2: control, 5: control})


@pytest.fixture(scope="module")
def annotation(planted):
    return Annotation("upos", "token", ("NOUN", "VERB", "ADJ", "X"), planted.codes)


@pytest.fixture(scope="module")
def frame(trace, annotation):
    return measure_details(trace, annotation, permutations=39)


def test_rows_of_labels_of_tokens(frame):
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert set(frame["run"]) == {"words"}
    assert set(frame["label_set"]) == {"upos"}
    assert not frame.duplicated(["routing", "layer", "expert", "label", "metric"]).any()
    own = frame[(frame["layer"] == 2) & (frame["routing"] == "random")]
    assert own.groupby("metric").size().to_dict() == {
        "conditional_information": 1,
        "ambiguous_mutual_information": 1,
        "ambiguous_word_information": 1,
        "next_token_mutual_information": 1,
        "next_token_uncertainty_coefficient": 1,
        "uncertainty_coefficient_without_first": 1,
    }
    assert frame["expert"].isna().all()
    (skipped,) = frame[frame["metric"] == "skipped_positions"].to_dict("records")
    assert (skipped["value"], skipped["unit"]) == (0, "count")


def test_rows_hold_what_the_arrays_gave(frame, planted, trace, annotation):
    rows = frame[(frame["layer"] == 2) & (frame["routing"] == "learned") & frame["label"].isna()].set_index("metric")
    beyond = measure_conditional_information(
        *planted.arrays, level="token", permutations=39, num_labels=4, num_experts=4
    )
    for column in ("value", "ci_low", "ci_high", "null_mean", "p_value", "n_tokens"):
        assert rows.loc["conditional_information", column] == getattr(beyond.conditional_information, column)
        assert rows.loc["ambiguous_mutual_information", column] == getattr(beyond.mutual_information, column)
    following = next_codes(planted.codes, trace.tokens())
    after = measure_layer(
        following, planted.experts, planted.documents, level="token", num_labels=4, num_experts=4, permutations=39
    )
    assert rows.loc["next_token_uncertainty_coefficient", "value"] == after.uncertainty_coefficient.value
    assert rows.loc["next_token_mutual_information", "n_tokens"] == 1160
    later = np.where(trace.tokens()["position"] == 0, -1, planted.codes)
    without = measure_layer(
        later, planted.experts, planted.documents, level="token", num_labels=4, num_experts=4, permutations=0
    )
    assert rows.loc["uncertainty_coefficient_without_first", "value"] == without.uncertainty_coefficient.value
    assert rows.loc["conditional_information", "ci_low"] < planted.conditional
    assert rows.loc["conditional_information", "ci_high"] > planted.conditional
    # words and labels of neighbours are independent
    assert (
        rows.loc["next_token_mutual_information", "ci_low"] < 0 < rows.loc["next_token_mutual_information", "ci_high"]
    )


def test_skipped_positions_are_reported(trace, annotation):
    skipped = measure_details(trace, drop_positions(annotation, trace.tokens(), 2), permutations=9)
    assert skipped.loc[skipped["metric"] == "skipped_positions", "value"].tolist() == [2]
    assert (skipped.loc[skipped["metric"] == "next_token_mutual_information", "n_tokens"] == 1120).all()


def test_rows_of_labels_of_documents(trace):
    codes = np.random.default_rng(0).integers(0, 2, 40).astype(np.int32)
    frame = measure_details(trace, Annotation("theme", "document", ("a", "b", "c"), codes), permutations=39)
    own = frame[(frame["layer"] == 5) & (frame["routing"] == "learned")]
    assert own.groupby("metric").size().to_dict() == {
        "conditional_information": 1,
        "ambiguous_mutual_information": 1,
        "ambiguous_word_information": 1,
        "domain_specialization": 8,
    }
    assert set(own["expert"].dropna()) == {0, 1, 2, 3}
    assert (frame.loc[frame["metric"] == "conditional_information", "p_value"] > 0.02).all()


def test_a_trace_without_token_ids_has_the_other_rows(planted, annotation):
    bare = PlantedTrace(planted.documents, {2: planted.experts}, num_experts=4)
    frame = measure_details(bare, annotation, permutations=9)
    assert not frame["metric"].str.contains("conditional|ambiguous|first").any()
    assert "next_token_mutual_information" in set(frame["metric"])
    unknown = PlantedText(
        pd.DataFrame({"document": planted.documents, "token_id": -1}), {2: planted.experts}, num_experts=4
    )
    pd.testing.assert_frame_equal(measure_details(unknown, annotation, permutations=9, run_name="planted"), frame)


def test_an_annotation_that_does_not_fit(trace):
    with pytest.raises(MeasurementError, match="labels of the 1200 tokens of the trace, got 3"):
        measure_details(trace, Annotation("upos", "token", ("a",), np.zeros(3, np.int32)))
