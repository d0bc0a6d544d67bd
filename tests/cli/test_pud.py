"""Languages that the demo's checkpoint was not trained on: syntax by gold tags, and topics."""

from pathlib import Path

import pytest

from specialize.annotators.store import load_annotation
from specialize.demo import checkpoint_path
from specialize.measure import read_results
from specialize.trace import open_trace

PUD = Path(__file__).parents[3] / "shared" / "data" / "pud"


@pytest.mark.slow
@pytest.mark.skipif(not PUD.is_dir(), reason="the PUD treebanks are not here")
@pytest.mark.parametrize("language", ["en", "de", "fr", "it"])
def test_syntax_and_topics_of_a_treebank(call, traced, language):
    pytest.importorskip("bertopic")
    treebank = PUD / f"{language}_pud-ud-test.conllu"
    run = traced(checkpoint_path("token"), treebank)
    shift = "note: words are split into"  # the checkpoint's tokenizer is of English
    code, _, err = call("syntax", run, "--gold", treebank, "--language", language, "--permutations", 9)
    assert code == 0, err
    assert (shift in err) == (language != "en")
    rows = read_results(run / "syntax", "gold_upos")
    assert (rows.loc[rows["metric"] == "uncertainty_coefficient", "ci_low"] > 0.05).all()
    code, _, err = call(
        "topics", run, "--language", language, "--embedding", "tfidf", "--clustering", "kmeans", "--num-topics", 8,
        "--permutations", 9,
    )  # fmt: skip
    assert code == 0, err
    assert (shift in err) == (language != "en")
    assert len(load_annotation(open_trace(run), "bertopic").labels) == 8
