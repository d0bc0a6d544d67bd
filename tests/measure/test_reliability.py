"""Too little data for U is said in its row."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from planted import PlantedTrace, plant_document_labels, plant_noise
from specialize.annotation import Annotation
from specialize.measure import measure_layer, measure_specialization, read_results, write_results
from specialize.measure.base.counting import spread_mass
from specialize.measure.base.reliability import count_filled
from specialize.measure.base.shortage import mark_shortage, read_shortage

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
LOAD = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])


@pytest.mark.parametrize("rule", ["selection", "gate"])
def test_documents_fill_as_many_cells_as_their_mass_is_spread_over(rule):
    rng = np.random.default_rng(0)
    lengths = np.array([1, 7, 40])
    codes = rng.integers(0, 3, lengths.sum()).astype(np.int32)
    chosen = np.argsort(rng.random((lengths.sum(), 5)), axis=1)[:, :2].astype(np.int16)
    chosen[rng.random(chosen.shape) < 0.2] = -1
    chosen[0] = (3, 1)
    experts, masses = spread_mass(chosen, rng.random(chosen.shape), rule=rule)
    starts = np.append(0, lengths.cumsum())
    expected = 0.0
    for first, last in pairwise(starts):
        table = np.zeros((3, 5))
        for token in range(first, last):
            for slot in range(2):
                if experts[token, slot] >= 0:
                    table[codes[token], experts[token, slot]] += masses[token, min(slot, masses.shape[1] - 1)]
        expected += 1 / ((table / table.sum()) ** 2).sum()
    scratch = np.zeros((3, 5))
    assert count_filled(0.0, codes, experts, masses, starts, scratch) == pytest.approx(expected)
    assert not scratch.any()


def shortage_of(planted, level="document"):
    measured = measure_layer(
        planted.codes, planted.experts, planted.documents, level=level, num_labels=planted.num_labels,
        num_experts=planted.num_experts, permutations=5,
    )  # fmt: skip
    assert measured.mutual_information.ci_kind == measured.uncertainty_coefficient.ci_kind
    assert read_shortage(measured.lift.ci_kind) == ""
    return read_shortage(measured.uncertainty_coefficient.ci_kind)


def plant(num_documents, *, by_sequence):
    channel = np.tile(LOAD, (4, 1))
    return plant_document_labels(
        SHARES, channel, num_documents=num_documents, tokens_per_document=30, by_sequence=by_sequence, seed=2
    )


def test_documents_of_a_single_expert_have_to_fill_each_cell_four_times():
    assert shortage_of(plant(29, by_sequence=True)) == "29 documents, at least 30 needed"
    assert shortage_of(plant(60, by_sequence=True)) == "60 documents for 24 cells of labels x experts, about 96 needed"
    assert shortage_of(plant(95, by_sequence=True)).endswith("about 96 needed")
    assert shortage_of(plant(96, by_sequence=True)) == ""


def test_documents_that_are_spread_over_experts_fill_more():
    assert shortage_of(plant(60, by_sequence=False)) == ""
    assert shortage_of(plant(29, by_sequence=False)) == "29 documents, at least 30 needed"


def test_labels_of_tokens_need_documents_too():
    def noise(num_documents):
        return plant_noise(SHARES, LOAD, num_documents=num_documents, tokens_per_document=40, concentration=2.0)

    assert shortage_of(noise(29), "token") == "29 documents, at least 30 needed"
    assert shortage_of(noise(60), "token") == ""
    wide = plant_noise(np.full(20, 0.05), np.full(64, 1 / 64), num_documents=60, tokens_per_document=40)
    assert "for 1,260 cells of labels x experts" in shortage_of(wide, "token")


def test_intervals_of_24_documents_never_lie_below_zero_and_are_marked():
    """At a true U of 0 a few intervals would lie wholly below 0, where the true value cannot be."""
    below = 0
    for seed in range(60):
        planted = plant_noise(SHARES[:2] / 0.7, LOAD[:3] / 0.75, num_documents=24, tokens_per_document=40, seed=seed)
        measured = measure_layer(
            planted.codes, planted.experts, planted.documents, level="token", num_labels=2, num_experts=3,
            permutations=0,
        )  # fmt: skip
        for estimate in (measured.mutual_information, measured.uncertainty_coefficient):
            assert estimate.ci_low < estimate.ci_high
            assert estimate.ci_high >= 0
            assert read_shortage(estimate.ci_kind) == "24 documents, at least 30 needed"
        below += measured.mutual_information.ci_high == 0
    assert below > 0  # it happened, and the end was moved


def test_the_mark_is_read_back_and_the_method_stays():
    kind = "95 % jackknife over 24 document blocks (Student t)"
    marked = mark_shortage(kind, "24 documents, at least 30 needed")
    assert marked == f"unreliable, too little data (24 documents, at least 30 needed): {kind}"
    assert read_shortage(marked) == read_shortage(mark_shortage(None, "24 documents, at least 30 needed"))
    assert read_shortage(kind) == read_shortage(None) == read_shortage(float("nan")) == ""


def test_the_row_is_marked_on_disk(tmp_path):
    planted = plant(12, by_sequence=True)
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=6)
    annotation = Annotation("genre", "document", ("a", "b", "c", "d"), planted.codes)
    write_results(measure_specialization(trace, annotation, permutations=9), tmp_path, "genre")
    frame = read_results(tmp_path, "genre")
    marked = frame["ci_kind"].map(read_shortage) != ""
    assert set(frame.loc[marked, "metric"]) == {"mutual_information", "uncertainty_coefficient"}
    assert "unreliable, too little data (12 documents" in (tmp_path / "genre.csv").read_text(encoding="utf-8")


def test_results_of_earlier_versions_have_no_number_of_permutations(tmp_path):
    planted = plant(30, by_sequence=True)
    trace = PlantedTrace(planted.documents, {0: planted.experts}, num_experts=6)
    annotation = Annotation("genre", "document", ("a", "b", "c", "d"), planted.codes)
    frame = measure_specialization(trace, annotation, permutations=9)
    assert frame["n_permutations"].isna().equals(frame["p_value"].isna())
    frame.drop(columns="n_permutations").to_parquet(tmp_path / "genre.parquet", index=False)
    old = read_results(tmp_path, "genre")
    assert old["n_permutations"].isna().all()
    pd.testing.assert_frame_equal(old.drop(columns="n_permutations"), frame.drop(columns="n_permutations"))
