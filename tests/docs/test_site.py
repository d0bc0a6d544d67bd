"""The site builds strictly, loads nothing from elsewhere, and leaves no public name out."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import specialize
from docs.snippets import ROOT
from specialize import annotators, measure, plot

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
BUILD = """
import socket
import sys

def no_network(*arguments, **keywords):
    raise OSError("the documentation is built without network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
from mkdocs.__main__ import cli

cli(sys.argv[1:])
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Resources(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text: list[str] = []
        self._hidden = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in LOADED and given.get(LOADED[tag]) and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)


def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        outside = [each for each in _Resources(page).loaded if re.match(r"(?:[a-z]+:)?//", each)]
        assert not outside, page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)[\"']?\s*(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_documented(site):
    sources = [page.read_text(encoding="utf-8") for page in (site / "python").glob("*.html")]
    anchors = {name for source in sources for name in re.findall(r'id="(specialize[\w.]*)"', source)}
    pieces = {"annotators", "capture", "measure", "plot"}
    wanted = {f"specialize.{name}" for name in specialize.__all__ if name not in {*pieces, "__version__"}}
    for package in (annotators, measure, plot):
        wanted |= {f"{package.__name__}.{name}" for name in package.__all__}
    wanted -= {"specialize.annotators.Annotation"}  # specialize.Annotation
    assert not wanted - anchors


def test_the_gallery_shows_every_figure_function(site):
    page = (site / "gallery.html").read_text(encoding="utf-8")
    drawing = [name for name in plot.__all__ if "ax" in getattr(getattr(plot, name), "__annotations__", {})]
    assert len(drawing) > 15
    assert [name for name in drawing if f"plot.{name}" not in page] == []
    shown = re.findall(r'<img[^>]* src="((?:figures|tutorial)/[\w-]+\.png)"', page)
    assert len(shown) >= 16
    assert [name for name in shown if not (site / name).is_file()] == []


def test_every_command_and_option_is_in_the_reference(site):
    import typer

    from specialize.cli.app import app, load_commands

    load_commands()
    text = " ".join(_Resources(site / "command-line.html").text)
    commands = typer.main.get_command(app).commands
    assert len(commands) >= 18
    for name, command in commands.items():
        assert f"specialize {name}" in text
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in text or parameter.param_type_name == "argument", (name, option)


def test_the_tutorial_shows_what_its_cells_show(generators, site):
    import notebook

    again = "run `.venv/bin/python docs/generate/notebook.py`"
    assert notebook.outdated() == [], again
    page = (site / "tutorial.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="(tutorial/[\w-]+\.png)"', page)
    assert len(shown) >= 3
    assert all((site / name).is_file() for name in shown)
    assert not list(site.rglob("outputs.json"))
    assert page.count("<table>") >= 5


def test_every_metric_is_explained(here):
    """Each metric that a stage writes is in the table of what numbers mean."""
    page = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE)
    known = {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    tags = specialize.syntax("runs/olmoe", tags=["case"], permutations=5, skip_positions=1)
    frames = [
        tags,
        specialize.topics("runs/olmoe", fit=False, permutations=5),
        specialize.routing("runs/olmoe", permutations=5),
        specialize.vocabulary("runs/olmoe", min_count=3, permutations=5),
        specialize.probe("runs/olmoe", label_sets=["case"], folds=2, mlp=False, permutations=5),
        specialize.compare("runs/olmoe", "runs/other", margin=0.1),
    ]
    written = {metric for frame in frames for metric in frame["metric"].unique()}
    written = {re.sub(r"^((?:mean )?(?:difference|equivalence) of) .*", r"\1 …", metric) for metric in written}
    assert len(written) > 25
    assert not written - known
    assert set(measure.RESULT_COLUMNS) <= set(re.findall(r"`(\w+)`", page))


def test_english_of_the_site(site):
    """The word list of the house holds for what is generated, too."""
    from house.test_words import find_idioms

    found = {
        str(page.relative_to(site)): idioms
        for page in sorted(site.rglob("*.html"))
        if (idioms := find_idioms(" ".join(_Resources(page).text)))
    }
    assert not found, "\n".join(f"{page}: {idiom}" for page, idioms in found.items() for idiom in idioms)
