"""Languages of documents and their stop words."""

import re
from collections.abc import Iterable

import pandas as pd

from specialize.corpus.columns import LANGUAGE_COLUMNS
from specialize.errors import AnnotationError

_WORD = re.compile(r"(?u)\b\w\w+\b")  # what scikit-learn's vectorizers count


def read_languages(documents: pd.DataFrame, language: str | None) -> pd.Series:
    """Return the language code of each document, None where it is unknown.

    Args:
        documents: one row per document; the language is read from the column lang or language.
        language: language of all documents, such as "de" or "de-AT"; takes precedence over the column.

    Raises:
        AnnotationError: a value is not a language code.
    """
    if language is not None:
        return pd.Series([_shorten(language)] * len(documents), dtype=object)
    column = next((name for name in LANGUAGE_COLUMNS if name in documents), None)
    if column is None:
        return pd.Series([None] * len(documents), dtype=object)
    return pd.Series([_shorten(value) for value in documents[column]], dtype=object)


def check_language(language: str | None) -> None:
    """Raise AnnotationError unless the language is None or a code such as "de" or "de-AT"."""
    _shorten(language)


def _shorten(language: object) -> str | None:
    """Return "de" for "de-AT", "DE" and "de_CH"; None for a missing value."""
    if not isinstance(language, str) or not language:
        return None
    code = language.replace("_", "-").partition("-")[0].lower()
    if not code.isalpha() or len(code) > 3:
        raise AnnotationError(
            f"expected a language code such as en or de, got {language!r}; or choose a pipeline by name"
        )
    return code


def stop_words(languages: Iterable[str]) -> list[str]:
    """Return the stop words of languages, given by code: scikit-learn's for English, else spaCy's if it has any."""
    words: set[str] = set()
    for code in languages:
        if code == "en":
            from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

            words |= ENGLISH_STOP_WORDS
            continue
        try:
            from spacy.util import get_lang_class

            words |= get_lang_class(code).Defaults.stop_words
        except ImportError:  # spaCy is not installed or does not have the language
            continue
    return sorted({word for entry in words for word in _WORD.findall(entry.lower())})
