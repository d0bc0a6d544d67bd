import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from specialize.errors import MeasurementError
from specialize.plot import expert_load, save_figure
from specialize.plot.load import power_of_two


def points(ax, gid="load"):
    (found,) = [artist for artist in ax.collections if artist.get_gid() == gid]
    return np.asarray(found.get_offsets())


def test_points_are_shares_times_experts_from_most_to_least_used():
    frame = planted_frame()
    drawn = points(expert_load(frame))
    for layer in range(4):
        own = drawn[np.round(drawn[:, 0]) == layer]
        load = frame[(frame["metric"] == "load") & (frame["layer"] == layer)]["value"]
        np.testing.assert_allclose(own[:, 1], np.sort(load)[::-1] * 8)
        assert (np.diff(own[:, 0]) > 0).all()


def test_one_layer():
    drawn = points(expert_load(planted_frame(), layer=2))
    assert set(np.round(drawn[:, 0])) == {2}


def test_dead_experts_are_crosses_at_the_foot():
    frame = planted_frame(strengths=(0.3,))
    frame.loc[(frame["metric"] == "load") & frame["expert"].isin([1, 5]), "value"] = 0.0
    ax = expert_load(frame)
    assert len(points(ax)) == 6
    assert len(points(ax, "load-lowest")) == 2
    assert points(ax, "load-lowest")[:, 1] == pytest.approx([2**-6, 2**-6])
    assert ax.get_yticklabels()[0].get_text().startswith("≤ ")


def test_an_even_share_is_marked():
    ax = expert_load(planted_frame())
    (even,) = [line for line in ax.lines if line.get_gid() == "load-even"]
    assert set(even.get_ydata()) == {1.0}
    assert "1" in [text.get_text() for text in ax.get_yticklabels()]


@pytest.mark.parametrize("num_experts", [1, 512])
def test_one_expert_and_512(num_experts, tmp_path):
    ax = expert_load(planted_frame(num_experts=num_experts, strengths=(0.3, 0.2)))
    assert len(points(ax)) == 2 * num_experts
    save_figure(ax.figure, tmp_path / "load.png")


def test_missing_loads_are_left_out():
    frame = planted_frame(strengths=(0.3,))
    frame.loc[(frame["metric"] == "load") & (frame["expert"] == 1), "value"] = np.nan
    assert len(points(expert_load(frame))) == 7


def test_several_runs_need_a_choice():
    frame = pd.concat([planted_frame("a"), planted_frame("b", seed=3)])
    with pytest.raises(MeasurementError, match=r"run: the frame holds 2 \(a, b\)"):
        expert_load(frame)
    assert len(points(expert_load(frame, run_name="b"))) == 32


def test_powers_of_two_read_as_people_write_them():
    assert [power_of_two(exponent) for exponent in (-2, 0, 3)] == ["1/4", "1", "8"]
