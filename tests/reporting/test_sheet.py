import numpy as np
import pytest
from matplotlib.figure import Figure

from specialize.plot.style import use_style
from specialize.reporting.sheet import _fit, write_sheet

PAGE = (8.27, 11.69)


def boxes(sizes):
    scale, places = _fit(np.array(sizes, dtype=float), PAGE)
    return scale, [(x, y, x + scale * w, y + scale * h + 0.16) for (x, y), (w, h) in zip(places, sizes, strict=True)]


@pytest.mark.parametrize("count", [1, 3, 24, 150])
def test_figures_are_on_the_page_and_apart(count):
    rng = np.random.default_rng(count)
    scale, placed = boxes(list(zip(rng.uniform(3, 6.9, count), rng.uniform(2, 8, count), strict=True)))
    assert 0 < scale <= 1
    for left, top, right, bottom in placed:
        assert 0 <= left < right <= PAGE[0]
        assert 0 <= top < bottom <= PAGE[1]
    for number, one in enumerate(placed):
        for other in placed[number + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_the_names_are_on_the_page_in_their_order(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("specialize.reporting.sheet.store_figure", lambda figure, path: drawn.append(figure) or path)
    with use_style():
        figures = [(name, Figure(figsize=(3.35, 2))) for name in ("first", "second-$x$", "third")]
    files = write_sheet(figures, tmp_path)
    assert [path.name for path in files] == ["sheet.pdf", "sheet.png"]
    assert [text.get_text() for text in drawn[0].texts] == ["first", "second-$x$", "third"]
    heights = [ax.get_position().y1 for ax in drawn[0].axes]
    assert heights == sorted(heights, reverse=True)
