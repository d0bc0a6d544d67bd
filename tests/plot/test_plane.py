import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from specialize.errors import MeasurementError
from specialize.plot import syntax_topic_plane

METRIC = "uncertainty_coefficient"


@pytest.fixture
def frame():
    parts = [
        planted_frame("a", cells=False, control=0.5, draws=1),
        planted_frame(
            "a", label_set="bertopic", labels=["x", "y", "z"], cells=False, control=0.5, draws=1, seed=4, null=0.01
        ),
        planted_frame("b", cells=False, seed=7),
        planted_frame("b", label_set="bertopic", labels=["x", "y", "z"], cells=False, seed=8),
    ]
    return pd.concat(parts, ignore_index=True)


def artist(ax, gid):
    (found,) = [child for child in ax.get_children() if child.get_gid() == gid]
    return found


def values(frame, run, label_set, routing="learned", column="value"):
    chosen = frame[(frame["metric"] == METRIC) & (frame["run"] == run) & (frame["label_set"] == label_set)]
    return chosen[chosen["routing"] == routing].sort_values("layer")[column].to_numpy()


def test_each_point_is_a_layer_of_a_run_in_layer_order(frame):
    ax = syntax_topic_plane(frame.sample(frac=1, random_state=1).sort_values("run", kind="stable"))
    for number, run in enumerate("ab"):
        line = artist(ax, f"value-learned-{number}")
        np.testing.assert_array_equal(line.get_xdata(), values(frame, run, "upos"))
        np.testing.assert_array_equal(line.get_ydata(), values(frame, run, "bertopic"))
        assert line.get_label() == run
    control = artist(ax, "value-random-0")
    assert control.get_linestyle() == "--"
    np.testing.assert_array_equal(control.get_xdata(), values(frame, "a", "upos", "random"))


def test_several_random_routers_are_their_mean_with_crosses_over_their_range():
    frame = pd.concat(
        [planted_frame(cells=False, control=0.5), planted_frame(label_set="bertopic", cells=False, control=0.5, seed=4)]
    )
    ax = syntax_topic_plane(frame)
    among = frame[frame["metric"] == f"{METRIC}_among_random_routers"]
    x, y = (among[among["label_set"] == name].sort_values("layer") for name in ("upos", "bertopic"))
    line = artist(ax, "value-random-0")
    np.testing.assert_array_equal(line.get_xdata(), x["null_mean"])
    np.testing.assert_array_equal(line.get_ydata(), y["null_mean"])
    across = np.array(artist(ax, "interval-x-random-0").get_segments())
    np.testing.assert_allclose(across[:, :, 0], x[["null_low", "null_high"]])
    assert "random routers (control): mean, range" in [text.get_text() for text in ax.figure.legends[0].get_texts()]


def test_crosses_are_the_intervals(frame):
    ax = syntax_topic_plane(frame)
    across = np.array(artist(ax, "interval-x-learned-1").get_segments())
    np.testing.assert_allclose(across[:, 0, 0], values(frame, "b", "upos", column="ci_low"))
    np.testing.assert_allclose(across[:, 1, 0], values(frame, "b", "upos", column="ci_high"))
    np.testing.assert_allclose(across[:, 0, 1], values(frame, "b", "bertopic"))
    up = np.array(artist(ax, "interval-y-learned-1").get_segments())
    np.testing.assert_allclose(up[:, :, 1].T[1], values(frame, "b", "bertopic", column="ci_high"))


def test_the_null_lies_where_its_means_are(frame):
    null = artist(syntax_topic_plane(frame), "null-mean-0")
    assert null.get_xdata() == pytest.approx([0.002])
    assert null.get_ydata() == pytest.approx([0.01])


def test_first_and_last_layer_are_numbered(frame):
    frame = frame[frame["run"] == "b"]
    assert sorted(text.get_text() for text in syntax_topic_plane(frame).texts) == ["0", "3"]


def test_axes_name_both_normalisers(frame):
    ax = syntax_topic_plane(frame)
    assert ax.get_xlabel() == "U(POS | expert), share of H(POS)"
    assert ax.get_ylabel() == "U(topic | expert)\nshare of H(topic)"


def test_layers_without_both_values_are_left_out(frame):
    frame = frame[~((frame["label_set"] == "bertopic") & (frame["layer"] == 3))]
    assert len(artist(syntax_topic_plane(frame), "value-learned-0").get_xdata()) == 3


def test_a_known_label_serves_as_topic(frame):
    frame = frame.replace({"label_set": {"bertopic": "genre"}})
    assert "“genre”" in syntax_topic_plane(frame).get_ylabel()


def test_needs_both_label_sets(frame):
    with pytest.raises(MeasurementError, match="one label set beside 'upos', got none"):
        syntax_topic_plane(frame[frame["label_set"] == "upos"])
    with pytest.raises(MeasurementError, match="label_set: expected one of upos, bertopic, got 'bertopics'"):
        syntax_topic_plane(frame, topic="bertopics")
    apart = frame[(frame["run"] == "a") == (frame["label_set"] == "upos")]
    with pytest.raises(MeasurementError, match="measured for both 'upos' and 'bertopic'"):
        syntax_topic_plane(apart)


@pytest.mark.parametrize("topic", ["bertopic", "a very long column name, longer than any"])
def test_nothing_is_cut_off(frame, topic):
    ax = syntax_topic_plane(frame.replace({"label_set": {"bertopic": topic}}))
    figure = ax.figure
    figure.draw_without_rendering()
    for text in (ax._left_title, ax.yaxis.label, ax.xaxis.label, *figure.legends[0].get_texts()):
        box = text.get_window_extent()
        assert box.x0 >= -0.5
        assert box.x1 <= figure.bbox.width + 0.5
        assert box.y0 >= -0.5
        assert box.y1 <= figure.bbox.height + 0.5
