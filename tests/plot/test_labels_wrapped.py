"""Names of labels are broken into lines before they are cut."""

from itertools import pairwise

import matplotlib
import pytest

from plot.planted_frames import planted_frame
from specialize import plot
from specialize.plot.labels import LINES, fit_lines, wrap_apart
from specialize.plot.sizes import print_at
from specialize.text import count_columns

matplotlib.use("Agg")
LONG = "3: emperor, dynasty, war, throne and province"


@pytest.mark.parametrize("width", [1, 2, 7, 12, 23, 24, 30, 60])
@pytest.mark.parametrize(
    "names",
    [
        [LONG, f"{LONG} again", "NOUN"],
        [LONG, LONG + "s"],
        ["", " ", "a"],
        ["東京都の歴史と地理と文化と経済と政治", "東京都の歴史と地理と文化と経済と宗教"],
        ["x" * 100, "x" * 99 + "y"],
    ],
)
def test_no_line_is_wider_and_names_stay_apart(names, width):
    shown = wrap_apart(names, width=width)
    lines = [name.split("\n") for name in shown]
    assert max(map(len, lines)) <= LINES
    if width >= 7:
        assert max(count_columns(line) for own in lines for line in own) <= width
        cleaned = {" ".join(name.split()) for name in names}
        assert len(set(shown)) == len(cleaned)
    for name, own in zip(names, lines, strict=True):
        if width >= count_columns(name):
            assert own == [name.strip()] or own == [name]


def test_a_name_of_two_lines_is_whole():
    assert wrap_apart([LONG], width=24) == ["3: emperor, dynasty,\nwar, throne and province"]
    assert fit_lines([LONG], width=24, most=30) == (24, 2)
    assert fit_lines([LONG], width=12, most=40) == (24, 2)  # the least that cuts nothing
    assert fit_lines([LONG], width=12, most=20) == (20, 2)
    assert fit_lines([LONG], width=len(LONG), most=99) == (len(LONG), 1)


def test_topics_are_whole_in_a_column():
    """The words of a topic do not fit beside the cells of a figure one column wide, but below each other."""
    labels = [f"{number}: emperors, dynasty, wars, throne" for number in range(20)]
    frame = planted_frame(label_set="bertopic", labels=labels)
    with print_at("single"):
        axes = [plot.expert_label_heatmap(frame, layer=1), plot.expert_forest(frame, layer=1, expert=0)]
    for ax in axes:
        ax.figure.canvas.draw()
        ticks = ax.get_yticklabels()
        assert {tick.get_text().replace("\n", " ") for tick in ticks} == set(labels)
        boxes = sorted((tick.get_window_extent() for tick in ticks), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
        matplotlib.pyplot.close(ax.figure)
