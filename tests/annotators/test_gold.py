import numpy as np
import pytest

from specialize.annotation import NO_LABEL
from specialize.annotators.gold import annotate_gold, language_of_treebank
from specialize.annotators.tagging import UPOS_TAGS
from specialize.corpus.conllu import read_treebank
from specialize.errors import AnnotationError

TREEBANK = """# newdoc id = a
# text = Zum Hund, ja.
1-2\tZum\t_\t_\t_\t_\t_\t_\t_\t_
1\tZu\tzu\tADP\tAPPR\t_\t3\tcase\t_\t_
2\tdem\tder\tDET\tART\tCase=Dat\t3\tdet\t_\t_
3\tHund\tHund\tNOUN\tNN\tCase=Dat|Number=Sing\t0\troot\t_\tSpaceAfter=No
4\t,\t,\tPUNCT\t$,\t_\t3\tpunct\t_\t_
5\tja\tja\tINTJ\tITJ\t_\t3\tdiscourse\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t$.\t_\t3\tpunct\t_\tSpaceAfter=No

# newpar
# text = a comment that is not this sentence
1\tNa\tna\tINTJ\t_\t_\t0\troot\t_\t_
1.1\tnull\t_\t_\t_\t_\t_\t_\t_\t_
2\tgut\tgut\tNOT_A_TAG\t_\t_\t1\tdep\t_\t_

# newdoc id = b
1\tEnde\tEnde\tNOUN\tNN\t_\t0\troot\t_\t_
"""
TEXTS = ["Zum Hund, ja.\n\nNa gut", "Ende"]


@pytest.fixture
def treebank(tmp_path):
    path = tmp_path / "de_own-ud-test.conllu"
    path.write_text(TREEBANK, encoding="utf-8")
    return path


def read(trace, annotation):
    texts = trace.documents()["text"]
    return [
        (texts[row.document][row.char_start : row.char_end].strip(), annotation.labels[code])
        for row, code in zip(trace.tokens().itertuples(), annotation.codes, strict=True)
        if code != NO_LABEL
    ]


def test_words_lie_where_the_text_has_them(treebank):
    first, second = read_treebank(treebank, "own")
    assert [first.text, second.text] == TEXTS
    assert [first.text[start:end] for start, end in first.spans] == ["Zum", "Hund", ",", "ja", ".", "Na", "gut"]
    assert [(word.upos, word.xpos) for word in first.words[:2]] == [("ADP", "APPR"), ("NOUN", "NN")]
    assert (first.id, first.where, second.where) == ("a", "own, line 1", "own, line 17")


def test_gold_tags_reach_the_first_piece_of_each_word(make_trace, treebank):
    trace = make_trace([*TEXTS, "not in the treebank"])
    upos, dep, morph = annotate_gold(trace, treebank, tags=["upos", "dep", "morph"])
    assert (upos.name, upos.labels, upos.level) == ("gold_upos", UPOS_TAGS, "token")
    assert [tag for _, tag in read(trace, upos)] == ["ADP", "NOUN", "PUNCT", "INTJ", "PUNCT", "INTJ", "NOUN"]
    assert dep.labels == ("case", "dep", "discourse", "punct", "root")
    assert [tag for _, tag in read(trace, morph)][:3] == ["none", "Case=Dat|Number=Sing", "none"]
    assert upos.provenance["documents_without_gold"] == 1
    assert upos.provenance["tokens_per_word"] > 1
    np.testing.assert_array_equal(upos.codes[trace.tokens()["document"] == 2], NO_LABEL)


def test_a_folder_of_treebanks_serves_too(make_trace, treebank):
    trace = make_trace(TEXTS)
    (whole,) = annotate_gold(trace, treebank)
    (folder,) = annotate_gold(trace, treebank.parent)
    np.testing.assert_array_equal(whole.codes, folder.codes)


def test_errors_name_the_problem(make_trace, treebank, tmp_path):
    with pytest.raises(AnnotationError, match=r"expected texts of this trace, found none; trace the treebank itself"):
        annotate_gold(make_trace(["another text"]), treebank)
    with pytest.raises(AnnotationError, match="expected a CoNLL-U file or a folder of"):
        annotate_gold(make_trace(TEXTS), tmp_path / "nowhere.conllu")
    with pytest.raises(AnnotationError, match="expected gold tags among upos, tag, dep, morph, got 'ent'"):
        annotate_gold(make_trace(TEXTS), treebank, tags=["ent"])


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("x/de_pud-ud-test.conllu", "de"),
        ("my_corpus.conllu", None),
        ("long_x-ud-dev.conllu", None),
        ("a-ud-b.conllu", None),
    ],
)
def test_the_language_is_in_the_file_name(name, language):
    assert language_of_treebank(name) == language
