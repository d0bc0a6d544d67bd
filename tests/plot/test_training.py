import numpy as np
import pandas as pd
import pytest

from specialize.errors import MeasurementError
from specialize.plot import perplexity_by_choice, save_figure, training_curves


def planted_curves():
    return pd.DataFrame(
        [
            {
                "run": run, "routing": "learned", "layer": layer, "metric": "saturation", "tokens": tokens,
                "value": share + 0.1 * layer, "null_mean": 0.25,
            }
            for run in ("token", "sequence") for layer in (0, 1) for tokens, share in ((1000, 0.3), (8000, 0.7))
        ]
    )  # fmt: skip


def test_the_thick_line_is_the_mean_over_layers(tmp_path):
    ax = training_curves(planted_curves())
    drawn = [(line.get_gid(), np.asarray(line.get_ydata(), dtype=float)) for line in ax.lines]
    for number in (0, 1):
        (mean,) = [y for gid, y in drawn if gid == f"mean-{number}"]
        np.testing.assert_allclose(mean, [0.35, 0.75])
        assert len([y for gid, y in drawn if gid == f"layer-{number}"]) == 2
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1k", "8k"]
    save_figure(ax.figure, tmp_path / "curves.pdf")


def test_a_frame_without_time_is_an_error():
    with pytest.raises(MeasurementError, match="got no column 'step'"):
        training_curves(planted_curves(), time="step")


def test_perplexities_stand_in_the_row_of_their_design(tmp_path):
    frame = pd.DataFrame(
        {
            "design": ["a", "a", "b"],
            "variant": ["learned", "frozen", "learned"],
            "perplexity": [10.0, 11.0, 12.0],
            "ci_low": [9.0, np.nan, 11.5],
            "ci_high": [11.0, np.nan, 12.5],
        }
    )
    ax = perplexity_by_choice(frame)
    points = {line.get_gid(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}
    assert points["value-learned"][0] == [10.0, 12.0]
    assert [round(place) for place in points["value-learned"][1]] == [0, 1]
    assert points["value-frozen"][0] == [11.0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    save_figure(ax.figure, tmp_path / "perplexity.png")
    with pytest.raises(MeasurementError, match="got no 'variant'"):
        perplexity_by_choice(frame.drop(columns="variant"))
