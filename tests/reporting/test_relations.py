"""Experts that belong together: by how often they are chosen together, and by their labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.reporting.reading import read_runs
from specialize.reporting.relations import MOST, list_partners, list_similar


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relations")
    [run] = read_runs([make_run(folder / "run", syntax=planted_frame("run", control=0.6))])
    return run


def with_lifts(run, lifts):
    """Return the run with these lifts [labels, experts] in layer 0, and none elsewhere."""
    frame = run.syntax["upos"]
    rows = frame[(frame["metric"] == "lift") & (frame["routing"] == "learned") & (frame["layer"] == 0)]
    labels = list(rows["label"].unique())[: len(lifts)]
    rows = rows[rows["label"].isin(labels) & (rows["expert"] < len(lifts[0]))].copy()
    rows["value"] = [lifts[labels.index(row.label)][int(row.expert)] for row in rows.itertuples()]
    return replace(run, syntax={"upos": rows})


def test_similar_experts_have_the_same_labels(run):
    steps = np.array([-2.0, -1, 0, 1, 2])
    profiles = 2.0 ** np.stack([steps, 1.4 * steps, -steps, np.roll(steps, 1)], axis=1)
    similar = list_similar(with_lifts(run, profiles.tolist()))[0]
    [[name, first]] = similar["0"]
    assert name == "POS"
    assert first[0] == [1, 1.0]  # proportional logarithms
    assert 2 not in [expert for expert, _ in first]  # the opposite
    # against numpy, with lifts below 1/8 taken as that
    logs = np.maximum(np.log2(profiles), -3)
    assert dict(first)[1] == pytest.approx(np.corrcoef(logs.T)[0, 1], abs=5e-3)
    assert "2" not in similar or all(value > 0 for _, value in similar["2"][0][1])


def test_few_labels_are_no_profile(run):
    assert not list_similar(with_lifts(run, [[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]]))


def test_equal_lifts_and_missing_ones_are_not_compared(run):
    lifts = [[1.0, 1.0, np.nan, 2.0], [1.0, 2.0, 1.0, 1.0], [1.0, 3.0, 1.0, 0.5], [1.0, 4.0, 1.0, 0.2]]
    similar = list_similar(with_lifts(run, lifts))
    named = {expert for own in similar[0].values() for _, others in own for expert, _ in others}
    assert not named & {0, 2}


def test_partners_are_those_chosen_more_often_than_their_loads_predict(run):
    chance = [0.1, 0.2, 0.1, 0.3, 0.05, 0.1, 0.1]
    together = [0.4, 0.1, np.nan, 0.33, 0.5, 0.11, 0.2]
    rows = pd.DataFrame(
        {
            "metric": "coactivation", "routing": "learned", "layer": 3, "expert": 0,
            "label": [str(other) for other in range(1, 8)], "value": together, "null_mean": chance,
        }
    )  # fmt: skip
    other = rows.assign(routing="random", value=0.9)
    found = list_partners(replace(run, routing=pd.concat([other, rows])))
    assert found[3]["0"] == [[5, 0.5, 10.0], [1, 0.4, 4.0], [7, 0.2, 2.0], [4, 0.33, 1.1]]
    assert len(found[3]["0"]) == MOST
    assert list_partners(run) == {}
