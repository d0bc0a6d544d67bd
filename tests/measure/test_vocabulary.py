import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

from planted.words import PlantedText, plant_word_noise
from specialize.errors import MeasurementError
from specialize.measure import (
    RESULT_COLUMNS,
    assign_blocks,
    measure_vocabulary,
    measure_vocabulary_specialization,
    top_tokens,
)


def scattered(tokens=900, seed=0):
    rng = np.random.default_rng(seed)
    experts = rng.permuted(np.tile(np.arange(6), (tokens, 1)), axis=1)[:, :3]
    experts[rng.random(experts.shape) < 0.1] = -1
    experts[rng.random(tokens) < 0.05] = -1
    types = np.minimum(rng.geometric(0.06, tokens), 60) - 1
    types[rng.random(tokens) < 0.1] = -1
    return types, experts.astype(np.int16), np.sort(rng.integers(0, 25, tokens))


def by_hand(types, experts, kept):
    """Specialization of every expert and of the layer, and what the load alone gives, from pandas."""
    frame = pd.DataFrame({"type": types, "token": np.arange(len(types))})[kept]
    size = frame.groupby("type").size()
    slots = pd.DataFrame({"type": np.repeat(types, 3), "expert": experts.ravel()})[np.repeat(kept, 3)]
    table = slots[slots["expert"] >= 0].groupby(["type", "expert"]).size().unstack(fill_value=0)
    table = table.reindex(columns=range(6), fill_value=0)
    squares, load = (table**2).div(size, axis=0).sum(), table.sum()
    chance = load / len(frame)
    expected = [
        sum(n * p * p + p * (1 - p) * (len(frame) - n) / (len(frame) - 1) for n in size) / (len(frame) * p)
        for p in chance
    ]
    values = np.append(squares / load, squares.sum() / load.sum())
    return values, np.append(expected, (np.array(expected) * load).sum() / load.sum())


def test_values_and_intervals_are_those_of_a_table():
    types, experts, documents = scattered()
    kept = (types >= 0) & (experts >= 0).any(axis=1)
    counts = pd.Series(types[kept]).value_counts()
    kept &= np.isin(types, counts[counts >= 12].index)
    measured = measure_vocabulary(types, experts, documents, num_experts=6, min_count=12, num_blocks=5, permutations=0)
    present = np.unique(documents[kept])
    block = dict(zip(present, assign_blocks(present, num_blocks=5), strict=True))
    blocks = np.array([block.get(document, -1) for document in documents])
    value, expected = by_hand(types, experts, kept)
    np.testing.assert_allclose(np.append(measured.expert_specialization.value, measured.specialization.value), value)
    np.testing.assert_allclose(
        np.append(measured.expert_above_load.value, measured.above_load.value), value - expected, atol=1e-10
    )
    both = [by_hand(types, experts, kept & (blocks != left)) for left in range(5)]
    for estimate, leaves in (
        (measured.specialization, np.array([values[-1] for values, _ in both])),
        (measured.above_load, np.array([values[-1] - load[-1] for values, load in both])),
        (measured.expert_above_load[2], np.array([values[2] - load[2] for values, load in both])),
    ):
        reach = student_t.ppf(0.975, 4) * np.sqrt(4 / 5 * ((leaves - leaves.mean()) ** 2).sum())
        assert estimate.ci_high - estimate.value == pytest.approx(reach, abs=1e-10)
    assert measured.num_types == (counts >= 12).sum()
    assert measured.specialization.n_tokens == kept.sum()


def test_the_load_alone_is_the_mean_over_all_ways_to_deal_the_experts():
    types, experts, documents = scattered(200)
    kept = (types >= 0) & (experts >= 0).any(axis=1)
    types, experts, documents = types[kept], experts[kept], np.zeros(kept.sum(), int)
    measured = measure_vocabulary(types, experts, documents, num_experts=6, min_count=1, permutations=0)
    rng = np.random.default_rng(0)
    dealt = [by_hand(types, rng.permutation(experts), np.ones(len(types), bool))[0] for _ in range(400)]
    expected = measured.specialization.value - measured.above_load.value
    error = np.std(dealt, axis=0)[-1] / 20
    assert abs(np.mean(dealt, axis=0)[-1] - expected) < 4 * error


def test_a_router_of_words_alone():
    rng = np.random.default_rng(0)
    types, documents = rng.integers(0, 40, 4000), np.repeat(np.arange(40), 100)
    measured = measure_vocabulary(types, (types % 4)[:, None], documents, num_experts=5, permutations=99)
    assert measured.specialization.value == pytest.approx(1)
    assert measured.above_load.value == pytest.approx(0.75 * (1 - 39 / 3999), abs=0.01)
    assert measured.specialization.p_value == pytest.approx(1 / 100)
    np.testing.assert_allclose(measured.expert_specialization.value[:4], 1)
    assert np.isnan(measured.expert_specialization.value[4])


def test_planted_shares_are_recovered():
    """Each type sends half of its tokens to one expert and the rest anywhere: sum of squares in closed form."""
    rng = np.random.default_rng(1)
    types, documents = rng.integers(0, 8, 60_000), np.repeat(np.arange(200), 300)
    experts = np.where(rng.random(60_000) < 0.5, types % 4, rng.integers(0, 4, 60_000))
    measured = measure_vocabulary(types, experts[:, None], documents, num_experts=4, permutations=0)
    assert measured.specialization.ci_low < 0.625**2 + 3 * 0.125**2 < measured.specialization.ci_high
    assert measured.above_load.ci_low < 0.625**2 + 3 * 0.125**2 - 0.25 < measured.above_load.ci_high


def test_rotated_words_are_rejected_no_more_often_than_they_should():
    found = []
    for seed in range(300):
        planted = plant_word_noise(num_documents=15, tokens_per_document=40, effect=1.0, seed=seed)
        elsewhere = np.roll(planted.experts, 40, axis=0)  # routing of the document before: no word has a part in it
        measured = measure_vocabulary(
            planted.words, elsewhere, planted.documents, num_experts=6, permutations=39, seed=seed, min_count=3
        )
        found.append(measured.specialization.p_value)
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.085


def test_renaming_types_and_experts_changes_nothing():
    types, experts, documents = scattered()
    rng = np.random.default_rng(3)
    ids, names = rng.permutation(60), rng.permutation(6)
    one = measure_vocabulary(types, experts, documents, num_experts=6, permutations=0)
    other = measure_vocabulary(
        np.where(types < 0, -1, ids[types]),
        np.where(experts < 0, -1, names[experts]),
        documents,
        num_experts=6,
        permutations=0,
    )
    assert other.above_load.value == pytest.approx(one.above_load.value, abs=1e-12)
    np.testing.assert_allclose(other.expert_specialization.value[names], one.expert_specialization.value, rtol=1e-12)


def test_top_tokens():
    types = np.array([3, 3, 3, 3, 5, 5, 5, 5, 9, 9, 9, 9, 1])
    experts = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0])[:, None]
    table = top_tokens(types, experts, num_experts=3, min_count=4, most=2)
    assert table["expert"].tolist() == [0, 0, 1, 1]
    assert table["token_id"].tolist() == [3, 9, 5, 9]
    assert table["rank"].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(table["share"], [0.75, 0.5, 1.0, 0.5])
    np.testing.assert_allclose(table["lift"], [0.75 / (5 / 12), 0.5 / (5 / 12), 1 / (7 / 12), 0.5 / (7 / 12)])
    assert table["count"].tolist() == [4] * 4


def test_rows_of_a_trace():
    words = np.tile([0, 1, 2, 1], 60).astype(np.int32)
    tokens = pd.DataFrame(
        {"document": np.repeat(np.arange(20), 12), "token_id": words, "predicted_token_id": words[::-1],
         "char_start": np.tile(np.arange(12), 20), "char_end": np.tile(np.arange(12), 20) + 1}
    )  # fmt: skip
    experts = words[:, None].astype(np.int16)
    trace = PlantedText(
        tokens,
        {0: experts, 3: 2 - experts},
        num_experts=3,
        random_routers={0: experts, 3: experts},
        texts=["a=c=a=c=a=c="] * 20,
    )
    done = []
    frame, table = measure_vocabulary_specialization(
        trace, permutations=9, progress=lambda *counts: done.append(counts)
    )
    assert list(frame.columns) == list(RESULT_COLUMNS)
    assert not frame.duplicated(["routing", "layer", "expert", "label", "metric"]).any()
    assert set(frame["label"]) == {"input", "next", "predicted"}
    assert len(frame) == 4 * 3 * 2 * 4
    assert done[-1] == (4, 4)
    whole = frame[frame["expert"].isna() & (frame["metric"] == "vocabulary_specialization")]
    by_kind = whole[(whole["routing"] == "learned") & (whole["layer"] == 0)].set_index("label")
    assert by_kind.loc["input", "value"] == pytest.approx(1)
    # word 1 comes after 0 and after 2, and is followed by them in turn, within documents of twelve
    assert by_kind.loc["next", "value"] < 0.9
    assert by_kind.loc["next", "n_tokens"] == 220
    own = table[(table["routing"] == "learned") & (table["layer"] == 3) & (table["token"] == "input")]
    assert own.set_index("expert")["text"].to_dict() == {0: "c", 1: "=", 2: "a"}
    assert set(table["router"]) == {"layers.0", "layers.3"}


def test_misfits_are_named():
    types, experts, documents = scattered()
    with pytest.raises(MeasurementError, match=r"of one length, got 899, \[900, 3\] and 900"):
        measure_vocabulary(types[1:], experts, documents, num_experts=6)
    with pytest.raises(MeasurementError, match="with 9999 occurrences, got none"):
        measure_vocabulary(types, experts, documents, num_experts=6, min_count=9999)
    with pytest.raises(MeasurementError, match="experts must be below 3"):
        measure_vocabulary(types, experts, documents, num_experts=3)
    bare = PlantedText(
        pd.DataFrame({"document": [0, 0], "token_id": -1}), {0: np.zeros((2, 1), np.int16)}, num_experts=1
    )
    with pytest.raises(MeasurementError, match="a trace with token ids, got none"):
        measure_vocabulary_specialization(bare)
