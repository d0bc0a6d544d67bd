import itertools

import matplotlib.colors as colors
import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from specialize.errors import MeasurementError
from specialize.measure.results.files import as_results
from specialize.plot import expert_label_heatmap, save_figure, style


def cells(ax):
    (mesh,) = [artist for artist in ax.collections if artist.get_gid() == "cells"]
    return mesh


def table(ax):
    """Return the drawn log2 lifts as a frame of label and expert names, as the ticks say."""
    values = np.ma.filled(cells(ax).get_array(), np.nan)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    experts = [int(text.get_text()) for text in ax.get_xticklabels()]
    return pd.DataFrame(values, index=labels, columns=experts)


def test_cells_are_log2_lift_of_the_label_and_expert_that_the_ticks_name():
    frame = planted_frame()
    drawn = table(expert_label_heatmap(frame, layer=1))
    lift = frame[(frame["metric"] == "lift") & (frame["layer"] == 1)]
    assert drawn.size == len(lift) == 17 * 8
    for row in lift.itertuples():
        assert drawn.loc[row.label, int(row.expert)] == pytest.approx(np.log2(row.value), abs=1e-12)


def test_the_planted_expert_is_the_most_extreme_cell():
    frame = planted_frame()
    planted = (frame["metric"] == "lift") & (frame["layer"] == 1)
    planted &= (frame["label"] == "VERB") & (frame["expert"] == 4)
    frame.loc[planted, "value"] = 20.0
    drawn = table(expert_label_heatmap(frame, layer=1))
    label, expert = drawn.stack().idxmax()
    assert (label, expert) == ("VERB", 4)
    assert drawn.abs().stack().idxmax() == ("VERB", 4)


def test_experts_stand_in_the_order_of_their_specific_information():
    frame = planted_frame()
    information = frame[(frame["metric"] == "specific_information") & (frame["layer"] == 2)]
    expected = information.sort_values("value", ascending=False)["expert"].astype(int).tolist()
    assert table(expert_label_heatmap(frame, layer=2)).columns.tolist() == expected


def test_without_specific_information_experts_stand_by_their_largest_lift():
    frame = planted_frame()
    frame = frame[frame["metric"] == "lift"]
    strongest = frame[frame["layer"] == 2].groupby("expert")["value"].max().sort_values(ascending=False)
    assert table(expert_label_heatmap(frame, layer=2)).columns.tolist() == strongest.index.astype(int).tolist()


def test_labels_follow_their_strongest_expert():
    drawn = table(expert_label_heatmap(planted_frame(), layer=1)).to_numpy()
    assert (np.diff(drawn.argmax(axis=1)) >= 0).all()


def test_the_colour_scale_is_centred_at_lift_one():
    ax = expert_label_heatmap(planted_frame(), layer=1)
    norm, cmap = cells(ax).norm, cells(ax).get_cmap()
    assert norm.vmin == -norm.vmax
    red, green, blue, _ = cmap(norm(0.0))
    assert min(red, green, blue) > 0.94
    less, more = (np.dot(cmap(norm(side))[:3], (0.2126, 0.7152, 0.0722)) for side in (norm.vmin, norm.vmax))
    assert more < less - 0.15  # in grey, far more than expected is darker than far less


def test_cells_that_are_not_significant_are_hatched_and_not_written():
    frame = planted_frame()
    ax = expert_label_heatmap(frame, layer=0)
    lift = frame[(frame["metric"] == "lift") & (frame["layer"] == 0)]
    insignificant = int((lift["q_value"] > 0.05).sum())
    (hatch,) = [artist for artist in ax.collections if artist.get_gid() == "not-significant"]
    assert hatch.get_hatch()
    assert len(hatch.get_paths()) == insignificant > 0
    assert sum(text.get_text() != "" for text in ax.texts) == len(lift) - insignificant


def test_written_values_are_lifts():
    ax = expert_label_heatmap(planted_frame(), layer=1)
    drawn = 2 ** table(ax)
    for text in ax.texts:
        if text.get_text():
            column, row = (int(place) for place in text.get_position())
            assert float(text.get_text()) == pytest.approx(drawn.iloc[row, column], abs=0.051)


def test_values_can_be_read_on_their_cells_whatever_the_page_does_to_its_ink():
    def luminance(color):
        channels = np.array(colors.to_rgb(color))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    ax = expert_label_heatmap(planted_frame(strengths=(0.6,)), layer=0)
    mesh, drawn = cells(ax), table(ax)
    written = [text for text in ax.texts if text.get_text()]
    assert len(written) > 50
    for text in written:
        column, row = (int(place) for place in text.get_position())
        low, high = sorted(map(luminance, (text.get_color(), mesh.get_cmap()(mesh.norm(drawn.iloc[row, column])))))
        assert (high + 0.05) / (low + 0.05) >= 4.5
        assert text.get_color() not in (style.INK, style.MUTED, style.PAPER, *style.PALETTE)


def test_512_experts_and_60_labels_stay_legible_and_are_embedded_as_an_image():
    labels = [f"{number}: river, lake, water, dam and many more words than fit" for number in range(60)]
    frame = planted_frame(label_set="bertopic", labels=labels, num_experts=512, strengths=(0.3,))
    ax = expert_label_heatmap(frame, layer=0)
    assert cells(ax).get_array().shape == (40, 512)
    assert cells(ax).get_rasterized()
    ticks = [text.get_text() for text in ax.get_yticklabels()]
    assert len(ticks) == 40
    assert max(len(line) for tick in ticks for line in tick.split("\n")) <= 30
    assert {tick.replace("\n", " ") for tick in ticks} <= set(labels)  # none is cut
    assert len(ax.get_xticklabels()) < 40
    assert ax.figure.get_figwidth() == pytest.approx(6.9)
    veil = [artist for artist in ax.collections if artist.get_gid() == "not-significant"]
    assert len(veil) == 1
    assert veil[0].get_hatch() is None


def test_tick_labels_do_not_overlap_at_512_by_60():
    labels = [f"{number}: river, lake, water" for number in range(60)]
    frame = planted_frame(label_set="bertopic", labels=labels, num_experts=512, strengths=(0.3,))
    ax = expert_label_heatmap(frame, layer=0)
    ax.figure.draw_without_rendering()
    for ticks, axis in ((ax.get_yticklabels(), "y"), (ax.get_xticklabels(), "x")):
        boxes = [text.get_window_extent() for text in ticks]
        spans = sorted((getattr(box, f"{axis}0"), getattr(box, f"{axis}1")) for box in boxes)
        assert all(after[0] >= before[1] - 0.5 for before, after in itertools.pairwise(spans))


def test_missing_values_and_lift_zero_are_distinguished():
    frame = planted_frame()
    lift = (frame["metric"] == "lift") & (frame["layer"] == 1)
    frame.loc[lift & (frame["label"] == "NOUN") & (frame["expert"] == 2), "value"] = np.nan
    frame.loc[lift & (frame["label"] == "VERB") & (frame["expert"] == 2), "value"] = 0.0
    ax = expert_label_heatmap(frame, layer=1)
    drawn = table(ax)
    assert np.isnan(drawn.loc["NOUN", 2])
    assert drawn.loc["VERB", 2] == drawn.min().min() == -60
    assert int(np.isnan(drawn.to_numpy()).sum()) == 1
    assert "no value" in [text.get_text() for text in ax.figure.legends[0].get_texts()]


@pytest.mark.parametrize(("labels", "num_experts"), [(["NOUN"], 8), (["NOUN", "VERB"], 1), (["NOUN"], 1)])
def test_one_label_or_one_expert(labels, num_experts, tmp_path):
    ax = expert_label_heatmap(planted_frame(labels=labels, num_experts=num_experts, strengths=(0.4,)), layer=0)
    assert cells(ax).get_array().shape == (len(labels), num_experts)
    save_figure(ax.figure, tmp_path / "one.pdf")


def test_all_values_missing():
    frame = planted_frame(strengths=(0.3,))
    frame["value"] = np.nan
    ax = expert_label_heatmap(frame, layer=0)
    assert np.ma.getmaskarray(cells(ax).get_array()).all()


def test_dollar_signs_and_control_characters_are_no_markup(tmp_path):
    labels = [r"$\frac{1}{", "a\0b\x1b[31m", "\u202egnp.exe", "_x_", "<b>"]
    ax = expert_label_heatmap(planted_frame("$run$", labels=labels, strengths=(0.4,)), layer=0)
    ticks = [text.get_text() for text in ax.get_yticklabels()]
    assert sorted(ticks) == sorted([r"$\frac{1}{", "a b [31m", "gnp.exe", "_x_", "<b>"])
    for image_format in ("pdf", "png", "svg"):
        save_figure(ax.figure, tmp_path / f"hostile.{image_format}")


def test_draws_on_the_given_axes():
    frame = planted_frame()
    first = expert_label_heatmap(frame, layer=0)
    ax = first.figure.add_axes((0.1, 0.1, 0.3, 0.3))
    assert expert_label_heatmap(frame, layer=1, ax=ax) is ax


def test_a_frame_in_the_schema_of_measure_draws_the_same():
    frame = planted_frame()
    schema = as_results(frame)
    pd.testing.assert_frame_equal(
        table(expert_label_heatmap(frame, layer=1)), table(expert_label_heatmap(schema, layer=1))
    )


def test_says_what_is_there_when_a_layer_run_or_label_set_is_not():
    frame = planted_frame()
    with pytest.raises(MeasurementError, match=r"layer: expected one of 0, 1, 2, 3, got '9'"):
        expert_label_heatmap(frame, layer=9)
    with pytest.raises(MeasurementError, match=r"run: expected one of toy, got 'toys'.* Did you mean 'toy'"):
        expert_label_heatmap(frame, layer=1, run_name="toys")
    both = pd.concat([frame, planted_frame("other")])
    with pytest.raises(MeasurementError, match=r"run: the frame holds 2 \(toy, other\), name one with run_name="):
        expert_label_heatmap(both, layer=1)


def test_colours_of_missing_cells_differ_from_the_scale():
    ax = expert_label_heatmap(planted_frame(), layer=1)
    missing = np.array(colors.to_rgb(ax.get_facecolor()))
    scale = cells(ax).get_cmap()(np.linspace(0, 1, 64))[:, :3]
    assert np.abs(scale - missing).sum(axis=1).min() > 0.06


@pytest.mark.parametrize(("num_labels", "num_experts"), [(1, 1), (2, 8), (17, 8), (30, 64)])
def test_nothing_is_cut_off(num_labels, num_experts):
    labels = [f"{number}: a topic of very many and very long words" for number in range(num_labels)]
    run = "a run with a name that is longer than any run name should be"
    frame = planted_frame(run, labels=labels, label_set="bertopic", num_experts=num_experts, strengths=(0.3,))
    ax = expert_label_heatmap(frame, layer=0)
    ax.figure.draw_without_rendering()
    for text in (ax._left_title, ax.yaxis.label, ax.xaxis.label, *ax.get_yticklabels(), *ax.get_xticklabels()):
        box = text.get_window_extent()
        assert box.x0 >= -0.5
        assert box.x1 <= ax.figure.bbox.width + 0.5
        assert box.y0 >= -0.5
        assert box.y1 <= ax.figure.bbox.height + 0.5
