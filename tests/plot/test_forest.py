import numpy as np
import pytest

from plot.planted_frames import planted_frame
from specialize.errors import MeasurementError
from specialize.plot import expert_forest, save_figure


def points(ax, gid):
    (found,) = [artist for artist in ax.collections if artist.get_gid() == gid]
    return np.asarray(found.get_offsets()).reshape(-1, 2)


def test_the_planted_label_is_on_top_and_values_are_the_frames():
    frame = planted_frame(strengths=(0.5,), p_value=0.001)
    ax = expert_forest(frame, layer=0, expert=3)
    lift = frame[(frame["metric"] == "lift") & (frame["expert"] == 3)].set_index("label")["value"]
    names = [text.get_text() for text in ax.get_yticklabels()]
    drawn = np.concatenate([points(ax, "significant"), points(ax, "not-significant")])
    drawn = drawn[np.argsort(drawn[:, 1])]
    assert names[0] == lift.idxmax()
    np.testing.assert_allclose(drawn[:, 0], np.sort(lift)[::-1].clip(2**-6))


def test_labels_that_are_not_significant_are_hollow():
    frame = planted_frame(strengths=(0.5,))
    frame["q_value"] = np.where(frame["label"] == "NOUN", 0.01, 0.5)
    ax = expert_forest(frame, layer=0, expert=0)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert [names[int(place)] for place in points(ax, "significant")[:, 1]] == ["NOUN"]
    assert len(points(ax, "not-significant")) == len(names) - 1


def test_the_strongest_and_the_weakest_labels_are_kept():
    frame = planted_frame(strengths=(0.5,))
    ax = expert_forest(frame, layer=0, expert=0, most=3)
    lift = frame[(frame["metric"] == "lift") & (frame["expert"] == 0)].set_index("label")["value"].sort_values()
    assert [text.get_text() for text in ax.get_yticklabels()] == [lift.index[-1], lift.index[-2], lift.index[0]]


@pytest.mark.parametrize(("labels", "experts"), [(["one"], 1), ([f"$l_{i}" for i in range(60)], 512)])
def test_any_number_of_labels_and_missing_values(labels, experts, tmp_path):
    frame = planted_frame(labels=labels, num_experts=experts, strengths=(0.3,))
    frame.loc[frame["label"] == labels[-1], ["ci_low", "ci_high"]] = np.nan
    save_figure(expert_forest(frame, layer=0, expert=experts - 1).figure, tmp_path / "forest.pdf")


def test_an_unknown_expert_is_an_error():
    with pytest.raises(MeasurementError, match="expected one of 0 to 7, got 8"):
        expert_forest(planted_frame(strengths=(0.3,)), layer=0, expert=8)
