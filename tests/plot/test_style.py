import itertools
import subprocess
import sys

import matplotlib
import matplotlib.colors as colors
import pytest
from matplotlib.axes import Axes

from plot.planted_frames import planted_frame
from specialize import plot
from specialize.errors import SpecializeError
from specialize.plot.style import CENTER, LIFT_COLORS, PALETTE, render_figure, series_look


def test_style_is_undone():
    before = matplotlib.rcParams["pdf.fonttype"], matplotlib.rcParams["text.parse_math"]
    with plot.use_style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert (matplotlib.rcParams["pdf.fonttype"], matplotlib.rcParams["text.parse_math"]) == before


@pytest.mark.parametrize("image_format", ["pdf", "png", "svg"])
def test_the_same_figure_gives_the_same_bytes_without_a_date(image_format, tmp_path):
    first = plot.save_figure(plot.layer_profile(planted_frame()).figure, tmp_path / f"a.{image_format}").read_bytes()
    second = plot.save_figure(plot.layer_profile(planted_frame()).figure, tmp_path / f"b.{image_format}").read_bytes()
    assert first == second
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first


def test_pdf_embeds_its_fonts_as_truetype(tmp_path):
    data = plot.save_figure(plot.layer_profile(planted_frame()).figure, tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


def test_svg_keeps_text(tmp_path):
    svg = plot.save_figure(plot.layer_profile(planted_frame("R&D <1>")).figure, tmp_path / "a.svg").read_text()
    assert "share of H(POS) explained by routing" in svg
    assert "R&amp;D &lt;1&gt;" in svg
    assert "sans-serif" in svg


def test_unknown_format_is_a_clear_error(tmp_path):
    figure = plot.layer_profile(planted_frame()).figure
    with pytest.raises(SpecializeError, match=r"expected one of pdf, png, svg, got 'pgn'. Did you mean 'png'"):
        plot.save_figure(figure, tmp_path / "a.pgn")
    assert list(tmp_path.iterdir()) == []


def test_runs_stay_apart_for_the_first_63():
    assert len({series_look(index) for index in range(63)}) == 63


def test_neighbouring_colours_differ_in_grey():
    grey = [sum(w * c for w, c in zip((0.299, 0.587, 0.114), colors.to_rgb(color), strict=True)) for color in PALETTE]
    assert min(abs(a - b) for a, b in itertools.pairwise(grey)) > 0.1
    assert colors.to_hex(LIFT_COLORS(0.5)) == pytest.approx(CENTER) or LIFT_COLORS(0.5)[0] > 0.95


def test_every_plot_function_takes_a_frame_and_returns_axes():
    functions = [plot.expert_label_heatmap, plot.expert_load, plot.layer_profile, plot.syntax_topic_plane]
    for function in functions:
        assert function.__annotations__["return"] is Axes
        assert function.__code__.co_argcount == 1


def test_transparent_rendering_leaves_the_page_to_show():
    svg = render_figure(plot.layer_profile(planted_frame()).figure, "svg", transparent=True).decode()
    assert "fill: #ffffff" not in svg


def test_plotting_touches_no_pyplot_figure():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from plot.planted_frames import planted_frame\n"
        "from specialize import plot\n"
        "import matplotlib.pyplot as plt\n"
        "plot.expert_label_heatmap(planted_frame(), layer=1); plot.layer_profile(planted_frame())\n"
        "assert plt.get_fignums() == []\n"
        "assert not {'torch', 'transformers', 'spacy', 'bertopic'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
