"""Other ways to ask how strongly the routing of gpt-oss-20b is associated with syntax and subject."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from analyses.real_models.recording import EXPERTS, Corpus, describe
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL
from specialize.measure import measure_layer, next_codes

FIRST_TOKENS = 16
CONTENT = ("NOUN", "VERB", "ADJ", "ADV", "PROPN", "NUM")
MARKS = ("PUNCT", "SYM", "X", "SPACE")
WORDS_IN_PROSE = 0.8  # smallest share of words among the tokens of a document that counts as prose


@dataclass(frozen=True)
class Variant:
    """One way to ask how strongly routing is associated with a label.

    Attributes:
        about: syntax or subject.
        name: what is different.
        codes: integers [tokens], or [documents] for the subject.
        kept: bool [tokens], the tokens whose routing counts.
        rule: how a token's mass is spread over its slots.
        groups: integers [documents], documents that are kept together; None where each is on its own.
    """

    about: str
    name: str
    codes: NDArray[np.integer]
    kept: NDArray[np.bool_]
    rule: str = "selection"
    groups: NDArray[np.integer] | None = None


def list_variants(corpus: Corpus) -> Iterator[Variant]:
    """Yield the association with part of speech and with the field, as it is and under other choices."""
    tags, documents, names = corpus.tags, corpus.documents, np.array(corpus.names)
    everything, tagged = np.ones(len(tags), dtype=bool), tags != NO_LABEL
    content, marks = (tagged & np.isin(names[tags], kinds) for kinds in (CONTENT, MARKS))
    words, function = tagged & ~marks, tagged & ~content & ~marks
    prose = (np.bincount(documents, words) / np.maximum(np.bincount(documents, tagged), 1) >= WORDS_IN_PROSE)[documents]
    kinds = np.where(tagged, np.where(content, 0, np.where(marks, 2, 1)), NO_LABEL)
    usual, consistent = _usual_tags(corpus.tokens["token_id"].to_numpy(), tags, len(names))
    tokens = {
        f"without the first {FIRST_TOKENS} tokens": corpus.tokens["position"].to_numpy() >= FIRST_TOKENS,
        "words: no punctuation, symbols, formulas": words,
        "documents of prose": prose,
        "content words alone": content,
        "function words alone": function,
    }
    of_syntax = {
        "content, function words and marks as labels": {"codes": kinds},
        "the token's usual tag for the tagger's": {"codes": np.where(tagged, usual, NO_LABEL)},
        "tokens that nearly always have one tag": {"kept": consistent},
        "tag of the next token": {"codes": next_codes(tags, corpus.tokens)},
    }
    for about, codes, others in (("syntax", tags, of_syntax), ("subject", corpus.field, {})):
        reported = Variant(about, "as reported", codes, everything)
        yield reported
        yield replace(reported, name="mass by gate weight", rule="gate")
        yield replace(reported, name="first slot alone", rule="first")
        for name, kept in tokens.items():
            yield replace(reported, name=name, kept=kept)
        for name, changed in others.items():
            yield replace(reported, name=name, **changed)
        yield replace(reported, name="subjects kept together", groups=_number(corpus.category))


def _usual_tags(
    ids: NDArray[np.integer], tags: NDArray[np.integer], size: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return the most frequent tag of each token's id, and whether 99 % of its occurrences have it."""
    tagged = tags != NO_LABEL
    counts = np.zeros((int(ids.max()) + 1, size))
    np.add.at(counts, (ids[tagged], tags[tagged]), 1)
    usual = counts.argmax(axis=1)
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return usual[ids], tagged & (share >= 0.99)[ids]


def _number(category: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return groups of documents of one subject; documents without a subject are on their own."""
    return np.where(category == NO_LABEL, category.max() + 1 + np.arange(len(category)), category)


def measure_variants(corpus: Corpus, *, permutations: int, seed: int) -> pd.DataFrame:
    """Measure U of every variant at every layer."""
    variants = list(list_variants(corpus))
    rows = []
    for router in corpus.trace.routers:
        experts, weights = corpus.trace.experts(router.name), corpus.trace.weights(router.name)
        for variant in variants:
            found = measure_layer(
                np.where(variant.kept, variant.codes, NO_LABEL) if variant.about == "syntax" else variant.codes,
                np.where(variant.kept[:, None], experts, -1).astype(np.int16),
                corpus.documents,
                level="token" if variant.about == "syntax" else "document",
                num_labels=int(variant.codes.max()) + 1,
                num_experts=EXPERTS,
                weights=weights if variant.rule == "gate" else None,
                rule=variant.rule,
                groups=variant.groups,
                permutations=permutations,
                seed=seed,
            ).uncertainty_coefficient
            rows.append(describe(found, about=variant.about, variant=variant.name, layer=int(router.layer)))
    return pd.DataFrame(rows)
