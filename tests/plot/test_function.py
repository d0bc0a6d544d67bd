"""Figures of experts that are switched off draw the planted numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plot.planted_function import RANKINGS, planted_effects, planted_experts
from specialize.errors import MeasurementError
from specialize.plot import effect_against_lift, effect_heatmap, removal_curves, save_figure, set_selectivity


def drawn(ax, gid):
    return next((artist for artist in ax.get_children() if artist.get_gid() == gid), None)


def cells(ax, gid):
    mesh = drawn(ax, gid)
    values = np.ma.filled(mesh.get_array().astype(float), np.nan)
    return values.reshape(mesh._coordinates.shape[0] - 1, -1)


def order(ax):
    return [text.get_text() for text in ax.get_yticklabels()], [int(text.get_text()) for text in ax.get_xticklabels()]


def table(frame, metric, layer, names):
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
    labels, experts = names
    return rows.pivot(index="label", columns="expert", values="value").loc[labels, experts].to_numpy()


@pytest.mark.parametrize("metric", ["effect", "per_use_effect", "effect_selectivity"])
def test_both_panels_show_the_same_cells(metric, tmp_path):
    frame = planted_effects()
    ax = effect_heatmap(frame, layer=2, metric=metric)
    beside = next(other for other in ax.figure.axes if drawn(other, "lift") is not None)
    names = order(ax)
    assert names[1] == order(beside)[1]
    np.testing.assert_allclose(cells(ax, "cells"), table(frame, metric, 2, names))
    np.testing.assert_allclose(cells(beside, "lift"), np.log2(table(frame, "lift", 2, names)))
    largest = table(frame, metric, 2, names).max(axis=0)
    assert (np.diff(largest) <= 0).all()
    assert (np.diff(table(frame, metric, 2, names).argmax(axis=1)) >= 0).all()
    save_figure(ax.figure, tmp_path / "effects.png")


def test_a_noisy_cell_is_hatched_and_does_not_wash_out_the_others():
    frame = planted_effects()
    own = frame.index[(frame["metric"] == "effect") & (frame["layer"] == 0)]
    others = frame.loc[own[1:]]
    clear = others["value"][(others["ci_low"] > 0) | (others["ci_high"] < 0)].abs().max()
    frame.loc[own[0], ["value", "ci_low", "ci_high"]] = (-5.0, -11.0, 1.0)
    ax = effect_heatmap(frame, layer=0)
    assert drawn(ax, "cells").get_clim() == pytest.approx((-clear, clear))
    hatched = len(drawn(ax, "not-significant").get_paths())
    assert hatched == 1 + ((others["ci_low"] <= 0) & (others["ci_high"] >= 0)).sum()
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["hatched: 95 % interval includes 0"]


def test_cells_that_were_tested_are_hatched_by_their_q_value():
    frame = planted_effects()
    ax = effect_heatmap(frame, layer=0, metric="effect_selectivity")
    q = frame["q_value"][(frame["metric"] == "effect_selectivity") & (frame["layer"] == 0)]
    assert len(drawn(ax, "not-significant").get_paths()) == (q > 0.05).sum()
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["hatched: q > 0.05"]


def test_given_axes_show_the_effect_alone():
    ax = Figure().add_subplot()
    assert effect_heatmap(planted_effects(), layer=0, ax=ax) is ax
    assert all(drawn(other, "lift") is None for other in ax.figure.axes)


def test_a_frame_without_lift_has_an_empty_second_panel(tmp_path):
    frame = planted_effects()
    ax = effect_heatmap(frame[frame["metric"] != "lift"], layer=0)
    beside = next(other for other in ax.figure.axes if drawn(other, "lift") is not None)
    assert np.isnan(cells(beside, "lift")).all()
    save_figure(ax.figure, tmp_path / "effects.pdf")


def test_points_are_lift_and_effect_of_every_cell():
    frame = planted_effects(num_layers=2, num_experts=4, labels=("NOUN", "VERB"))
    points = drawn(effect_against_lift(frame), "cells")
    found = pd.DataFrame(points.get_offsets(), columns=["x", "y"]).assign(layer=np.asarray(points.get_array()))
    expected = frame[frame["metric"].isin(["lift", "per_use_effect"])].pivot(
        index=["layer", "expert", "label"], columns="metric", values="value"
    )
    expected = expected.reset_index().sort_values("lift")
    inside = expected["per_use_effect"].rank().between(2, len(expected) - 1).to_numpy()  # the others may be at the edge
    found = found.sort_values("x")
    np.testing.assert_allclose(found["x"], expected["lift"])
    np.testing.assert_allclose(found["y"][inside], expected["per_use_effect"][inside])
    np.testing.assert_array_equal(found["layer"], expected["layer"])


@pytest.mark.parametrize(
    ("metric", "value"), [("per_use_effect", "0.10 [0.04, 0.16]"), ("effect", "0.50 [0.44, 0.56]")]
)
def test_the_title_holds_the_agreement_over_all_layers(metric, value):
    title = effect_against_lift(planted_effects(), metric=metric)._left_title.get_text()
    corrected = {"per_use_effect": "0.13", "effect": "0.62"}[metric]
    assert f"rank correlation {value}" in title
    assert "mean over layers; corrected for noise: " in title
    assert float(title.rsplit(" ", 1)[1]) == pytest.approx(float(corrected), abs=0.011)
    without = planted_effects().query("not metric.str.contains('agreement')")
    assert "correlation" not in effect_against_lift(without, metric=metric)._left_title.get_text()


def test_lifts_of_zero_are_drawn_at_the_border():
    frame = planted_effects()
    frame.loc[frame["metric"] == "lift", "value"] = 0.0
    ax = effect_against_lift(frame)
    assert set(drawn(ax, "cells").get_offsets()[:, 0]) == {2.0**-6}
    assert ax.get_xticklabels()[0].get_text() == "≤ 1/64"


def test_points_whose_interval_is_wide_or_missing_are_faint():
    frame = planted_effects(num_layers=1)
    rows = frame.index[frame["metric"] == "per_use_effect"]
    frame.loc[rows[0], ["ci_low", "ci_high"]] = (-5.0, 5.0)
    frame.loc[rows[1], "ci_low"] = np.nan
    points = drawn(effect_against_lift(frame), "cells")
    lift = frame[frame["metric"] == "lift"].set_index(["expert", "label"])["value"]
    wide = [lift[tuple(frame.loc[row, ["expert", "label"]])] for row in rows[:2]]
    faint = points.get_alpha() < 0.5
    assert sorted(points.get_offsets()[faint, 0]) == pytest.approx(sorted(wide))
    frame[["ci_low", "ci_high"]] = np.nan
    assert (drawn(effect_against_lift(frame), "cells").get_alpha() > 0.5).all()


def test_sets_above_their_random_sets_are_filled():
    ax = set_selectivity(planted_effects())
    labels = [text.get_text() for text in ax.get_yticklabels()]
    filled, hollow = (drawn(ax, gid).get_offsets() for gid in ("significant", "not-significant"))
    assert {labels[int(place)] for _, place in filled} == {"NOUN", "PUNCT"} == set(labels[:2])
    assert len(hollow) == 15
    assert (filled[:, 0] > 0.12).all()
    assert (hollow[:, 0] < 0.12).all()
    ranges = np.array(drawn(ax, "random-range").get_segments())
    np.testing.assert_allclose(ranges[..., 0], np.tile([-0.05, 0.12], (17, 1)))
    np.testing.assert_allclose(drawn(ax, "random-mean").get_xdata(), 0.02)
    (legend,) = ax.figure.legends
    assert "20 random sets: range and mean" in [text.get_text() for text in legend.get_texts()]


def test_removal_curves_are_the_planted_ones():
    ax = removal_curves(planted_experts())
    for ranking, share in RANKINGS.items():
        line = drawn(ax, f"value-{ranking}")
        np.testing.assert_allclose(line.get_ydata(), 0.1 * share * np.array([1, 2, 4, 8, 16]))
        np.testing.assert_allclose(np.log2(line.get_xdata()), np.arange(5), atol=0.2)
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]


def test_what_cannot_be_drawn_is_an_error():
    frame = planted_effects()
    with pytest.raises(
        MeasurementError, match="metric: expected one of effect, per_use_effect, effect_selectivity, got 'lif"
    ):
        effect_heatmap(frame, layer=0, metric="lift")
    with pytest.raises(MeasurementError, match="metric: expected one of per_use_effect, effect, got 'exposure'"):
        effect_against_lift(frame, metric="exposure")
    with pytest.raises(MeasurementError, match="layer: expected one of 0, 1, 2, 3, got '9'"):
        effect_heatmap(frame, layer=9)
    removed = planted_experts()
    removed.loc[removed["metric"] == "removal_effect", "label"] = "many"
    with pytest.raises(MeasurementError, match="label: expected a number of experts in rows of removal_effect, got 'm"):
        removal_curves(removed)
    both = pd.concat([frame, planted_effects(label_set="dep")])
    for draw in (effect_against_lift, set_selectivity):
        with pytest.raises(MeasurementError, match="name one with label_set="):
            draw(both)
