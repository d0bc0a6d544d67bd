"""`specialize syntax` with gold tags, several tags, and languages."""

import json

import pytest

from specialize.annotators.store import list_annotations, load_annotation
from specialize.measure import read_results
from specialize.trace import open_trace

spacy = pytest.importorskip("spacy")
LEXICON = {"The": "DET", "river": "NOUN", "carries": "VERB", "cold": "ADJ", "water": "NOUN", ".": "PUNCT"}
WORDS = ["The", "river", "carries", "cold", "water", "."]


@pytest.fixture(scope="module")
def treebank(tmp_path_factory):
    """Thirty documents, in which every fifth has a gold tag that the tagger will not give."""
    path = tmp_path_factory.mktemp("treebank") / "en_own-ud-test.conllu"
    lines = []
    for document in range(30):
        lines.append(f"# newdoc id = d{document}")
        for place, word in enumerate(WORDS, start=1):
            tag = "PROPN" if word == "river" and document % 5 == 0 else LEXICON[word]
            lines.append(f"{place}\t{word}\t{word}\t{tag}\t{tag.lower()}\t_\t0\troot\t_\t_")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, tag in LEXICON.items():
        ruler.add([[{"ORTH": word}]], {"POS": tag, "TAG": tag.lower(), "DEP": "nsubj"})
    folder = tmp_path_factory.mktemp("spacy") / "pipeline"
    nlp.to_disk(folder)
    return folder


@pytest.fixture
def run(traced, checkpoint, treebank):
    return traced(checkpoint, treebank)


def test_gold_tags_beside_the_taggers(call, run, treebank, pipeline):
    code, out, err = call(
        "syntax",
        run,
        "--gold",
        treebank,
        "--pipeline",
        pipeline,
        "--tags",
        "upos,dep,case",
        "--permutations",
        9,
        "--json",
    )
    assert code == 0, err
    assert {row["label_set"] for row in json.loads(out)} == {"upos", "gold_upos", "dep", "gold_dep", "case"}
    frame = read_results(run / "syntax" / "tagger", "upos")
    accuracy = frame[frame["metric"] == "tagger_accuracy"].iloc[0]
    assert accuracy["value"] == pytest.approx(1 - 6 / 180)
    recall = frame[frame["metric"] == "tagger_recall"].set_index("label")["value"]
    assert (recall["PROPN"], recall["NOUN"]) == (0, 1)
    assert "upos: the tagger is right for 96.7%" in err
    assert "dep: not compared with the gold tags, which are of another label set" in err
    assert not (run / "syntax" / "tagger" / "dep.csv").exists()
    # nothing is tagged twice; another pipeline, or other pieces, are
    _, _, err = call("syntax", run, "--pipeline", pipeline, "--permutations", 9)
    assert "upos: tagged before" in err
    _, _, err = call("syntax", run, "--pipeline", pipeline, "--pieces", "last", "--permutations", 9)
    assert "tagged before" not in err


def test_a_language_without_a_pipeline_has_its_gold_tags(call, run, treebank):
    other = treebank.with_name("xx_own-ud-test.conllu")
    other.write_bytes(treebank.read_bytes())
    code, _, err = call("syntax", run, "--gold", other, "--permutations", 9)
    assert code == 0, err
    assert "gold tags alone: expected a spaCy pipeline for 'xx', none is installed" in err
    assert list_annotations(open_trace(run)) == ("gold_upos",)
    code, out, err = call("syntax", run, "--language", "xx")
    assert (code, out) == (2, "")
    assert "expected a spaCy pipeline for 'xx', none is installed; install one (spacy.io/models/xx)" in err


def test_text_whose_language_nobody_gave_is_not_tagged_as_english(call, traced, checkpoint, tmp_path, pipeline):
    pytest.importorskip("py3langid")
    rows = [
        {"id": f"d{row}", "text": f"Am {row}. Mai stand das Wasser so hoch, dass niemand mehr über die Brücke kam."}
        for row in range(30)
    ]
    corpus = tmp_path / "german.jsonl"
    corpus.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    run = traced(checkpoint, corpus)
    code, out, err = call("syntax", run, "--permutations", 9)
    assert (code, out) == (2, "")
    assert "language detected: de (30 documents)" in err
    assert "the texts were detected as 'de': expected a spaCy pipeline for 'de', none is installed" in err
    assert not (run / "syntax").exists()
    code, _, err = call("syntax", run, "--permutations", 9, "--pipeline", pipeline)
    assert code == 0, err
    assert "detected" not in err


def test_classes_alone_need_no_tagger(call, run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    code, _, err = call("syntax", run, "--tags", "class,position,word_part", "--permutations", 9)
    assert code == 0, err
    assert "spaCy" not in err
    assert set(load_annotation(open_trace(run), "class").labels) >= {"letters", "punctuation"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tags", "upso"], "got 'upso'. Did you mean 'upos'?"),
        (["--gold", "nowhere.conllu"], "nowhere.conllu: expected a CoNLL-U file"),
        (["--language", "English"], "expected a language code such as en or de, got 'English'"),
    ],
)
def test_mistakes_are_one_line(call, run, options, problem):
    code, out, err = call("syntax", run, *options)
    assert (code, out) == (2, "")
    assert problem in err.splitlines()[-1]
    assert not (run / "syntax").exists()
