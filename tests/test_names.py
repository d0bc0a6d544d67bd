import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialize.names import name_label_set, name_quantity, name_topic_quality, name_verdict, shorten
from specialize.text import clean_text


@given(st.text())
def test_cleaned_text_is_valid_xml_on_one_line(text):
    cleaned = clean_text(text)
    assert cleaned == clean_text(cleaned)
    assert all(ord(character) >= 32 and not 0x7F <= ord(character) < 0xA0 for character in cleaned)
    assert not any(0xD800 <= ord(character) < 0xE000 for character in cleaned)
    assert not set(cleaned) & set("\ufeff\ufffe\uffff\u202e\u2066\u200f\u2028")


def test_text_in_any_script_survives():
    for text in ("naïve café", "形態論", "שלום", "देवनागरी", "👩‍💻", "$5 & <b>"):
        assert clean_text(text) == text


def test_shortened_text_keeps_its_beginning():
    assert shorten("river, lake, water", width=12) == "river, lake…"
    assert shorten("river", width=5) == "river"
    assert len(shorten("x" * 100, width=30)) == 30


def test_known_labels_are_distinguished_from_fitted_topics():
    assert name_label_set("bertopic").long == "fitted topic"
    assert name_label_set("topic").long == "known label “topic”"


def test_labels_of_the_next_token_are_called_so():
    names = name_label_set("next_upos")
    assert names.long == "part of speech of the next token"
    assert (names.short, names.axis) == ("next POS", "part of speech (UPOS), of the next token")
    assert name_label_set("next_bertopic_window").noun == "the fitted topic of the window of the next token"
    assert name_label_set("next_genre").long == "known label “genre” of the next token"
    assert name_label_set("next_").long == "known label “next_”"


@pytest.mark.parametrize(
    "metric", ["effect", "exposure", "per_use_effect", "indirect_effect", "effect_selectivity", "removal_effect"]
)
def test_effects_of_experts_that_are_switched_off_have_a_title_and_a_unit(metric):
    name = name_quantity(metric, "upos")
    assert "\n" in name.title
    assert ("bits" if metric != "exposure" else "share of the label’s tokens") in name.axis


def test_every_quantity_of_the_schema_has_a_title():
    for metric in ("uncertainty_coefficient", "mutual_information", "specific_information", "lift", "load"):
        assert name_quantity(metric, "upos").title != metric
    assert name_quantity("novel", None).title == "novel"


def test_a_verdict_is_compared_with_controls_only_where_it_is_above_chance():
    controls = {"against_random": "below", "explained_by_token": "yes"}
    assert name_verdict("above chance", **controls) == (
        "above chance, but below random routers; mostly explained by token identity"
    )
    for outcome in ("too little data", "not tested", "at chance", "unclear"):
        assert "random" not in name_verdict(outcome, **controls)


def test_qualities_of_topics_name_the_column_they_are_compared_with():
    assert name_topic_quality("nmi_genre_without_outliers") == (
        "normalised mutual information with “genre”, without outliers"
    )
    assert name_topic_quality("ari_over_seeds").startswith("adjusted Rand index")
    assert name_topic_quality("novel") == "novel"


def test_label_sets_within_a_sentence():
    assert name_label_set("upos").noun == "part of speech"
    assert name_label_set("bertopic").noun == "the fitted topic"
    assert name_label_set("genre").noun == "the known label “genre”"
