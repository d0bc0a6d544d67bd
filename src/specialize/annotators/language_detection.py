"""The language of each document: as given, as its column says, or detected from its text without a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

import pandas as pd

from specialize.annotators.language import read_languages

Source = Literal["given", "column", "detected", "unknown"]

DETECTOR = "py3langid"
_CONFIDENT = 0.9  # above it, 2 of 7,600 documents in en, fr and es were taken for another language
_CHARACTERS = 500  # of a document
_FEW = 0.1  # of the documents: too few to stand for the others
_POOLED = 200  # documents
_NO_LANGUAGE = "zxx"  # numbers, markup and identifiers
_SPACY_CODES = {"no": "nb"}
_RARE = 0.05


@dataclass(frozen=True)
class Languages:
    """The language of each document.

    Attributes:
        codes: language code of each document, object [documents]; None where it is unknown.
        source: given (by the user), column (of the corpus), detected, or unknown: no language could be detected, or the
            detector is not installed. It is also detected for documents whose column is empty.
        uncertain: number of documents whose own text is too short or mixed to detect a language. They are assigned to
            the most probable of the languages of the other documents.
    """

    codes: pd.Series
    source: Source
    uncertain: int = 0

    def describe(self) -> dict[str, Any]:
        """Return what provenance records: the source, documents by language, and the detector where it was used."""
        counts = {str(code): int(number) for code, number in self.codes.value_counts().items()}
        facts: dict[str, Any] = {"language_source": self.source, "documents_by_language": counts}
        if self.source == "detected":
            facts |= {"detector": f"{DETECTOR} {version(DETECTOR)}", "documents_uncertain": self.uncertain}
        return facts

    def common(self) -> list[str]:
        """Return the codes whose stop words matter: all that are given, of those detected all but rare ones; sorted."""
        counts = self.codes.value_counts(normalize=True)
        return sorted(counts.index if self.source != "detected" else counts.index[counts >= _RARE])

    def summarize(self) -> str | None:
        """Return one line about languages that were not given; None where they were given."""
        advice = "give --language (language=) or a column lang"
        if self.source == "unknown":
            why = "" if _load_detector() else f" ({DETECTOR} is not installed; pip install {DETECTOR})"
            return f"the language of the texts is unknown{why} and assumed to be English; {advice} if it is not"
        if self.source != "detected":
            return None
        counts = ", ".join(f"{code} ({number:,} documents)" for code, number in self.codes.value_counts().items())
        doubt = f"; {self.uncertain:,} documents are too short or too mixed to be sure" if self.uncertain else ""
        return f"language detected: {counts}{doubt}; {advice} if this is wrong"


def find_languages(documents: pd.DataFrame, language: "str | Languages | None" = None) -> Languages:
    """Find the language of each document.

    The language that is given is that of all documents; otherwise each has that in its column lang or language. Where
    there is neither, it is detected from the start of each text. A document whose language is uncertain is assigned to
    the most probable of the languages of the other documents. Where fewer than one in ten is certain, as with very
    short texts, all are judged together.

    Args:
        documents: one row per document with the column text.
        language: code of all texts' language, such as "de" or "de-AT"; or what this function returned.

    Raises:
        AnnotationError: a value is not a language code.
    """
    if isinstance(language, Languages):
        return language
    known = read_languages(documents, language)
    missing = known.isna()
    if not missing.any():
        return Languages(known, "given" if language is not None else "column")
    texts = [text if isinstance(text, str) else "" for text in documents["text"][missing.to_numpy()]]
    found, uncertain = _detect(texts)
    codes = known.copy()
    codes[missing] = pd.Series(found, index=known.index[missing], dtype=object)
    source: Source = "unknown" if codes.isna().any() else "detected"
    return Languages(codes, source, uncertain)


def _detect(texts: Sequence[str]) -> tuple[list[str | None], int]:
    """Return the language of each text, None for all if none can be detected, and the number of uncertain texts."""
    identifier = _load_detector()
    if identifier is None:
        return [None] * len(texts), len(texts)
    starts = [text[:_CHARACTERS] for text in texts]
    own = [_classify(identifier, start) for start in starts]
    counts = Counter(code for code in own if code is not None)
    uncertain = len(texts) - counts.total()
    if counts.total() < _FEW * len(texts):
        together = _classify(identifier, "\n".join(starts[:_POOLED]))
        return [together] * len(texts), uncertain
    [(most_common, _)] = counts.most_common(1)
    found: list[str | None] = []
    for code, start in zip(own, starts, strict=True):
        if code is None and len(counts) > 1 and start.strip():
            probable = (_SPACY_CODES.get(name, name) for name, _ in identifier.rank(start))
            code = next((name for name in probable if name in counts), most_common)
        found.append(code or most_common)
    return found, uncertain


def _classify(identifier: Any, text: str) -> str | None:
    """Return the language of a text; None if it is uncertain."""
    code, probability = identifier.classify(text)
    if probability < _CONFIDENT or code == _NO_LANGUAGE:
        return None
    return _SPACY_CODES.get(code, code)


@lru_cache(maxsize=1)
def _load_detector() -> Any:
    """Return the detector with its own model; None if it is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
