"""README says what it has to in about 600 words, and its numbers are those of the package."""

import re
from pathlib import Path

import pytest
import yaml

from docs.snippets import ROOT
from specialize.capture.plan import TOKEN_BYTES, _bytes_on_disk
from specialize.trace import RouterSpec

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
    ids, weights = (_bytes_on_disk(router, contents) for contents in ([], ["weights"]))
    assert ids == 6.0
    assert "6.0 bytes per token and layer" in README
    assert round(TOKEN_BYTES + 16 * ids, -1) == 100
    assert "100 bytes per token" in README
    whole = TOKEN_BYTES + 16 * weights
    assert round(whole / 5) * 5 == 325
    assert f"{whole / 1000:.2f} GB" == "0.32 GB"
    text = " ".join(README.split())
    assert "about 100 bytes per token, or 325 with gate weights: 0.32 GB for a million tokens" in text
    big = (ROOT / "docs" / "how-to" / "big-models.md").read_text(encoding="utf-8")
    mixtral = RouterSpec(layer=0, name="", num_experts=8, top_k=2)
    for spec, layers in ((router, 16), (mixtral, 32)):
        sizes = [TOKEN_BYTES + layers * _bytes_on_disk(spec, contents) for contents in ([], ["weights"])]
        assert "| " + " | ".join(f"{round(size + 1e-9)} bytes per token" for size in sizes) + " |" in big


def test_findings_are_those_of_the_figure():
    import pandas as pd

    rows = pd.read_csv(ROOT / "figures" / "plane-gold-topic.csv")
    learned = rows[(rows["routing"] == "learned") & (rows["metric"] == "uncertainty_coefficient")]
    among = rows[rows["metric"] == "uncertainty_coefficient_among_random_routers"]
    found = []
    for label_set, run in (("upos", "token"), ("gold_topic", "sequence")):
        own = learned[(learned["label_set"] == label_set) & (learned["run"] == run)]
        best = own.loc[own["value"].idxmax()]
        [drawn] = among[
            (among["label_set"] == label_set) & (among["run"] == run) & (among["layer"] == best["layer"])
        ].to_dict("records")
        found += [best["value"], drawn["null_low"], drawn["null_high"]]
    assert [f"{value:.0%}" for value in found] == ["23%", "10%", "19%", "13%", "2%", "10%"]
    text = " ".join(README.split())
    assert "up to 23 % of the entropy of part of speech" in text
    assert (
        "up to 13 % of the entropy of the topic; five random routers on the same hidden states reach 10 to 19 % "
        in text
    )
    assert "and 2 to 10 %, and" in text


def test_citation():
    citation = yaml.safe_load(Path(ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    [paper] = citation["references"]
    assert citation["title"] in README
    assert f"version = {{{citation['version']}}}" in README
    assert paper["url"].rpartition("/")[2] in README
    assert paper["title"] in README.replace("{MoE}", "MoE")
    assert " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]) in README
