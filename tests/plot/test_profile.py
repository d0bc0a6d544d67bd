import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from specialize.errors import MeasurementError
from specialize.plot import layer_profile, save_figure

METRIC = "uncertainty_coefficient"


def artist(ax, gid):
    (found,) = [child for child in ax.get_children() if child.get_gid() == gid]
    return found


def rows(frame, routing="learned", metric=METRIC):
    chosen = frame[(frame["metric"] == metric) & (frame["routing"] == routing)]
    return chosen.sort_values("layer")


def test_line_interval_and_null_are_the_frame():
    frame = planted_frame()
    ax = layer_profile(frame.sample(frac=1, random_state=0))
    expected = rows(frame)
    line = artist(ax, "value-learned-0")
    np.testing.assert_array_equal(line.get_ydata(), expected["value"])
    np.testing.assert_array_equal(line.get_xdata(), expected["layer"])
    segments = np.array(artist(ax, "interval-learned-0").get_segments())
    np.testing.assert_allclose(segments[:, :, 1], expected[["ci_low", "ci_high"]])
    np.testing.assert_array_equal(artist(ax, "null-mean-0").get_ydata(), expected["null_mean"])


def test_the_edges_of_the_null_band_are_its_percentiles():
    frame = planted_frame()
    (band,) = artist(layer_profile(frame), "null-band-0").get_paths()
    expected = rows(frame)
    corners = {(round(x, 9), round(y, 12)) for x, y in band.vertices}
    for edge in ("null_low", "null_high"):
        assert {(x, round(y, 12)) for x, y in zip(expected["layer"], expected[edge], strict=True)} <= corners


def test_runs_differ_in_colour_and_in_marker():
    frame = pd.concat([planted_frame(f"run {number}", cells=False, seed=number) for number in range(6)])
    ax = layer_profile(frame)
    lines = [artist(ax, f"value-learned-{number}") for number in range(6)]
    assert len({line.get_color() for line in lines}) == 6
    assert len({line.get_marker() for line in lines}) == 6
    assert [line.get_label() for line in lines] == [f"run {number}" for number in range(6)]
    for number, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_ydata(), rows(frame[frame["run"] == f"run {number}"])["value"])
        np.testing.assert_array_equal(np.round(line.get_xdata()), range(4))


def test_random_router_is_dashed_in_the_colour_of_its_run():
    frame = planted_frame(control=0.5, draws=1)
    ax = layer_profile(frame)
    learned, control = artist(ax, "value-learned-0"), artist(ax, "value-random-0")
    assert learned.get_linestyle() == "-"
    assert control.get_linestyle() == "--"
    assert control.get_color() == learned.get_color()
    assert control.get_markerfacecolor() != learned.get_markerfacecolor()
    np.testing.assert_array_equal(control.get_ydata(), rows(frame, "random")["value"])
    assert "random router (control)" in [text.get_text() for text in ax.figure.legends[0].get_texts()]


@pytest.mark.parametrize("layers", [1, 4])
def test_several_random_routers_are_their_mean_and_range(layers):
    strengths = (0.1, 0.35, 0.3, 0.2)[:layers]
    parts = [planted_frame(run, strengths=strengths, control=0.5, draws=draws) for run, draws in (("a", 5), ("b", 1))]
    ax = layer_profile(pd.concat(parts).sample(frac=1, random_state=0).sort_values("run", kind="stable"))
    among = rows(parts[0], metric=f"{METRIC}_among_random_routers")
    np.testing.assert_array_equal(artist(ax, "value-random-0").get_ydata(), among["null_mean"])
    (band,) = artist(ax, "range-random-0").get_paths()
    assert set(np.round(band.vertices[:, 1], 12)) == set(np.round([*among["null_low"], *among["null_high"]], 12))
    np.testing.assert_array_equal(artist(ax, "value-random-1").get_ydata(), rows(parts[1], "random")["value"])
    ids = {each.get_gid() for each in ax.get_children()}
    assert "interval-random-1" in ids
    assert not {"interval-random-0", "range-random-1"} & ids
    assert "random routers (control): mean and range" in [text.get_text() for text in ax.figure.legends[0].get_texts()]


def test_title_and_axis_say_quantity_unit_and_normaliser():
    ax = layer_profile(planted_frame())
    title = ax.get_title(loc="left")
    assert title == "U(part of speech | expert)\nshare of H(POS) explained by routing"
    assert ax.get_ylabel() == "U, share of H(POS)"
    assert ax.get_xlabel() == "layer"
    bits = layer_profile(planted_frame(), metric="mutual_information")
    assert bits.get_ylabel() == "I, bits"


@pytest.mark.parametrize("label_set", ["upos", "bertopic", "genre", "a very long column name, longer than any"])
def test_nothing_is_cut_off_at_column_width(label_set):
    frame = planted_frame(
        "a run with a name that is longer than any run name should be", label_set=label_set, control=1
    )
    ax = layer_profile(frame)
    figure = ax.figure
    figure.draw_without_rendering()
    for text in (ax.title, ax._left_title, ax.yaxis.label, ax.xaxis.label, *figure.legends[0].get_texts()):
        box = text.get_window_extent()
        assert box.x0 >= -0.5
        assert box.x1 <= figure.bbox.width + 0.5
        assert box.y0 >= -0.5
        assert box.y1 <= figure.bbox.height + 0.5


def test_one_layer_still_has_a_visible_null_band(tmp_path):
    frame = planted_frame(strengths=(0.4,))
    ax = layer_profile(frame)
    (band,) = artist(ax, "null-band-0").get_paths()
    assert np.ptp(band.vertices[:, 0]) > 0.5
    assert artist(ax, "value-learned-0").get_ydata() == rows(frame)["value"].to_numpy()
    save_figure(ax.figure, tmp_path / "one.png")


def test_missing_layers_leave_a_gap_and_a_frame_without_null_has_no_band():
    frame = planted_frame()
    frame.loc[(frame["metric"] == METRIC) & (frame["layer"] == 2), "value"] = np.nan
    frame[["null_mean", "null_low", "null_high", "ci_low", "ci_high"]] = np.nan
    ax = layer_profile(frame)
    assert np.isnan(artist(ax, "value-learned-0").get_ydata()).tolist() == [False, False, True, False]
    assert not [child for child in ax.get_children() if str(child.get_gid()).startswith("null")]


def test_the_maximum_over_layers_is_not_drawn_as_a_layer():
    ax = layer_profile(planted_frame(), metric=METRIC)
    assert len(artist(ax, "value-learned-0").get_xdata()) == 4


def test_several_label_sets_need_a_choice():
    frame = pd.concat([planted_frame(), planted_frame(label_set="bertopic", labels=["a", "b"])])
    with pytest.raises(MeasurementError, match=r"label_set: the frame holds 2 \(upos, bertopic\)"):
        layer_profile(frame)
    ax = layer_profile(frame, label_set="bertopic")
    assert "fitted topic" in ax.get_title(loc="left")


def test_unknown_metric_suggests_its_neighbour():
    with pytest.raises(MeasurementError, match="Did you mean 'mutual_information'"):
        layer_profile(planted_frame(), metric="mutual_informaton")


def test_a_frame_without_the_needed_columns():
    with pytest.raises(MeasurementError, match=r"expected the columns metric, value, metric missing"):
        layer_profile(pd.DataFrame({"value": [1.0]}))


def test_a_minimal_frame_is_enough():
    frame = pd.DataFrame({"metric": METRIC, "layer": [0, 1], "value": [0.1, 0.2]})
    np.testing.assert_array_equal(artist(layer_profile(frame), "value-learned-0").get_ydata(), [0.1, 0.2])


def test_the_given_axes_are_used_and_their_figure_keeps_its_legends():
    ax = layer_profile(planted_frame())
    other = ax.figure.add_axes((0.5, 0.5, 0.4, 0.4))
    assert layer_profile(planted_frame(), ax=other) is other
    assert len(ax.figure.legends) == 1
    assert other.get_legend() is not None


def test_the_legend_names_a_range_of_the_null_only_where_there_is_one():
    frame = planted_frame()
    for known, expected in ((True, "null: mean and 95 % range"), (False, "null: mean")):
        shown = frame if known else frame.assign(null_low=np.nan, null_high=np.nan)
        texts = [text.get_text() for text in layer_profile(shown).figure.legends[0].get_texts()]
        assert texts[-1] == expected
