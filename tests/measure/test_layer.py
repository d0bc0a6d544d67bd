import numpy as np
import pytest

from planted import plant_channel, plant_document_labels, plant_noise
from specialize.errors import MeasurementError
from specialize.measure import count_blocks, estimate_blocks, measure_layer
from specialize.measure.base import information

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
CHANNEL = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.0, 0.1, 0.2, 0.7]])


def measure(planted, level="token", **options):
    options = {"permutations": 39, **options}
    return measure_layer(
        planted.codes,
        planted.experts,
        planted.documents,
        level=level,
        num_labels=planted.num_labels,
        num_experts=planted.num_experts,
        **options,
    )


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_planted_channel_is_recovered(top_k):
    planted = plant_channel(SHARES, CHANNEL, num_documents=200, tokens_per_document=50, concentration=30, top_k=top_k)
    measured = measure(planted)
    information_ = measured.mutual_information
    assert information_.ci_low < planted.information < information_.ci_high
    assert information_.value == pytest.approx(planted.information, abs=0.02)
    assert information_.p_value == pytest.approx(1 / 40)
    assert abs(information_.null_mean) < 0.002
    entropy = information.label_entropy(SHARES[:, None])
    coefficient = measured.uncertainty_coefficient
    assert coefficient.ci_low < planted.information / entropy < coefficient.ci_high
    assert coefficient.unit == "share of H(label)"
    assert (information_.n_tokens, information_.n_documents) == (10_000, 200)
    true_lift = np.repeat(information.lift(SHARES[:, None] * CHANNEL), top_k, axis=1)
    lift = measured.lift
    inside = (lift.ci_low <= true_lift) & (true_lift <= lift.ci_high)
    assert inside[true_lift > 0].mean() > 0.8
    assert (lift.value[true_lift == 0] == 0).all()
    assert np.isnan(lift.ci_low[true_lift == 0]).all()
    assert lift[0, 0].p_value == pytest.approx(1 / 40)
    assert lift[0, 0].value == pytest.approx(true_lift[0, 0], rel=0.1)


def test_lift_is_tested_on_both_sides():
    planted = plant_channel(SHARES, CHANNEL, num_documents=100, tokens_per_document=50)
    lift = measure(planted).lift
    sought, avoided = lift[0, 0], lift[0, 1]
    assert avoided.value < 0.5 < 1.5 < sought.value
    assert avoided.p_value == sought.p_value == pytest.approx(1 / 40)


@pytest.mark.parametrize("by_sequence", [False, True])
def test_a_planted_document_channel_is_recovered(by_sequence):
    planted = plant_document_labels(
        SHARES, CHANNEL, num_documents=400, tokens_per_document=30, by_sequence=by_sequence, concentration=20
    )
    measured = measure(planted, level="document")
    estimate = measured.mutual_information
    assert estimate.ci_low < planted.information < estimate.ci_high
    assert estimate.p_value == pytest.approx(1 / 40)
    assert (estimate.n_tokens, estimate.n_documents) == (12_000, 400)
    assert measured.table.sum() == pytest.approx(400)


def test_clustered_noise_is_no_information():
    planted = plant_noise(SHARES, CHANNEL[0], num_documents=100, tokens_per_document=100, seed=1)
    measured = measure(planted, permutations=99)
    estimate = measured.mutual_information
    assert estimate.ci_low < 0 < estimate.ci_high
    assert estimate.value < information.mutual_information(measured.table)
    assert estimate.p_value > 0.05
    assert estimate.null_low < estimate.null_mean < estimate.null_high


def test_constant_routing_within_documents_is_as_extreme_as_every_shift():
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(40), 30)
    experts = rng.permuted(np.tile(np.arange(6), (40, 1)), axis=1)[documents, :3]
    measured = measure_layer(
        rng.integers(0, 4, 1200), experts, documents, level="token", num_labels=4, num_experts=6, permutations=50
    )
    assert measured.mutual_information.p_value == 1.0
    assert measured.uncertainty_coefficient.p_value == 1.0
    assert (measured.specific_information.p_value == 1.0).all()
    assert (measured.lift.p_value == 1.0).all()


def test_table_and_information_are_those_of_counted_blocks():
    planted = plant_channel(SHARES, CHANNEL, num_documents=10, tokens_per_document=20, top_k=2)
    expected = count_blocks(
        planted.codes,
        planted.experts,
        blocks=planted.documents,
        num_labels=4,
        num_experts=8,
        num_blocks=10,
    )
    measured = measure(planted)
    np.testing.assert_allclose(measured.table, expected.sum(axis=0), atol=1e-12)
    for estimate, statistic in (
        (measured.mutual_information, information.mutual_information),
        (measured.uncertainty_coefficient, information.uncertainty_coefficient),
        (measured.specific_information, information.specific_information),
    ):
        by_blocks = estimate_blocks(
            expected, statistic, unit=estimate.unit, n_tokens=200, n_documents=10, corrected=True
        )
        for column in ("value", "ci_low", "ci_high"):
            np.testing.assert_allclose(getattr(estimate, column), getattr(by_blocks, column))


def test_document_usage_is_the_mean_of_its_tokens():
    experts = np.array([[0, 1], [0, -1], [2, 0], [-1, -1], [1, 2], [1, 2]])
    measured = measure_layer(
        [0, 1, 1, -1], experts, [0, 0, 1, 1, 2, 3], level="document", num_labels=2, num_experts=3, permutations=0
    )
    np.testing.assert_allclose(measured.table, [[0.75, 0.25, 0.0], [0.5, 0.5, 1.0]])
    assert (measured.load.n_tokens, measured.load.n_documents) == (4, 3)
    assert np.isnan(measured.lift.p_value).all()


def test_unlabelled_tokens_play_no_part():
    planted = plant_channel(SHARES, CHANNEL, num_documents=30, tokens_per_document=20)
    codes = planted.codes.copy()
    codes[::3] = -1
    codes[:20] = -1  # a whole document
    kept = codes >= 0
    whole = measure_layer(
        codes, planted.experts, planted.documents, level="token", num_labels=4, num_experts=4, permutations=20
    )
    alone = measure_layer(
        codes[kept],
        planted.experts[kept],
        planted.documents[kept],
        level="token",
        num_labels=4,
        num_experts=4,
        permutations=20,
    )
    assert whole.mutual_information == alone.mutual_information
    assert whole.mutual_information.n_documents == 29


def test_seed_decides_the_null():
    planted = plant_noise(SHARES, CHANNEL[0], num_documents=20, tokens_per_document=20)
    first, again, other = (measure(planted, seed=seed).null_uncertainty for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("level", ["token", "document"])
@pytest.mark.parametrize("num_documents", [1, 2])
def test_too_few_documents_leave_intervals_open(level, num_documents):
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(num_documents), 10)
    codes = rng.integers(0, 2, 10 * num_documents) if level == "token" else np.arange(num_documents)
    measured = measure_layer(
        codes,
        rng.integers(0, 3, (len(documents), 2)),
        documents,
        level=level,
        num_labels=2,
        num_experts=3,
        permutations=5,
    )
    estimate = measured.mutual_information
    assert np.isfinite(estimate.value)
    assert np.isnan(estimate.ci_low) == (num_documents == 1)
    counted = f"{num_documents} document{'s' * (num_documents > 1)}"
    method = ": 95 % jackknife over 2 document blocks (Student t)" if num_documents > 1 else ""
    assert estimate.ci_kind == f"unreliable, too little data ({counted}, at least 30 needed){method}"
    assert 0 < estimate.p_value <= 1


def test_a_single_label_holds_no_information():
    planted = plant_noise(SHARES, CHANNEL[0], num_documents=20, tokens_per_document=20)
    measured = measure_layer(
        np.zeros(400, dtype=int),
        planted.experts,
        planted.documents,
        level="token",
        num_labels=4,
        num_experts=4,
        permutations=9,
    )
    assert measured.mutual_information.value == pytest.approx(0.0, abs=1e-9)
    assert measured.mutual_information.p_value == 1.0
    assert np.isnan(measured.uncertainty_coefficient.value)
    assert np.isnan(measured.uncertainty_coefficient.p_value)
    np.testing.assert_allclose(measured.lift.value[0], 1.0)
    assert np.isnan(measured.lift.value[1:]).all()


def test_a_dead_expert_is_undefined_and_harms_nothing():
    planted = plant_channel(SHARES, CHANNEL, num_documents=20, tokens_per_document=50)
    wider = measure_layer(
        planted.codes, planted.experts, planted.documents, level="token", num_labels=4, num_experts=5, permutations=9
    )
    assert wider.mutual_information == measure(planted, permutations=9).mutual_information
    assert wider.load.value[4] == 0
    assert np.isnan(wider.specific_information[4].value)
    assert np.isnan(wider.specific_information[4].p_value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "tokens"}, "Did you mean 'token'?"),
        ({"codes": [0, 1]}, "of one length, got 2, 3 and 3"),
        ({"documents": [0, 0]}, "got shapes \\(3, 1\\) and \\(2,\\)"),
        ({"documents": [0, 1, 0]}, "non-decreasing"),
        ({"documents": [-1, 0, 0]}, "non-decreasing numbers from 0"),
        ({"level": "document", "documents": [0, 1, 3]}, "documents must be below 3, got 3"),
        ({"codes": [-1, -1, -1]}, "both a label and an expert"),
        ({"level": "document", "codes": [-1, -1, -1]}, "both a label and an expert"),
        ({"experts": [[-1], [-1], [-1]]}, "both a label and an expert"),
        ({"codes": [0, 1, 2]}, "codes must be below 2"),
        ({"experts": [[0], [1], [2]]}, "experts must be below 2"),
    ],
)
def test_misfits_are_named(change, message):
    arguments = {
        "codes": [0, 1, 0],
        "experts": [[0], [1], [0]],
        "documents": [0, 1, 1],
        "level": "token",
        **change,
    }
    codes, experts, documents = (np.array(arguments.pop(name)) for name in ("codes", "experts", "documents"))
    with pytest.raises(MeasurementError, match=message):
        measure_layer(codes, experts, documents, num_labels=2, num_experts=2, permutations=3, **arguments)


@pytest.mark.parametrize(("documents", "warned"), [(199, True), (200, False)])
def test_labels_of_few_documents_carry_a_warning(documents, warned):
    planted = plant_document_labels(SHARES, CHANNEL, num_documents=documents, tokens_per_document=10)
    measured = measure(planted, level="document", permutations=0)
    for estimate in (measured.label_entropy, measured.specific_information[0]):
        assert (", undercovers: below 200 documents" in estimate.ci_kind) == warned
    assert "undercovers" not in measured.load_entropy.ci_kind
    tokens = plant_channel(SHARES, CHANNEL, num_documents=50, tokens_per_document=10)
    assert "undercovers" not in measure(tokens, permutations=0).label_entropy.ci_kind
