import numpy as np
import pandas as pd
import pytest

from specialize.errors import MeasurementError
from specialize.plot import coactivation, layer_flow, save_figure


def planted_pairs(num_experts=6, *, metric="coactivation", partner=3.0):
    """Every pair at chance but expert 1 with 4, `partner` times as often."""
    rows = [
        {
            "run": "toy", "routing": "learned", "layer": 2, "metric": metric, "expert": i, "label": str(j),
            "value": 0.1 * (partner if (i, j) == (1, 4) else 1.0), "null_mean": 0.1,
        }
        for i in range(num_experts) for j in range(num_experts) if i != j
    ]  # fmt: skip
    return pd.DataFrame(rows)


def cells(ax):
    (mesh,) = [artist for artist in ax.collections if artist.get_gid() == "cells"]
    return np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(mesh._coordinates.shape[0] - 1, -1)


@pytest.mark.parametrize(("draw", "metric"), [(coactivation, "coactivation"), (layer_flow, "transition")])
def test_the_planted_pair_is_the_darkest_cell(draw, metric, tmp_path):
    ax = draw(planted_pairs(metric=metric), layer=2)
    found = cells(ax)
    assert np.unravel_index(np.nanargmax(found), found.shape) == (1, 4)
    assert found[1, 4] == pytest.approx(np.log2(3))
    assert np.isnan(np.diag(found)).all()
    off = ~np.eye(6, dtype=bool)
    off[1, 4] = False
    np.testing.assert_allclose(found[off], 0.0, atol=1e-12)
    save_figure(ax.figure, tmp_path / "pairs.pdf")


@pytest.mark.parametrize("num_experts", [2, 96])
def test_few_and_many_experts(num_experts, tmp_path):
    frame = planted_pairs(max(num_experts, 2), partner=0.0)
    save_figure(coactivation(frame, layer=2).figure, tmp_path / "pairs.png")


def test_pairs_that_never_occur_do_not_wash_out_the_others():
    frame = planted_pairs()
    frame.loc[(frame["expert"] == 0) & (frame["label"] == "3"), "value"] = 0.0
    (mesh,) = [artist for artist in coactivation(frame, layer=2).collections if artist.get_gid() == "cells"]
    assert mesh.get_clim() == (-2.0, 2.0)  # log2 of the planted 3, rounded up


def test_several_runs_need_a_name():
    frame = pd.concat([planted_pairs(), planted_pairs().assign(run="other")])
    with pytest.raises(MeasurementError, match="name one with run_name="):
        coactivation(frame, layer=2)
