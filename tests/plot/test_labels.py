"""Names beside rows and columns: which are shown, how they are shortened, and that they do not cover each other."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plot.planted_frames import planted_frame
from plot.test_extremes import CASES, LONG, overlaps, repeats
from plot.test_extremes import draw as draw_case
from specialize import plot
from specialize.errors import SpecializeError
from specialize.plot.fonts import list_texts
from specialize.plot.labels import choose_ends, shorten_apart
from specialize.text import count_columns

SUBJECTS = [
    f"{place}_school_{subject}"
    for place in ("elementary", "high", "professional")
    for subject in (
        *("biology", "chemistry", "european_history", "geography", "government_and_politics", "macroeconomics"),
        *("mathematics", "microeconomics", "physics", "psychology", "statistics", "us_history", "world_history"),
        *("accounting", "medicine", "law", "astronomy", "anatomy", "marketing"),
    )
]  # 57
LAYERS = (24, 48, 94)


def shown_ticks(axis, limits):
    low, high = sorted(limits)
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [text for place, text in ticks if low <= place <= high and text.get_text()]


def check_ticks(ax):
    """The tick labels of each axis do not overlap along it, turned ones included."""
    for name, axis, limits in (("x", ax.xaxis, ax.get_xlim()), ("y", ax.yaxis, ax.get_ylim())):
        boxes = [text.get_window_extent() for text in shown_ticks(axis, limits)]
        spans = sorted((getattr(box, f"{name}0"), getattr(box, f"{name}1")) for box in boxes)
        gaps = [after[0] - before[1] for before, after in itertools.pairwise(spans)]
        assert min(gaps, default=0.0) >= -0.5, (name, spans)


def check_canvas(figure):
    texts = list_texts(figure)
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            # ticks outside of the limits are not drawn but keep their text
            labels = {id(label) for tick in axis.majorTicks + axis.minorTicks for label in (tick.label1, tick.label2)}
            texts = [text for text in texts if id(text) not in labels]
            texts += shown_ticks(axis, limits) if ax.axison else []
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y1 <= figure.bbox.height + 1, text


@pytest.mark.parametrize("width", ["acl", "neurips"])
@pytest.mark.parametrize("name", CASES)
def test_texts_are_on_the_canvas_of_a_venue_and_ticks_do_not_overlap(name, width):
    with plot.use_style(width=width):
        ax = draw_case(name, CASES[name].frame(64, 47))
    figure = ax.figure
    assert figure.get_figwidth() == {"acl": 3.03, "neurips": 5.5}[width]
    figure.draw_without_rendering()
    check_canvas(figure)
    if ax.axison:
        check_ticks(ax)
    assert min(text.get_fontsize() for text in list_texts(figure)) >= 6


def subject_frame():
    return planted_frame("run", label_set="subject", labels=SUBJECTS, num_experts=8, strengths=(0.4,))


def strongest(frame, most):
    lift = frame[frame["metric"] == "lift"]
    clear = lift[lift["q_value"] <= 0.05].groupby("label")["value"].max().reindex(SUBJECTS).fillna(0)
    return set(clear.sort_values(ascending=False).index[:most])


def test_a_heat_map_shows_the_strongest_labels_and_says_how_many_it_leaves_out():
    frame = subject_frame()
    ax = plot.expert_label_heatmap(frame, layer=0)
    shown = [text.get_text() for text in ax.get_yticklabels()]
    beginnings = {name[:20] for name in strongest(frame, 40)}
    assert len(shown) == 40
    assert {name[:20] for name in shown} == beginnings
    assert "40 of 57" in ax.get_ylabel()
    assert "of 57" not in plot.expert_label_heatmap(frame, layer=0, most=57).get_ylabel()


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [("expert_forest", {"layer": 0, "expert": 0}, "20 of 57"), ("repeats_by_label", {}, "24 of 57"),
     ("set_selectivity", {}, "30 of 57"), ("effect_heatmap", {"layer": 0}, "40 of 57")],
)  # fmt: skip
def test_rows_that_are_left_out_are_counted(name, arguments, told):
    frame = subject_frame() if name == "expert_forest" else CASES[name].frame(8, 57)
    assert told in getattr(plot, name)(frame, **arguments).get_ylabel()


def test_an_overlap_in_one_column_shows_as_many_labels_as_are_legible():
    with plot.use_style(width="single"):
        ax = plot.label_overlap(overlaps(0, 57).replace(LONG, "school", regex=True), layer=0)
    ax.figure.draw_without_rendering()
    check_canvas(ax.figure)
    check_ticks(ax)
    count = len(ax.get_yticklabels())
    assert 8 <= count < 30
    assert f"{count} of 57" in ax.get_xlabel()
    assert len(plot.label_overlap(overlaps(0, 57), layer=0, most=5).get_yticklabels()) == 5


def test_colours_of_overlaps_start_where_overlaps_do():
    frame = overlaps(0, 30)
    pairs = frame["metric"] == "label_overlap"
    frame.loc[pairs, "value"] = np.linspace(0.72, 0.97, pairs.sum())
    assert plot.label_overlap(frame, layer=0).collections[0].get_clim() == (0.7, 1.0)
    frame.loc[frame.index[pairs][0], "value"] = 0.1
    ax = plot.label_overlap(frame, layer=0)
    assert ax.collections[0].get_clim() == (0.7, 1.0)
    assert ax.collections[0].colorbar.extend == "min"


def test_the_callers_axes_get_as_many_rows_as_fit():
    figure = Figure(figsize=(3, 1.6))
    ax = figure.add_axes((0.5, 0.3, 0.45, 0.6))
    plot.repeats_by_label(repeats(0, 57), ax=ax)
    figure.draw_without_rendering()
    check_ticks(ax)
    assert f"{len(ax.get_yticklabels())} of 57" in ax.get_ylabel().replace("\n", " ")


def test_ends_are_the_largest_and_the_smallest_and_missing_ones_are_neither():
    strength = np.array([3.0, np.nan, 9.0, 1.0, 7.0, 5.0, np.nan, 0.0])
    assert strength[choose_ends(strength, 3)].tolist() == [9.0, 7.0, 0.0]
    assert choose_ends(strength[:1], 3).tolist() == [0]
    np.testing.assert_array_equal(np.sort(choose_ends(strength, 8)), np.arange(8))


def test_short_names_stay_apart():
    names = ["high_school_macroeconomics", "high_school_microeconomics", "high_school_mathematics", "law"]
    short = shorten_apart(names, width=12)
    assert len(set(short)) == 4
    assert all(count_columns(name) <= 12 for name in short)
    assert short[3] == "law"
    alike = shorten_apart([f"a{'b' * 40}{middle}{'c' * 40}" for middle in "xyz"], width=12)
    assert len(set(alike)) == 3
    assert max(map(len, alike)) <= 12
    assert shorten_apart(["same", "same"], width=12) == ["same", "same"]


def test_a_wide_character_takes_two_columns():
    assert shorten_apart(["自然科学と数学の歴史"], width=11) == ["自然科学と…"]
    assert count_columns("ที่") == 1  # a consonant with two marks


@pytest.mark.parametrize("num_layers", LAYERS)
@pytest.mark.parametrize("width", ["acl", None])
def test_numbers_of_layers_do_not_overlap(num_layers, width):
    rows = [
        {"run": "run", "routing": "learned", "layer": layer, "metric": metric, "label_set": label_set,
         "value": layer / 100, "expert": expert}
        for layer in range(num_layers)
        for metric, label_set, expert in (("uncertainty_coefficient", "upos", None),
            ("uncertainty_coefficient", "bertopic", None), ("load", None, 0), ("load", None, 1))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    with plot.use_style(width=width):
        for ax in (plot.layer_profile(frame, label_set="upos"), plot.expert_load(frame[frame["metric"] == "load"])):
            ax.figure.draw_without_rendering()
            check_ticks(ax)
            ticks = [int(text.get_text()) for text in ax.get_xticklabels()]
            assert 4 <= len(ticks) <= 24
            assert {later - earlier for earlier, later in itertools.pairwise(ticks)} <= {1, 2, 5, 10, 20}
        plane = plot.syntax_topic_plane(frame)
    plane.figure.draw_without_rendering()
    numbers = [text for text in plane.texts if (text.get_gid() or "").startswith("layer-")]
    assert [text.get_text() for text in numbers] == ["0", str(num_layers - 1)]


def test_layers_that_are_no_multiples_are_labelled_as_well():
    frame = pd.DataFrame({"metric": "uncertainty_coefficient", "value": 0.1, "layer": [3, 7, 11, 15], "run": "hybrid"})
    assert [text.get_text() for text in plot.layer_profile(frame).get_xticklabels()] == ["3", "7", "11", "15"]


def test_ends_of_runs_at_the_same_place_are_numbered_apart():
    rows = [
        {"run": f"run {run}", "routing": "learned", "layer": layer, "metric": "uncertainty_coefficient",
         "label_set": label_set, "value": 0.1 + layer / 1e4}
        for run in range(3) for layer in range(10) for label_set in ("upos", "bertopic")
    ]  # fmt: skip
    ax = plot.syntax_topic_plane(pd.DataFrame(rows))
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if (text.get_gid() or "").startswith("layer-")]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("num_experts", [8, 64, 256])
def test_ids_of_experts_of_one_layer_do_not_overlap(num_experts):
    frame = planted_frame("run", labels=("a", "b"), num_experts=num_experts, strengths=(0.3,))
    with plot.use_style(width="acl"):
        ax = plot.expert_load(frame, layer=0)
    ax.figure.draw_without_rendering()
    check_ticks(ax)
    load = frame[frame["metric"] == "load"].sort_values("value", ascending=False)
    ids = [int(text.get_text()) for text in ax.get_xticklabels()]
    assert len(ids) >= min(num_experts, 8)
    assert ids[0] == load["expert"].iloc[0]
    assert ids == load["expert"].astype(int).tolist()[:: -(-num_experts // len(ids))]


@pytest.mark.parametrize("name", CASES)
def test_a_title_may_be_given_or_left_out(name):
    frame = CASES[name].frame(4, 3)
    function, arguments = getattr(plot, name), CASES[name].arguments
    assert function(frame, **arguments)._left_title.get_text()
    assert function(frame, title="Own $title$", **arguments)._left_title.get_text() == "Own $title$"
    without = function(frame, title=None, **arguments)
    assert all(not ax._left_title.get_text() for ax in without.figure.axes if ax is without or ax.get_label() == "")


@pytest.mark.parametrize("name", ["layer_profile", "syntax_topic_plane", "repeats_by_label", "removal_curves",
                                  "training_curves", "perplexity_by_choice", "expert_prediction"])  # fmt: skip
def test_colours_of_series_are_those_of_the_palette(name):
    frame, function = CASES[name].frame(4, 3), getattr(plot, name)
    colors = {line.get_color() for line in function(frame, palette=["#102030"], **CASES[name].arguments).lines}
    assert "#102030" in colors
    assert not colors & set(plot.style.PALETTE)
    with pytest.raises(SpecializeError, match="palette: expected colours"):
        function(frame, palette="no such palette", **CASES[name].arguments)
    with pytest.raises(SpecializeError, match="palette: expected colours"):
        function(frame, palette=[], **CASES[name].arguments)


def test_an_unknown_width_is_a_clear_error():
    expected = "width: expected one of single, double, neurips, icml, acl, got 'iclm'"
    with pytest.raises(SpecializeError, match=expected), plot.use_style(width="iclm"):
        pass


def test_few_huge_lifts_leave_the_others_their_colours_and_the_bar_says_how_far_they_go():
    frame = planted_frame("run", labels=[f"label {n}" for n in range(20)], num_experts=32, strengths=(0.02,))
    lift = frame.index[frame["metric"] == "lift"]
    frame.loc[lift, "value"] = np.random.default_rng(0).uniform(0.5, 2.5, len(lift))
    frame.loc[lift, "q_value"] = 0.01
    frame.loc[lift[[5, 99, 300]], "value"] = [40.0, 77.0, 61.0]
    ax = plot.expert_label_heatmap(frame, layer=0)
    [mesh] = [each for each in ax.collections if each.get_gid() == "cells"]
    assert mesh.norm.vmax <= np.log2(4.0)
    told = [text.get_text() for text in ax.figure.findobj(lambda each: (each.get_gid() or "").startswith("beyond-"))]
    assert "to 77" in told
    plain = planted_frame("run", strengths=(0.4,))
    ax = plot.expert_label_heatmap(plain, layer=0)
    [mesh] = [each for each in ax.collections if each.get_gid() == "cells"]
    largest = plain.loc[(plain["metric"] == "lift") & (plain["q_value"] <= 0.05), "value"].max()
    assert 2**mesh.norm.vmax >= largest  # nothing is beyond the colours where there is no need
