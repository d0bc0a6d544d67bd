"""The language of documents that do not state it."""

import sys

import pandas as pd
import pytest

from specialize.annotators import language_detection
from specialize.annotators.language_detection import find_languages
from specialize.annotators.topic_settings import list_languages

pytest.importorskip("py3langid")

TEXTS = {
    "en": [
        "The old bridge was closed for three months because the river had damaged two of its pillars.",
        "Nobody knew who had left the window open, but the papers were all over the floor by morning.",
    ],
    "de": [
        "Die alte Brücke war drei Monate lang gesperrt, weil der Fluss zwei ihrer Pfeiler beschädigt hatte.",
        "Niemand wusste, wer das Fenster offen gelassen hatte, aber am Morgen lagen die Blätter auf dem Boden.",
    ],
    "fr": [
        "Le vieux pont est resté fermé pendant trois mois parce que la rivière avait abîmé deux de ses piliers.",
        "Personne ne savait qui avait laissé la fenêtre ouverte, mais les feuilles étaient par terre au matin.",
    ],
    "it": [
        "Il vecchio ponte è rimasto chiuso per tre mesi perché il fiume aveva danneggiato due dei suoi pilastri.",
        "Nessuno sapeva chi avesse lasciato aperta la finestra, ma al mattino i fogli erano sparsi sul pavimento.",
    ],
    "es": [
        "El viejo puente estuvo cerrado durante tres meses porque el río había dañado dos de sus pilares.",
        "Nadie sabía quién había dejado abierta la ventana, pero por la mañana las hojas estaban en el suelo.",
    ],
}
CODE = [
    "x = [1, 2, 3]\ny = {i: i ** 2 for i in x}",
    "#include <stdio.h>\nint a[3] = {0, 1, 2};",
    "a &= ~(1 << 7); b--;",
]


def table(texts, **columns):
    return pd.DataFrame({"id": [f"d{row}" for row in range(len(texts))], "text": texts, **columns})


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_corpus_is_detected(language):
    found = find_languages(table(TEXTS[language]))
    assert found.codes.tolist() == [language] * 2
    assert found.source == "detected"
    facts = found.describe()
    assert facts["documents_by_language"] == {language: 2}
    assert facts["detector"].startswith("py3langid ")
    assert f"language detected: {language} (2 documents)" in found.summarize()


def test_mixed_corpora_are_detected_by_document():
    texts = [text for pair in zip(*TEXTS.values(), strict=True) for text in pair]
    assert find_languages(table(texts)).codes.tolist() == [*TEXTS] * 2


def test_an_uncertain_document_is_in_a_language_of_the_others():
    found = find_languages(table([*TEXTS["de"], *TEXTS["en"], "der Hund", "the dog", ""]))
    assert found.codes[:6].tolist() == ["de", "de", "en", "en", "de", "en"]
    assert found.codes[6] in ("de", "en")  # it has no words
    assert found.uncertain == 3
    assert "3 documents are too short or too mixed" in found.summarize()


def test_short_documents_are_judged_together():
    found = find_languages(table(" ".join(TEXTS["fr"]).split()))
    assert set(found.codes) == {"fr"}
    assert found.uncertain > 0.9 * len(found.codes)


@pytest.mark.parametrize("texts", [CODE, ["", " \n"], ["ok"], ["1 2 3", "42"]])
def test_what_has_no_language_is_unknown_and_said(texts):
    found = find_languages(table(texts))
    assert found.source == "unknown"
    assert found.codes.isna().all()
    assert "the language of the texts is unknown and assumed to be English; give --language" in found.summarize()


def test_an_empty_corpus_has_no_language():
    assert find_languages(table([])).codes.empty


def test_what_is_given_and_what_a_column_says_win():
    german = table(TEXTS["de"], lang=["fr", "fr"])
    for language, source, code in ((None, "column", "fr"), ("en-GB", "given", "en")):
        found = find_languages(german, language)
        assert (found.source, found.codes.tolist()) == (source, [code] * 2)
        assert found.summarize() is None
    assert find_languages(german, found) is found


def test_documents_whose_column_is_empty_are_detected():
    found = find_languages(table([*TEXTS["de"], *TEXTS["it"]], lang=["de", None, None, ""]))
    assert found.codes.tolist() == ["de", "de", "it", "it"]
    assert found.source == "detected"


def test_without_the_detector_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language_detection._load_detector.cache_clear()
    found = find_languages(table(TEXTS["de"]))
    assert found.source == "unknown"
    assert "py3langid is not installed; pip install py3langid" in found.summarize()
    language_detection._load_detector.cache_clear()


def test_stop_words_follow_but_not_those_of_a_rare_language():
    assert list_languages(table(TEXTS["it"]), None) == ["it"]
    assert list_languages(table(TEXTS["en"] * 20 + TEXTS["de"][:1]), None) == ["en"]
    assert list_languages(table(TEXTS["en"] * 20 + TEXTS["de"][:1], lang=["en"] * 40 + ["de"]), None) == ["de", "en"]
    assert list_languages(table(CODE), None) == ["en"]
