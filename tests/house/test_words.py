"""What readers are given is in the English of the field, not in an idiom of the project's own."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from house.pages import strip_tags
from reporting.planted_runs import make_pair
from specialize import report
from specialize.cli.app import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Idiom:
    """Words that are not written.

    Attributes:
        pattern: finds them, in text whose white space is single spaces.
        found: a text that it finds.
        write: what is written instead.
    """

    pattern: str
    found: str
    write: str


IDIOMS = (
    Idiom(r"\btells\b", "Routing tells about the label", "routing is associated with the label"),
    Idiom(r"\bdo(es)? not tell\b", "Where the format does not tell", "where the format does not say"),
    Idiom(r"\btold\b(?! apart)", "Is told in one line; labels told right", "is reported in one line; accuracy"),
    Idiom(r"\b(go|goes|going|gone|went) with\b", "How far routing goes with a label", "how strongly it is associated"),
    Idiom(r"\b(go|goes|going|gone|went) on\b", "It goes on where it was; is gone on with", "resumes where it stopped"),
    Idiom(r"\bto be had\b", "They are not to be had", "they are unavailable"),
    Idiom(r"\bmistakes? (is|are|ends?)\b", "A mistake is one line", "user errors print one line"),
    Idiom(r"\bshadows?\b", "The shadow router", "the random router"),
    Idiom(r"\bfrozen random routers?\b", "A frozen random router", "a random router"),
    Idiom(r"\btakes? the nearest\b", "An outlier takes the nearest topic", "is assigned to the nearest topic"),
    Idiom(r"(?<!it )\bdraws (of|at least)\b|--draws|\d draws\b", "200 draws of the null", "200 permutations"),
    Idiom(r"\b(each|every) draw\b", "The largest value in each draw", "the largest value in each permutation"),
    Idiom(r"\bheld against\b", "It is not held against the null", "it is not compared with the null"),
    Idiom(r"\bin the dark\b", "In the dark and on paper", "a dark mode and a print style"),
    Idiom(r"\bon a phone\b", "On a phone too", "responsive"),
    Idiom(r"\brefused\b", "Is refused with a reason", "raises an error that explains why"),
    Idiom(r"\bnothing is lost\b", "Nothing is lost", "crash-safe and resumable"),
    Idiom(r"\bless (the|its|that of the) null\b", "The value less the null", "value − null mean"),
    Idiom(r"\bless U\b", "U by predicted less U by gold tags", "U(predicted tags) − U(gold tags)"),
    Idiom(r"\b(no )?more than chance\b", "No more than chance", "not distinguishable from chance"),
    Idiom(r"\bthe word itself\b", "Mostly the word itself", "mostly explained by token identity"),
    Idiom(r"\brouting decision removes\b", "One routing decision removes 9 %", "routing explains 9 % of the entropy"),
    Idiom(r"\bof one's own\b", "A loop of one's own", "a custom loop"),
)


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.found)
def test_an_idiom_is_found_and_what_is_written_instead_is_not(idiom):
    assert find_idioms(idiom.found)
    assert not find_idioms(idiom.write)


def documents() -> list[Path]:
    pages = [path for path in sorted((ROOT / "docs").rglob("*")) if path.suffix in (".md", ".html", ".yml")]
    studies = [*sorted((ROOT / "analyses").rglob("*.md")), ROOT / "analyses" / "walkthrough.ipynb"]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages, *studies]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_documentation(path):
    check(path.read_text(encoding="utf-8"))


def test_help_of_every_command(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    check_help(call)
    commands = typer.main.get_command(app).commands  # those that the call has added
    assert {"trace", "syntax", "topics", "report"} <= set(commands)
    for name in commands:
        check_help(call, name)


def check_help(call, *command: str) -> None:
    code, out, err = call(*command, "--help")
    assert (code, err) == (0, "")
    check(out)


@pytest.fixture(scope="module")
def planted_runs(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("page_format", ["html", "md"])
def test_report(page_format, planted_runs, tmp_path):
    page = report(planted_runs, tmp_path, page_format=page_format, formats=("png",))
    text = page.read_text(encoding="utf-8")
    check(strip_tags(text) if page_format == "html" else text)


def check(text: str) -> None:
    found = list(find_idioms(text))
    assert len(text) > 40
    assert not found, "\n".join(found)


def find_idioms(text: str) -> list[str]:
    """The idioms in a text, each with the words around it."""
    line = re.sub(r"[\s\u2500-\u257f]+", " ", text)  # lines of panels are no words
    return [
        f"…{line[max(0, match.start() - 40) : match.end() + 40]}…: write “{idiom.write}”"
        for idiom in IDIOMS
        for match in re.finditer(idiom.pattern, line, re.IGNORECASE)
    ]
