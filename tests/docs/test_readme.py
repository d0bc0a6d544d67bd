"""README says what it has to in about 600 words, and its numbers are those of the package."""

import re
from pathlib import Path

import pytest
import yaml

from docs.snippets import ROOT
from specialize.trace import RouterSpec
from specialize.tracing.plan import bytes_per_token

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_about_600_words():
    text = re.sub(r"<!-- families: begin -->.*?<!-- families: end -->", "", README, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    assert 500 <= len(re.findall(r"\w[\w'’.,×–-]*", text)) <= 700


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "mkdocs.yml"])
def test_no_path_of_a_machine(path):
    files = [ROOT / path] if (ROOT / path).is_file() else sorted((ROOT / path).rglob("*"))
    for file in files:
        if file.suffix in (".md", ".py", ".yml", ".css"):
            found = re.findall(r"(?<![\w.])(?:/home|/work|/tmp|/root|/Users)\b|\.\./shared", file.read_text("utf-8"))
            assert not found, file


def test_bytes_of_olmoe():
    router = RouterSpec(layer=0, name="", num_experts=64, top_k=8)
    assert bytes_per_token([router], [])["experts"] == 6.0
    assert "6.0 bytes per token and layer" in README
    ids, whole = (sum(bytes_per_token([router] * 16, contents).values()) for contents in ([], ["weights"]))
    assert round(ids, -1) == 100
    assert "100 bytes per token" in README
    assert round(whole / 5) * 5 == 325
    assert f"{whole / 1000:.2f} GB" == "0.32 GB"
    text = " ".join(README.split())
    assert "about 100 bytes per token, or 325 with gate weights: 0.32 GB for a million tokens" in text
    big = (ROOT / "docs" / "how-to" / "big-models.md").read_text(encoding="utf-8")
    mixtral = RouterSpec(layer=0, name="", num_experts=8, top_k=2)
    for spec, layers in ((router, 16), (mixtral, 32)):
        sizes = [sum(bytes_per_token([spec] * layers, contents).values()) for contents in ([], ["weights"])]
        assert "| " + " | ".join(f"{round(size + 1e-9)} bytes per token" for size in sizes) + " |" in big


def test_findings_are_those_of_the_figure():
    import pandas as pd

    rows = pd.read_csv(ROOT / "figures" / "gpt-oss-turns.csv")
    rows = rows[rows["variant"] == "as reported"]
    curves = (100 * rows[rows["about"] == about].set_index("layer")["value"] for about in ("syntax", "subject"))
    syntax, subject = curves
    ends, middle = [0, 1, 18], [10, 11, 12, 13]
    ranges = [(each.min(), each.max()) for each in (syntax[[0, 1]], syntax[middle], subject[ends], subject[middle])]
    first, low, weak, strong = (f"{round(least)} to {round(most)} %" for least, most in ranges)
    turns = pd.read_csv(ROOT / "analyses" / "real_models" / "results" / "gpt_oss_turns.csv").set_index("about")
    value, least, most = turns.loc["correlation over layers", ["value", "ci_low", "ci_high"]]
    text = " ".join(README.split())
    assert f"routing explains {first} of the entropy of part of speech in the first two layers" in text
    assert f"{low} at layers 10 to 13 and {round(syntax[18])} % at layer 18" in text
    assert f"it explains {weak} where syntax is strong and {strong} where it is weak" in text
    said = f"correlated by {value:.2f} (95 % interval {least:.2f} to {most:.2f})".replace("-", "−")
    assert said in text


def test_citation():
    citation = yaml.safe_load(Path(ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    [paper] = citation["references"]
    assert citation["title"] in README
    assert f"version = {{{citation['version']}}}" in README
    assert paper["url"].rpartition("/")[2] in README
    assert paper["title"] in README.replace("{MoE}", "MoE")
    assert " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]) in README
