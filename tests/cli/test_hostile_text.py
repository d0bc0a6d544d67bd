"""What a corpus, a model or a path says is shown as it is: terminal, browser and spreadsheet obey none of it."""

import csv
import io
import json
import re
import unicodedata
from importlib.resources import files
from xml.etree import ElementTree

import pytest
from rich.console import Console

from browser import ask_page, needs_chromium
from planted.manifests import edit_manifest
from reporting.own_text import strip_libraries
from specialize.cli import console
from specialize.trace import open_trace

DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
OBEYED = f"\x1b]0;pwned\x07\x1b[31m\x9b1m\x7f\r\u2028{DIRECTIONS}"
LITERAL = "[red]x[bold] [link=http:evil]y =HYPERLINK(1) :smile: \"q\" 'q' <script>"
NAME = f"{LITERAL}{OBEYED}"  # also that of a file
LABEL = f"{NAME}[/red]</script>\x00\x08\n"
SENTENCES = ["The river carries cold water to the sea .", "She plays the violin in a famous orchestra ."]


def assert_harmless(*printed):
    for text in printed:
        obeyed = [c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in DIRECTIONS)]
        assert not obeyed, text


@pytest.fixture
def say_all(call):
    """Run commands that should go well; return what each printed, after a look at every character."""

    def run(*commands):
        printed = []
        for command in commands:
            code, out, err = call(*command)
            assert code == 0, err
            assert_harmless(out, err)
            printed.append((out, err))
        return printed

    return run


@pytest.fixture
def corpus(tmp_path):
    """A file with a name, ids, texts, a column and labels that mean harm."""
    path = tmp_path / f"{NAME}.jsonl"
    rows = [
        {
            "id": f"{i} {LABEL}",
            "text": f"{SENTENCES[i % 2]} {LABEL}",
            "theme": f"{LABEL}{i % 2}",
            NAME: f"{LABEL}{i % 2}",
            "sum": f"=1+{i % 2}",
        }
        for i in range(30)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / f"labels {NAME}.jsonl"
    rows = [{"id": f"{i} {LABEL}", "mine": f"{LABEL}{i % 3}"} for i in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path, say_all, checkpoint, corpus):
    """A trace of that corpus in a folder with such a name, by routers with such names."""
    folder = tmp_path / NAME
    [(out, err)] = say_all(("trace", checkpoint, corpus, "-o", folder, "--control", "random-router"))
    assert LITERAL in out.splitlines()[-1]
    assert LITERAL in err
    edit_routers(folder, lambda router: router | {"name": f"{router['layer']}{LABEL}"})
    return folder


def edit_routers(folder, edit):
    edit_manifest(folder, lambda manifest: manifest | {"routers": [edit(router) for router in manifest["routers"]]})


def test_every_command_that_prints(tmp_path, say_all, call, run, labels):
    say_all(
        ("topics", run, "--labels-only", "--permutations", 9),
        ("annotate", run, "--from", labels, "--permutations", 9),
        ("syntax", run, "--tags", "case", "--permutations", 9),
        ("routing", run, "--permutations", 2),
        ("vocabulary", run, "--permutations", 2, "--min-count", 4),
        ("compare", run, "--against-random"),
        ("probe", run, "--permutations", 2, "--no-mlp"),
        ("affinity", run),
        ("validate", run),
        ("export", run),
        ("report", run, "-o", tmp_path / f"report {NAME}", "--figure-format", "png"),
        ("report", run, "-o", tmp_path / f"report {NAME}", "--format", "md", "--figure-format", "png"),
    )
    [(out, _)] = say_all(
        ("figures", run, "-o", tmp_path / f"figures {NAME}", "--only", "load*", "--format", "png"),
    )
    assert "[red]x" in out.splitlines()[-1]
    expect_mistake(call("figures", run, "-o", tmp_path / "figures", "--only", LABEL))


def test_routers_that_only_their_names_tell_apart(say_all, run):
    edit_routers(run, lambda router: router | {"layer": 0})
    for out, _ in say_all(
        ("routing", run, "--permutations", 2),
        ("vocabulary", run, "--permutations", 2, "--min-count", 4),
        ("compare", run, "--against-random"),
        ("affinity", run),
    ):
        assert "[red]x" in out


def test_what_a_program_reads_says_the_same(say_all, run):
    for command in (("validate", run), ("affinity", run), ("routing", run, "--permutations", 2), ("export", run)):
        [(out, _)] = say_all((*command, "--json"))
        read = json.loads(out)
    assert read["folder"] == str(run / "parquet")


@pytest.mark.parametrize("command", ["validate", "routing", "export", "report"])
def test_a_manifest_that_names_files(call, run, tmp_path, command):
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["shards"][0]["files"] = {LABEL: "0" * 64}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    place = ("-o", tmp_path / "new") if command in ("export", "report") else ()
    code, out, err = call(command, run, *place)
    assert (code, out) == (2, "")
    assert_harmless(err)
    assert "manifest.json: " in err


def expect_mistake(result):
    """One line that shows what was got."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert_harmless(err)
    last = err.splitlines()[-1]
    assert last.startswith("specialize: ")
    assert "[red]x[bold]" in last


def test_mistakes(tmp_path, call, run, corpus, checkpoint):
    odd = tmp_path / f"odd {NAME}.jsonl"
    odd.write_text(json.dumps({"id": LABEL, "mine": "x"}), encoding="utf-8")
    dump = tmp_path / f"{NAME}.npy"
    dump.write_bytes(b"\x1b]0;pwned\x07")
    for command in (
        ("annotate", run, "--from", odd),
        ("annotate", run, "--from", tmp_path / NAME),
        ("topics", run, "--label", LABEL),
        ("probe", run, "--label-set", LABEL),
        ("trace", checkpoint, corpus, "-o", tmp_path / "other", "--text-column", LABEL),
        ("trace", checkpoint, tmp_path / f"no {NAME}", "-o", tmp_path / "other"),
        ("inspect", tmp_path / f"no {NAME}"),
        ("import", "vllm", dump, "-o", tmp_path / "other"),
        ("import", LABEL, dump, "-o", tmp_path / "other"),
        ("train", tmp_path / f"no {NAME}", "-o", tmp_path / "other"),
        ("compare", run, tmp_path / f"no {NAME}"),
        ("syntax", run, "--tags", NAME),
        ("export", run, "-o", run),
    ):
        expect_mistake(call(*command))


def test_progress_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system=None, width=160, legacy_windows=False)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress(LABEL, "layers") as update:
        update(1, 2, rate="[red]1 layers/s[/red]")
    assert "[red]x[bold]" in screen.getvalue()
    assert "[red]1 layers/s[/red]" in screen.getvalue()
    assert "pwned\x07" not in screen.getvalue()
    assert not set(DIRECTIONS) & set(screen.getvalue())


def test_spaces_in_a_path_stay_what_they_are(call, run):
    place = run.parent / "a  b\u3000c"
    run.rename(place)
    code, out, _ = call("export", place)
    assert (code, out.splitlines()[-1]) == (0, str(place / "parquet"))
    assert open_trace(place).num_documents == 30


@pytest.fixture
def page(tmp_path, say_all, run):
    """The report of everything that needs no tagger and no topic model."""
    say_all(
        ("topics", run, "--labels-only", "--permutations", 9),
        ("syntax", run, "--tags", "case", "--permutations", 9),
        ("routing", run, "--permutations", 2),
        ("vocabulary", run, "--permutations", 2, "--min-count", 4),
        ("compare", run, "--against-random"),
        ("report", run, "-o", tmp_path / "report", "--figure-format", "png"),
        ("figures", run, "-o", tmp_path / "figures", "--format", "svg"),
    )
    return tmp_path / "report" / "report.html"


def test_no_file_holds_what_a_reader_would_obey(tmp_path, page, run):
    own = [
        files("specialize.reporting").joinpath("templates", name).read_text()
        for name in ("packed.js", "explorer.js", "experts.js")
    ]
    html = page.read_text(encoding="utf-8")
    assert re.findall("<script>(.*?)</script>", strip_libraries(html), flags=re.DOTALL) == own
    assert html.count("<script") == len(own) + 3  # and a library, and two sets of data, which are no scripts
    for source in (
        strip_libraries(html),
        *(path.read_text(encoding="utf-8") for path in tmp_path.glob("figures/*.svg")),
    ):
        assert not {
            c for c in source if c != "\n" and (unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in DIRECTIONS)
        }
    drawn = ""
    for path in (tmp_path / "figures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        drawn += "".join(root.itertext())
        for element in root.iter():
            assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a"), path
            assert not [name for name in element.attrib if name.rpartition("}")[2].startswith("on")], path
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:image/png;base64,")) for link in links), path
    assert "[red]x[bold] [link=http" in drawn
    tables = [path for folder in (run, tmp_path / "report", tmp_path / "figures") for path in folder.rglob("*.csv")]
    assert len(tables) > 10
    assert any("'=1+0" in path.read_text(encoding="utf-8") for path in tables)
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert not re.match(r"\s*[=+@]|\s*-(?![\d.]|inf)", cell), (path, cell)
                    assert_harmless(cell)


@pytest.mark.browser
@needs_chromium
def test_a_browser_shows_the_text_and_runs_none_of_it(tmp_path, page):
    script = """
    for (const [address, shown] of [["#experts", ".tabulator-cell"], ["#layer-0", ".passage"]]) {
      view.location.hash = address;
      for (let tries = 0; tries < 100 && !page.querySelector(shown); tries++) {
        await new Promise((done) => setTimeout(done, 20));
      }
    }
    told.cells = page.querySelectorAll("#experts .tabulator-cell").length;
    told.passages = page.querySelectorAll("#explorer .passage").length;
    told.alerts = view.pwned;
    told.text = page.body.textContent;
    told.elements = page.querySelectorAll("main b[onclick], img, iframe, [onerror], [onload]").length;
    """
    told, console_lines = ask_page(page.as_uri(), tmp_path, script)
    assert console_lines == []
    assert "alerts" not in told
    assert told["elements"] == 0
    assert told["cells"]
    assert told["passages"]
    assert "[red]x[bold] [link=http:evil]y =HYPERLINK(1) :smile: \"q\" 'q' <script>" in told["text"]
