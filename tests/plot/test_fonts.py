"""Scripts that the bundled font lacks: an installed font that has them is used, or a warning says what to install."""

import warnings

import pytest
from matplotlib import font_manager

from plot.planted_frames import planted_frame
from specialize import plot
from specialize.plot.fonts import cover_characters, list_texts
from specialize.plot.style import FORMATS

THAI = "วรรณคดี"


@pytest.fixture
def thai_font(tmp_path, monkeypatch):
    """A font of the name Planted Thai, which has Thai letters alone, among those that are installed."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    letters = sorted(set(THAI))
    names = {ord(letter): f"thai{number}" for number, letter in enumerate(letters)}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyph = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    order = [".notdef", *names.values()]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(order, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Planted Thai", "styleName": "Regular", "psName": "PlantedThai-Regular"})
    builder.setupOS2(sTypoAscender=800, usWeightClass=400)
    builder.setupPost()
    path = tmp_path / "planted.ttf"
    builder.save(path)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(path)
    return "Planted Thai"


def thai_figure():
    return plot.expert_forest(planted_frame("run", labels=[THAI, "b"], strengths=(0.4,)), layer=0, expert=0).figure


def test_an_installed_font_draws_what_the_bundled_one_cannot(thai_font, tmp_path):
    figure = thai_figure()
    for image_format in FORMATS:
        plot.save_figure(figure, tmp_path / f"a.{image_format}")  # without a warning, which would be an error here
    families = {text.get_text(): text.get_fontfamily() for text in list_texts(figure)}
    assert families[THAI][:2] == ["DejaVu Sans", thai_font]
    assert thai_font not in families["b"]
    assert b"PlantedThai" in (tmp_path / "a.pdf").read_bytes()


def without_fonts_for(monkeypatch, name):
    kept = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith(name)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", kept)


@pytest.mark.parametrize("image_format", ["pdf", "png"])
def test_characters_that_no_font_has_are_told_with_what_to_install(image_format, tmp_path, monkeypatch):
    without_fonts_for(monkeypatch, "DejaVu Sans")
    figure = plot.layer_profile(planted_frame("形態 ก 🦀")).figure
    expected = (
        "no installed font has the characters ก 形 態 🦀, which are boxes in PDF and PNG figures; install Noto Sans "
        "Thai and Noto Emoji or Noto Sans Symbols 2 (Debian: fonts-noto-core), and Noto Sans CJK (Debian: "
        "fonts-noto-cjk)"
    )
    with pytest.warns(UserWarning, match="no installed font") as told:
        plot.save_figure(figure, tmp_path / f"a.{image_format}")
    assert [str(each.message) for each in told] == [expected]


def test_svg_keeps_the_text_of_every_script(tmp_path, monkeypatch):
    without_fonts_for(monkeypatch, "DejaVu Sans")
    figure = plot.layer_profile(planted_frame("形態論 🦀 ދިވެހި")).figure
    plot.save_figure(figure, tmp_path / "a.svg")
    assert "形態論" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_spaces_and_marks_without_a_shape_need_no_glyph():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot.layer_profile(planted_frame("a\u200db\u00a0c\ufe0f \u2003d")).figure
        assert cover_characters(figure) == set()
