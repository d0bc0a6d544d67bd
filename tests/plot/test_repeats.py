import numpy as np
import pandas as pd

from specialize.plot import repeats_by_label, save_figure


def planted_repeats():
    return pd.DataFrame(
        [
            {
                "run": "toy", "routing": "learned", "layer": layer, "metric": "first_expert_repeats",
                "label_set": "domain", "label": label, "value": value + layer / 100, "ci_low": value - 0.02,
                "ci_high": value + 0.04, "null_mean": 0.125,
            }
            for layer in range(5) for label, value in (("code", 0.4), ("poems", 0.2), (None, 0.3))
        ]
    )  # fmt: skip


def lines(ax):
    return {line.get_gid(): np.asarray(line.get_xdata(), dtype=float) for line in ax.lines}


def test_points_are_the_labels_shares_and_ticks_are_chance(tmp_path):
    ax = repeats_by_label(planted_repeats())
    drawn = lines(ax)
    assert set(drawn) == {f"{kind}-{layer}" for kind in ("value", "chance") for layer in (0, 2, 4)}
    np.testing.assert_allclose(drawn["value-2"], [0.42, 0.22])
    np.testing.assert_allclose(drawn["chance-0"], [0.125, 0.125])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["code", "poems"]
    save_figure(ax.figure, tmp_path / "repeats.png")


def test_chosen_layers():
    assert set(lines(repeats_by_label(planted_repeats(), layers=(1,)))) == {"value-1", "chance-1"}


def test_of_many_labels_the_first_and_the_last_are_kept():
    rows = planted_repeats()
    many = [rows[rows["label"] == "code"].assign(label=f"label {n}", value=n / 100) for n in range(40)]
    ax = repeats_by_label(pd.concat(many, ignore_index=True), most=3)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["label 39", "label 38", "label 0"]
    np.testing.assert_allclose(lines(ax)["value-4"], [0.39, 0.38, 0.0])


def test_a_layer_that_was_not_measured_has_no_points():
    assert np.isnan(lines(repeats_by_label(planted_repeats(), layers=(9,)))["value-9"]).all()
