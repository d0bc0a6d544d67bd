"""Routing, labels and words whose conditional information is known in closed form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planted.trace import PlantedTrace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlantedWords:
    """One layer's routing with its words and labels.

    Attributes:
        codes: int32 [tokens], labels; or [documents].
        words: int32 [tokens].
        experts: int16 [tokens, k].
        documents: int32 [tokens], non-decreasing.
        num_labels: labels.
        num_experts: experts.
        conditional: true I(E;Y|W) in bits.
        marginal: true I(E;Y).
        lexical: true I(E;W).
    """

    codes: NDArray[np.int32]
    words: NDArray[np.int32]
    experts: NDArray[np.int16]
    documents: NDArray[np.int32]
    num_labels: int
    num_experts: int
    conditional: float
    marginal: float
    lexical: float

    @property
    def arrays(self) -> tuple[NDArray[np.integer], ...]:
        return self.codes, self.words, self.experts, self.documents

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_labels": self.num_labels, "num_experts": self.num_experts}


def information_of(joint: Floats) -> tuple[float, float, float]:
    """I(E;Y|W), I(E;Y) and I(E;W) of P(w, y, e), cell by cell."""
    word, pair, own = joint.sum(axis=(1, 2)), joint.sum(axis=2), joint.sum(axis=1)
    label, expert, marginal = joint.sum(axis=(0, 2)), joint.sum(axis=(0, 1)), joint.sum(axis=0)
    conditional = total = lexical = 0.0
    for w, y, e in np.ndindex(joint.shape):
        if joint[w, y, e] > 0:
            conditional += joint[w, y, e] * np.log2(joint[w, y, e] * word[w] / (pair[w, y] * own[w, e]))
    for y, e in np.ndindex(marginal.shape):
        if marginal[y, e] > 0:
            total += marginal[y, e] * np.log2(marginal[y, e] / (label[y] * expert[e]))
    for w, e in np.ndindex(own.shape):
        if own[w, e] > 0:
            lexical += own[w, e] * np.log2(own[w, e] / (word[w] * expert[e]))
    return conditional, total, lexical


def plant_words(
    word_shares: Floats,
    label_given_word: Floats,
    expert_given_both: Floats,
    *,
    num_documents: int,
    tokens_per_document: int,
    concentration: float = np.inf,
    seed: int = 0,
) -> PlantedWords:
    """Draw words, labels from P(y|w) and experts from P(e|w, y).

    With a finite ``concentration`` each document has, for each word, its own label mix and its own channels, Dirichlet
    around the given ones and independent of each other: the population's joint distribution stays.
    """
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(num_documents), tokens_per_document)
    words = rng.choice(len(word_shares), size=len(documents), p=word_shares)
    labels = _vary(rng, label_given_word, num_documents, concentration)
    channels = _vary(rng, expert_given_both, num_documents, concentration)
    codes = _draw(rng, labels[documents, words])
    experts = _draw(rng, channels[documents, words, codes])
    joint = word_shares[:, None, None] * label_given_word[..., None] * expert_given_both
    return PlantedWords(
        codes.astype(np.int32),
        words.astype(np.int32),
        experts[:, None].astype(np.int16),
        documents.astype(np.int32),
        *expert_given_both.shape[1:],
        *information_of(joint),
    )


def plant_word_noise(
    *,
    num_documents: int,
    tokens_per_document: int,
    num_words: int = 25,
    num_labels: int = 3,
    num_experts: int = 6,
    effect: float = 1.0,
    shared: bool = True,
    seed: int = 0,
) -> PlantedWords:
    """Draw labels and experts that know nothing of each other given the word, though documents differ in both.

    A document prefers some labels and some experts, each by normal effects of size ``effect`` on the log odds: the same
    for all words (``shared``) or for each word its own.
    """
    rng = np.random.default_rng(seed)
    shares = np.arange(1, num_words + 1) ** -0.8
    documents = np.repeat(np.arange(num_documents), tokens_per_document)
    words = rng.choice(num_words, size=len(documents), p=shares / shares.sum())
    drawn = []
    for size, even in ((num_labels, 1.5), (num_experts, 1.0)):
        odds = np.log(rng.dirichlet(np.full(size, even), size=num_words) + 1e-3)[words]
        effects = effect * rng.normal(size=(num_documents, 1 if shared else num_words, size))
        drawn.append(_draw(rng, _softmax(odds + effects[documents, 0 if shared else words])))
    return PlantedWords(
        drawn[0].astype(np.int32), words.astype(np.int32), drawn[1][:, None].astype(np.int16),
        documents.astype(np.int32), num_labels, num_experts, 0.0, np.nan, np.nan,
    )  # fmt: skip


def plant_topic_words(
    *,
    num_documents: int,
    tokens_per_document: int,
    num_words: int = 25,
    num_topics: int = 3,
    num_experts: int = 6,
    contextual: float = 0.0,
    effect: float = 0.5,
    seed: int = 0,
) -> PlantedWords:
    """Draw a topic a document, its words by the topic, and experts by the word.

    Documents differ in their experts, too (``effect``). ``contextual`` is the size of what the topic itself adds to the
    log odds of the experts: 0 for a router that follows words alone.
    """
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, num_topics, size=num_documents)
    mixes = _softmax(-0.8 * np.log(np.arange(1, num_words + 1)) + rng.normal(size=(num_topics, num_words)))
    documents = np.repeat(np.arange(num_documents), tokens_per_document)
    words = _draw(rng, mixes[topics[documents]])
    odds = np.log(rng.dirichlet(np.ones(num_experts), size=num_words) + 1e-3)[words]
    odds += effect * rng.normal(size=(num_documents, num_experts))[documents]
    odds += contextual * rng.normal(size=(num_topics, num_experts))[topics[documents]]
    return PlantedWords(
        topics.astype(np.int32), words.astype(np.int32), _draw(rng, _softmax(odds))[:, None].astype(np.int16),
        documents.astype(np.int32), num_topics, num_experts, np.nan if contextual else 0.0, np.nan, np.nan,
    )  # fmt: skip


class PlantedText(PlantedTrace):
    """A planted trace that knows its tokens.

    Args:
        tokens: one row a token, at least document.
        routings: int16 [tokens, k] by layer number.
        num_experts: experts of every layer.
        texts: of the documents; None for none.
        options: as `PlantedTrace`.
    """

    def __init__(
        self,
        tokens: pd.DataFrame,
        routings: dict[int, NDArray[np.int16]],
        *,
        num_experts: int,
        texts: list[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(tokens["document"].to_numpy(), routings, num_experts=num_experts, **options)  # type: ignore[arg-type]
        self._tokens, self._texts = tokens, texts
        self.path = Path("runs") / "words"

    def tokens(self) -> pd.DataFrame:
        """Return the tokens."""
        return self._tokens

    def documents(self, *, labels_only: bool = False) -> pd.DataFrame:
        """Return ids and texts."""
        ids = [str(row) for row in range(self.num_documents)]
        texts = self._texts or [None] * self.num_documents
        return pd.DataFrame({"id": ids} | ({} if labels_only else {"text": texts}))


def _vary(rng: np.random.Generator, shares: Floats, count: int, concentration: float) -> Floats:
    """`count` sets of distributions around `shares` [..., category]."""
    if np.isinf(concentration):
        return np.broadcast_to(shares, (count, *shares.shape))
    gammas = rng.gamma(np.broadcast_to(concentration * shares + 1e-9, (count, *shares.shape)))
    return gammas / gammas.sum(axis=-1, keepdims=True)


def _draw(rng: np.random.Generator, shares: Floats) -> NDArray[np.int64]:
    """Draw a category from each row."""
    return (rng.random((len(shares), 1)) > np.cumsum(shares, axis=1)[:, :-1]).sum(axis=1)


def _softmax(odds: Floats) -> Floats:
    raised = np.exp(odds - odds.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
