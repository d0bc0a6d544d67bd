from itertools import combinations

import numpy as np
import pandas as pd

from specialize.plot import label_overlap
from specialize.plot.sizes import print_at

LABELS = ("a", "b × c", "b", "c")  # a name that holds the sign between two names


def planted():
    rows = [{"metric": "committee_size", "label": label, "value": 3.0} for label in LABELS]
    pairs = {"a × b × c": 0.9, "a × b": 0.2, "a × c": 0.3, "b × c × b": 0.4, "b × c × c": 0.5}
    rows += [{"metric": "label_overlap", "label": label, "value": value} for label, value in pairs.items()]
    frame = pd.DataFrame(rows).assign(run="toy", routing="learned", layer=3, label_set="domain", q_value=0.01)
    frame.loc[frame["value"] == 0.9, "q_value"] = 0.5
    return frame


def cells(ax):
    return {tuple(place): value for place, value in np.ndenumerate(ax.collections[0].get_array().filled(np.nan))}


def test_cells_are_the_overlaps_of_both_labels():
    ax = label_overlap(planted(), layer=3)
    expected = {(2, 3): 0.9, (0, 2): 0.2, (1, 2): 0.3, (0, 3): 0.4, (1, 3): 0.5}
    expected |= {(second, first): value for (first, second), value in expected.items()}
    found = {place: value for place, value in cells(ax).items() if np.isfinite(value)}
    assert found == expected
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "c", "a", "b × c"]


def test_pairs_that_may_be_alike_are_hatched():
    ax = label_overlap(planted(), layer=3)
    hatched = next(each for each in ax.collections if each.get_gid() == "not-significant")
    corners = {tuple(path.vertices[0].astype(int)) for path in hatched.get_paths()}
    assert corners == {(2, 3), (3, 2)}


def test_labels_that_are_in_no_pair_are_left_out():
    frame = planted()
    ax = label_overlap(frame[~frame["label"].str.contains("a")], layer=3)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "b × c", "c"]


def test_names_are_whole_in_one_column():
    names = [f"{number} Philosophy, religion and the rest" for number in range(30)]
    pairs = [f"{first} × {second}" for first, second in combinations(names, 2)]
    frame = pd.DataFrame([{"metric": "committee_size", "label": name, "value": 3.0} for name in names])
    frame = pd.concat([frame, pd.DataFrame({"metric": "label_overlap", "label": pairs, "value": 0.5})])
    frame = frame.assign(run="toy", routing="learned", layer=3, label_set="domain", q_value=0.01)
    with print_at("single"):
        ax = label_overlap(frame, layer=3)
    shown = [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()]
    assert 4 <= len(shown) < 30
    assert set(shown) <= set(names)
    assert f"{len(shown)} of 30" in ax.get_xlabel()
