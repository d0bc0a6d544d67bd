"""Paired differences with a known truth, and of layers that did not route all tokens."""

import numpy as np
import pytest
from scipy.stats import entropy, false_discovery_control, ttest_1samp

from planted import channel_information, plant_document_labels
from planted.stacks import StackedRun, StackRouter
from planted.streams import PlantedRun, SetDistribution, plant_sets
from specialize.annotation import Annotation
from specialize.errors import MeasurementError
from specialize.measure import (
    compare_traces,
    estimate_difference,
    measure_cache,
    measure_same_token,
    measure_signatures,
    mutual_information,
    pseudo_values,
)

SHARES = np.array([0.5, 0.3, 0.2])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.05, 0.05, 0.1, 0.8]])
ONE = SetDistribution(np.array([[0, 1], [1, 2], [2, 0], [3, 2]], dtype=np.int16), np.array([0.4, 0.3, 0.2, 0.1]), 4)
TWO = SetDistribution(np.array([[0, 1], [1, 2], [2, 3], [3, 0]], dtype=np.int16), np.full(4, 0.25), 4)


def plant_twins(seed, documents=40, tokens=25):
    """Tables [block, label, expert] of two routers with one channel per document; labels are clustered by document."""
    rng = np.random.default_rng(seed)
    tables = np.zeros((2, documents, 3, 4))
    for document in range(documents):
        codes = rng.choice(3, tokens, p=rng.dirichlet(6 * SHARES))
        channel = np.stack([rng.dirichlet(6 * row) for row in CHANNEL])
        for table in tables:
            drawn = (rng.random((tokens, 1)) > channel[codes].cumsum(axis=1)[:, :-1]).sum(axis=1)
            np.add.at(table[document], (codes, drawn), 1)
    return tables


def cell(frame, metric, layer=0, label_set=None):
    rows = frame[frame["metric"] == metric]
    rows = rows[rows["layer"].isna() if layer is None else rows["layer"] == layer]
    return rows[rows["label_set"].isna() if label_set is None else rows["label_set"] == label_set].iloc[0]


def two_layers(one, other, documents, **options):
    return PlantedRun(documents, {0: one, 1: other}, num_experts=4, **options)


@pytest.fixture(scope="module")
def theme():
    return plant_document_labels(SHARES, CHANNEL, num_documents=24, tokens_per_document=10, seed=0)


@pytest.fixture(scope="module")
def themes(theme):
    return Annotation("theme", "document", ("a", "b", "c"), theme.codes)


def test_between_twins_p_values_are_uniform():
    """Both sides differ by chance alone, in documents that are clustered: 400 data sets."""
    p_values = []
    for seed in range(400):
        one, other = (pseudo_values(table, mutual_information) for table in plant_twins(seed))
        p_values.append(estimate_difference(one, other, unit="bits").difference.p_value)
    for level, room in [(0.05, 0.033), (0.5, 0.075)]:  # three standard errors
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=room)


def test_at_the_margin_equivalence_is_claimed_as_often_as_it_says():
    """Where the true difference is the margin itself, two one-sided tests at 5 % are wrong one time in twenty."""
    rng = np.random.default_rng(0)
    claimed = []
    for _ in range(2000):
        shared = rng.normal(0, 3, 20)
        sides = (shared + rng.normal(mean, 1, 20) for mean in (0.8, 0.0))
        claimed.append(estimate_difference(*sides, unit="bits", margin=0.8).equivalence.p_value <= 0.05)
    assert np.mean(claimed) == pytest.approx(0.05, abs=0.015)


def test_planted_differences_are_covered_layer_by_layer_and_in_the_mean():
    """Load entropy and repeats of two runs are known in closed form; so are their differences."""
    kept = (0.5, 0.2)
    repeats = [keep + (1 - keep) * sets.first_repeat for keep, sets in zip(kept, (ONE, TWO), strict=True)]
    truth = {
        "difference of load_entropy": entropy(ONE.inclusion, base=2) - entropy(TWO.inclusion, base=2),
        "difference of first_expert_repeats": repeats[0] - repeats[1],
    }
    held = dict.fromkeys([*truth, *(f"mean {metric}" for metric in truth)], 0)
    for seed in range(60):
        (one, documents), (other, _), (third, _) = (
            plant_sets(
                sets, num_documents=60, tokens_per_document=25, persistence=keep, concentration=20, seed=100 * at + seed
            )
            for at, (sets, keep) in enumerate([(ONE, kept[0]), (TWO, kept[1]), (ONE, kept[0])])
        )
        frame = compare_traces(two_layers(one, third, documents), two_layers(other, third, documents))
        for metric, value in truth.items():
            row, mean = cell(frame, metric), cell(frame, f"mean {metric}", None)
            held[metric] += row["ci_low"] < value < row["ci_high"]
            held[f"mean {metric}"] += mean["ci_low"] < value / 2 < mean["ci_high"]  # the other layer does not differ
    assert min(held.values()) >= 52  # of 60 at 95 %: 57, three standard errors of 1.7 less


def test_a_planted_difference_of_information_is_covered():
    """Labels of documents: one run routes by them, the other by a third of them."""
    weaker = CHANNEL / 3 + (2 / 3) / 4
    truth = channel_information(SHARES, CHANNEL) - channel_information(SHARES, weaker)
    held = 0
    for seed in range(60):
        one, other = (
            plant_document_labels(
                SHARES, channel, num_documents=150, tokens_per_document=8, concentration=40, seed=seed
            )
            for channel in (CHANNEL, weaker)
        )  # one seed: the same labels
        labels = Annotation("theme", "document", ("a", "b", "c"), one.codes)
        assert np.array_equal(one.codes, other.codes)
        sides = (PlantedRun(each.documents, {0: each.experts}, num_experts=4) for each in (one, other))
        row = cell(compare_traces(*sides, [labels]), "difference of mutual_information", 0, "theme")
        held += row["ci_low"] < truth < row["ci_high"]
    assert held >= 52


def test_q_values_are_those_of_one_metric_and_routing(theme, themes):
    one = two_layers(theme.experts, theme.experts[::-1], theme.documents, random_routers={0: theme.experts})
    two = two_layers(theme.experts[::-1], theme.experts // 2, theme.documents, random_routers={0: theme.experts[::-1]})
    frame = compare_traces(one, two, [themes], margin=0.2)
    assert set(frame["routing"]) == {"learned", "random"}
    for _, rows in frame[frame["p_value"].notna()].groupby(["metric", "routing"]):
        np.testing.assert_allclose(rows["q_value"], false_discovery_control(rows["p_value"].to_numpy()))


def test_the_slot_rule_reaches_both_sides():
    """By the first slot the load is that of the first experts alone."""
    documents = np.repeat(np.arange(20, dtype=np.int32), 12)
    one = np.stack([np.arange(240) % 4, (np.arange(240) + 1) % 4], axis=1).astype(np.int16)
    other = np.stack([np.zeros(240), 1 + np.arange(240) % 3], axis=1).astype(np.int16)
    frame = compare_traces(two_layers(one, one, documents), two_layers(other, other, documents), rule="first")
    assert cell(frame, "difference of load_entropy")["value"] == pytest.approx(2)


def test_renaming_experts_is_no_difference():
    """Sums in another order differ by rounding; that is no finding, however sure the t test is of it."""
    experts, documents = plant_sets(ONE, num_documents=60, tokens_per_document=30, concentration=10, seed=5)
    labels = Annotation(
        "upos", "token", ("a", "b", "c"), np.random.default_rng(0).integers(0, 3, len(experts), np.int32)
    )
    renamed = np.array([2, 0, 3, 1], dtype=np.int16)[experts]
    frame = compare_traces(
        two_layers(experts, experts, documents), two_layers(renamed, renamed, documents), [labels], margin=0.01
    )
    tested = frame[frame["p_value"].notna()]
    np.testing.assert_allclose(tested["value"], 0, atol=1e-11)
    equivalence = tested["metric"].str.contains("equivalence")
    assert (tested.loc[~equivalence, "p_value"] == 1).all()
    assert (tested.loc[equivalence, "p_value"] == 0).all()


def test_a_constant_difference_is_certain_and_not_equivalent_below_it():
    """Rounding in the pseudo-values must not count as noise of the difference."""
    noise = np.random.default_rng(0).normal(5, 3, 50)
    apart = estimate_difference(noise + 0.25, noise, unit="bits", margin=0.25)
    assert apart.difference.p_value == 0
    assert apart.equivalence.p_value == 1  # it is not within the margin but on it
    assert estimate_difference(noise + 0.25, noise, unit="bits", margin=0.3).equivalence.p_value == 0


def information_by_hand(codes, experts):
    """I of labels of documents and the experts of their tokens, each document with mass 1, in bits."""
    table = np.zeros((3, 4))
    for code, chosen in zip(codes, experts, strict=True):
        table[code] += np.bincount(chosen, minlength=4) / len(chosen)
    return entropy(table.sum(0), base=2) + entropy(table.sum(1), base=2) - entropy(table.ravel(), base=2)


def test_layers_that_dropped_documents_share_their_blocks(theme, themes):
    """A document that one layer dropped does not move the blocks of the others: the mean over layers stays paired."""
    kept = np.arange(24) % 8 != 3
    dropped = np.where(kept[theme.documents][:, None], theme.experts, -1).astype(np.int16)
    back = theme.experts[::-1]
    sides = two_layers(theme.experts, dropped, theme.documents), two_layers(back, back, theme.documents)
    frame = compare_traces(*sides, [themes], num_blocks=24)
    rows = [cell(frame, "difference of mutual_information", layer, "theme") for layer in (0, 1)]
    assert [row["n_documents"] for row in rows] == [24, 21]
    assert [row["n_tokens"] for row in rows] == [240, 210]

    def pseudo(experts, documents):
        """Delete one document after the other, also those that were dropped."""
        chosen = experts.reshape(24, 10)
        whole = information_by_hand(theme.codes[documents], chosen[documents])
        rest = [documents & (np.arange(24) != left_out) for left_out in range(24)]
        return [24 * whole - 23 * information_by_hand(theme.codes[each], chosen[each]) for each in rest]

    apart = [np.subtract(pseudo(theme.experts, each), pseudo(back, each)) for each in (np.ones(24, bool), kept)]
    for row, values in [
        (rows[0], apart[0]),
        (rows[1], apart[1]),
        (cell(frame, "mean difference of mutual_information", None, "theme"), np.mean(apart, axis=0)),
    ]:
        test = ttest_1samp(values, 0)
        expected = (values.mean(), *test.confidence_interval(0.95), test.pvalue)
        np.testing.assert_allclose(row[["value", "ci_low", "ci_high", "p_value"]].astype(float), expected, atol=1e-10)


def draw_layer(rng, ids, strength):
    """Draw two of seven experts for each token; the first is that of its token id with probability `strength`."""
    drawn = rng.permuted(np.tile(np.arange(6), (len(ids), 1)), axis=1)[:, :2]
    own = rng.random(len(ids)) < strength
    drawn[own, 0] = ids[own] % 6
    drawn[drawn[:, 0] == drawn[:, 1], 1] = 6
    return drawn.astype(np.int16)


def test_differences_are_those_of_measuring_both_sides_without_each_document():
    """One document after the other is deleted from arrays; caches, token ids and signatures are measured anew."""
    rng = np.random.default_rng(5)
    documents = np.repeat(np.arange(12, dtype=np.int32), 15)
    ids = rng.integers(0, 8, len(documents)).astype(np.int32)
    sides = [draw_layer(rng, ids, strength) for strength in (0.9, 0.2)]
    sides[0][documents == 3] = -1  # a document that the first side dropped
    codes = np.arange(12, dtype=np.int32) % 3
    traces = [PlantedRun(documents, {0: side}, num_experts=7, token_ids=ids) for side in sides]
    frame = compare_traces(*traces, [Annotation("theme", "document", ("a", "b", "c"), codes)], num_blocks=12)

    def caches(side, kept):
        used = measure_cache(side[kept], documents[kept], num_experts=7, permutations=0)
        return [used.recent.value, used.optimal.value, used.segments.value]

    def same_token(side, kept):
        both = kept & (documents != 3)  # what both sides routed
        how = {"num_experts": 7, "permutations": 0}
        return measure_same_token(ids[both], side[both], documents[both], **how).difference.value

    def similar(side, kept):
        usage = np.zeros((12, 7))
        rows, slots = np.nonzero((kept & (documents != 3))[:, None] & (side >= 0))
        np.add.at(usage, (documents[rows], side[rows, slots]), 1)
        return measure_signatures(usage, codes, num_labels=3, permutations=0).difference.value

    def pseudo(measure, side):
        whole = np.asarray(measure(side, np.ones(len(documents), dtype=bool)))
        return np.array([12 * whole - 11 * np.asarray(measure(side, documents != each)) for each in range(12)])

    apart = [pseudo(measure, sides[0]) - pseudo(measure, sides[1]) for measure in (caches, same_token, similar)]
    metrics = ("lru_hit_rate", "optimal_hit_rate", "segment_coverage", "same_token_overlap_above_any",
               "signature_difference")  # fmt: skip
    for metric, values in zip(metrics, [*apart[0].T, *apart[1:]], strict=True):
        row = cell(frame, f"difference of {metric}", label_set="theme" if metric.startswith("signature") else None)
        test = ttest_1samp(values, 0)
        found = row[["value", "ci_low", "ci_high", "p_value"]].astype(float)
        np.testing.assert_allclose(found, (values.mean(), *test.confidence_interval(0.95), test.pvalue), atol=1e-9)


def test_a_next_layer_that_follows_from_the_first_is_predicted_that_much_better(theme):
    rng = np.random.default_rng(2)
    first, other = (rng.integers(0, 4, theme.experts.shape).astype(np.int16) for _ in range(2))
    sides = (two_layers(first, after, theme.documents) for after in ((first + 1) % 4, other))
    frame = compare_traces(*sides)
    row = cell(frame, "difference of next_layer_recall")
    assert row["ci_low"] < 1 - 1 / 4 < row["ci_high"]  # all are predicted, against one of four
    assert row["value"] == pytest.approx(0.75, abs=0.1)
    assert "without refitting" in row["ci_kind"]
    assert cell(frame, "saturation")["value"] == 1  # the first layers are the same
    assert not (frame["metric"].str.contains("recall") & (frame["layer"] == 1)).any()  # the last has no next one


def encoder_and_decoder(theme, seed):
    """The first half of each document goes to the encoder, the second to the decoder; both call their layer 0."""
    rng = np.random.default_rng(seed)
    read = (np.arange(len(theme.documents)) % 10 < 5)[:, None]
    drawn = rng.integers(0, 4, theme.experts.shape).astype(np.int16)
    return StackedRun(
        theme.documents,
        [
            (StackRouter(0, "encoder.0", 4, 1, stack="encoder"), np.where(read, drawn, -1).astype(np.int16)),
            (StackRouter(0, "decoder.0", 4, 1), np.where(read, -1, drawn).astype(np.int16)),
        ],
    )


def test_tokens_that_a_router_never_saw_are_not_counted(theme):
    frame = compare_traces(encoder_and_decoder(theme, 1), encoder_and_decoder(theme, 2))
    for name in ("encoder.0", "decoder.0"):
        rows = frame[frame["router"] == name]
        # load entropy, two repeats, three of caches, occurrences of a token id; and how far the choices agree
        assert len(rows) == 7 + 4
        rows = rows[rows["metric"] != "gate_weight_difference"]  # of tokens with a common expert
        assert (rows["n_tokens"] == 120).all()
        assert (rows["n_documents"] == 24).all()


def test_labels_that_only_one_stack_saw_leave_no_empty_rows(theme):
    where = np.arange(len(theme.documents)) % 10 < 5
    codes = np.where(where, np.arange(len(where)) % 3, -1).astype(np.int32)
    upos = Annotation("upos", "token", ("a", "b", "c"), codes)
    frame = compare_traces(encoder_and_decoder(theme, 1), encoder_and_decoder(theme, 2), [upos])
    labelled = frame[frame["label_set"] == "upos"]
    assert set(labelled["router"]) == {"encoder.0"}
    assert frame["value"].notna().all()
    assert cell(frame, "mean difference of load_entropy", None)["ci_kind"].startswith("95 %")


def test_several_routers_of_one_layer_number_are_compared_each_with_its_own(theme):
    routers = [StackRouter(3, name, 4, 1) for name in ("up", "down")]
    one = StackedRun(theme.documents, list(zip(routers, (theme.experts, theme.experts // 2), strict=True)))
    other = StackedRun(theme.documents, list(zip(routers, (theme.experts, theme.experts[::-1]), strict=True)))
    frame = compare_traces(one, other)
    rows = frame[frame["metric"] == "saturation"].set_index("router")
    assert rows.loc["up", "value"] == 1
    assert rows.loc["down", "value"] == pytest.approx((theme.experts // 2 == theme.experts[::-1]).mean())
    assert not frame.duplicated(["router", "metric", "label_set"]).any()


@pytest.mark.parametrize(("num_experts", "top_k"), [(5, 1), (4, 2)])
def test_saturation_needs_as_many_experts_and_slots(theme, num_experts, top_k):
    wide = np.concatenate([theme.experts, (theme.experts + 1) % 4], axis=1)[:, :top_k]
    one = StackedRun(theme.documents, [(StackRouter(0, "a", 4, 1), theme.experts)])
    other = StackedRun(theme.documents, [(StackRouter(0, "a", num_experts, top_k), wide)])
    assert "saturation" not in set(compare_traces(one, other)["metric"])
    assert "saturation" in set(compare_traces(one, one)["metric"])


def test_nothing_left_to_compare_raises(theme, themes):
    other = plant_document_labels(SHARES, CHANNEL, num_documents=24, tokens_per_document=12)
    sides = [PlantedRun(each.documents, {0: each.experts}, num_experts=4) for each in (theme, other)]
    unlabelled = Annotation("theme", "document", themes.labels, np.full(24, -1, dtype=np.int32))
    with pytest.raises(MeasurementError, match="expected labels of documents that both sides routed, got none"):
        compare_traces(*sides, [unlabelled])
    empty = PlantedRun(theme.documents[:0], {0: theme.experts[:0]}, num_experts=4)
    with pytest.raises(MeasurementError, match="expected tokens in both, got none"):
        compare_traces(empty, empty)
