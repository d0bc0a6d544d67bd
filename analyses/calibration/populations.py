"""Populations of routed tokens whose association with labels, words, layers and checkpoints is known.

A token has a label, a word that depends on the label, and a set of k experts that depends on both. Documents differ:
each has its own mix of labels, and for each label its own mix of sets, Dirichlet around those of the population.
A second layer, a later checkpoint and a twin of the layer, whose
sets are drawn anew from the same document and label, are routed beside the first.

Tokens that repeat the one before (Markov) have its label, and their routing follows the same uniform random number, so
that the set is the same where label and word are. Labels and routing repeat at their own places.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]

WORDS, WORD_SHARE = 20, 0.3  # share of tokens whose set follows the word alone
LABEL_CONCENTRATION, SET_CONCENTRATION = 20.0, 60.0
FOLLOWED, KEPT = 0.4, 0.7  # share of tokens whose set the second layer follows, and the later checkpoint keeps


@dataclass(frozen=True)
class Design:
    """Size and kind of the data sets of a population.

    Attributes:
        name: name in the tables.
        experts, top_k, labels, documents, tokens: E, k, number of labels, of documents, and of tokens in a document.
        level: token, or document where each document has one label.
        persistence: probability that a token repeats the label of the one before it, and that it repeats its routing.
        zipf: exponent of the label frequencies; 0 for equal ones.
        strength: standard deviation of the effect of labels on the log odds of sets; 0 for no association.
        dropped: probability that a slot is dropped (-1).
        rule: selection or gate.
        by_sequence: whether all tokens of a document go to one set.
        probes: whether to fit probes, which takes most of the time.
    """

    name: str
    experts: int
    top_k: int
    labels: int
    documents: int
    tokens: int
    level: str = "token"
    persistence: float = 0.0
    zipf: float = 1.0
    strength: float = 0.8
    dropped: float = 0.0
    rule: str = "selection"
    by_sequence: bool = False
    probes: bool = False


DESIGNS = (
    Design("independent tokens", 8, 2, 17, 200, 60),
    Design("Markov tokens", 16, 1, 17, 100, 80, persistence=0.6),
    Design("128 experts", 128, 8, 6, 200, 60, persistence=0.3, zipf=0.8),
    Design("40 Zipf labels", 16, 2, 40, 200, 80, zipf=1.2),
    Design("20 documents", 16, 2, 8, 20, 200, persistence=0.4),
    Design("500 documents", 32, 4, 12, 500, 30),
    Design("dropped slots", 32, 4, 12, 100, 80, persistence=0.3, dropped=0.15),
    Design("gate rule", 32, 4, 12, 100, 80, persistence=0.3, rule="gate"),
    Design("weak association", 64, 2, 12, 100, 80, strength=0.15),
    Design("few tokens", 8, 2, 5, 50, 30, zipf=0.5, probes=True),
    Design("few topics", 8, 2, 3, 60, 20, level="document", zipf=0.5, probes=True),
    Design("topics", 16, 2, 4, 200, 50, level="document", zipf=0.5),
    Design("topics by sequence", 8, 1, 6, 300, 20, level="document", by_sequence=True, zipf=0.5),
    Design("12 topics, 64 experts", 64, 8, 12, 500, 30, level="document", persistence=0.3, zipf=0.7),
)


@dataclass(frozen=True)
class Sample:
    """Arrays of a data set, as the measures take them; [tokens, k] for experts.

    Attributes:
        codes: int32 [tokens], or [documents] at document level.
        words, documents: int32 [tokens].
        experts, twin, following, later: int16 [tokens, k], -1 for dropped slots.
        weights: gate weights float64 [tokens, k]; None for the selection rule.
    """

    codes: Integers
    words: Integers
    documents: Integers
    experts: Integers
    twin: Integers
    following: Integers
    later: Integers
    weights: Floats | None


class Population:
    """Distributions of one design, fixed by its name, and data sets drawn from them."""

    def __init__(self, design: Design) -> None:
        self.design = design
        rng = np.random.default_rng(zlib.crc32(design.name.encode()))
        experts, k = design.experts, design.top_k
        self.label_shares = _normalise(np.arange(1.0, design.labels + 1) ** -design.zipf)
        self.word_given_label = _normalise(
            np.exp(-0.4 * np.log(np.arange(1, WORDS + 1)) + 0.7 * rng.normal(size=(design.labels, WORDS)))
        )
        count = experts if k == 1 else 2 * experts
        load = 0.5 * rng.normal(size=count)
        self.sets, self.second_sets = (
            np.arange(experts)[:, None]
            if k == 1
            else rng.permuted(np.tile(np.arange(experts), (count, 1)), axis=1)[:, :k]
            for _ in range(2)
        )
        self.set_given_label = _softmax(load + design.strength * rng.normal(size=(design.labels, count)))
        self.set_given_word = _softmax(load + 0.8 * rng.normal(size=(WORDS, count)))
        self.second_shares = _softmax(0.5 * rng.normal(size=count))
        self.follower = rng.permutation(count)
        self.word_share = 0.0 if design.by_sequence else WORD_SHARE
        self.rank_weights = np.full(k, 1 / k) if design.rule != "gate" else _normalise(np.arange(k, 0.0, -1))
        # P(label, word) and P(set | label, word)
        self.pairs = self.label_shares[:, None] * self.word_given_label
        self.set_given_pair = (1 - self.word_share) * self.set_given_label[
            :, None
        ] + self.word_share * self.set_given_word
        self.margin = 0.0  # of the equivalence test
        self.set_shares = np.einsum("yw,yws->s", self.pairs, self.set_given_pair)

    def draw(self, seed: int, documents: int | None = None) -> Sample:
        """Draw a data set."""
        design, rng = self.design, np.random.default_rng(seed)
        shape = (design.documents if documents is None else documents, design.tokens)
        own = np.arange(shape[0])[:, None]
        if design.level == "document":
            of_documents = _pick(rng, self.label_shares[None], np.zeros(shape[0], int))
            labels = np.broadcast_to(of_documents[:, None], shape)
            mixes = self.set_given_label[of_documents]
        else:
            labels = _pick(
                rng, rng.dirichlet(LABEL_CONCENTRATION * self.label_shares, size=shape[0]), own + np.zeros(shape, int)
            )
            mixes = np.tile(self.set_given_label, (shape[0], 1))
        if design.level == "token":
            labels = np.take_along_axis(labels, self._repeat(rng, shape), axis=1)
        cells = own if design.level == "document" else own * design.labels + labels
        words = _pick(rng, self.word_given_label, labels)
        source = self._repeat(rng, shape)

        def draw(mixes: Floats, rows: Integers, *, once: bool = False) -> Integers:
            steps = rng.random((shape[0], 1)) if once else np.take_along_axis(rng.random(shape), source, axis=1)
            return _pick(rng, mixes, np.broadcast_to(rows, shape), steps)

        def route() -> Integers:
            if design.by_sequence:
                return draw(mixes, cells, once=True)
            by_word = draw(np.array([[self.word_share, 1 - self.word_share]]), np.zeros(1, int)) == 0
            return np.where(by_word, draw(self.set_given_word, words), draw(channels, cells))

        channels = rng.standard_gamma(SET_CONCENTRATION * mixes) + 1e-12
        first, twin = route(), route()
        nothing = np.zeros(1, int)
        follows = draw(np.array([[FOLLOWED, 1 - FOLLOWED]]), nothing) == 0
        keeps = draw(np.array([[KEPT, 1 - KEPT]]), nothing) == 0
        following = np.where(follows, self.follower[first], draw(self.second_shares[None], nothing))
        later = np.where(keeps, first, draw(self.set_shares[None], nothing))
        labels, words, first, twin, following, later = (
            each.ravel() for each in (labels, words, first, twin, following, later)
        )

        def slots(sets: Integers, chosen: Integers) -> Integers:
            found = sets[chosen].astype(np.int16)
            found[rng.random(found.shape) < design.dropped] = -1
            return found

        weights = None
        if design.rule == "gate":
            weights = rng.gamma(20 * self.rank_weights, size=(len(first), design.top_k)) + 1e-9
        return Sample(
            codes=(of_documents if design.level == "document" else labels).astype(np.int32),
            words=words.astype(np.int32),
            documents=np.repeat(own[:, 0], shape[1]).astype(np.int32),
            experts=slots(self.sets, first),
            twin=slots(self.sets, twin),
            following=slots(self.second_sets, following),
            later=slots(self.sets, later),
            weights=weights,
        )

    def _repeat(self, rng: np.random.Generator, shape: tuple[int, int]) -> Integers:
        """Return for each token the place in its document of the token that it repeats, or its own."""
        renewed = rng.random(shape) >= self.design.persistence
        return np.maximum.accumulate(np.where(renewed, np.arange(shape[1]), 0), axis=1)

    def draw_null(self, seed: int) -> Sample:
        """Draw a data set in which nothing is associated.

        Labels and words come from one data set, the routing of the layer from another, that of the second layer from
        a third, so that each keeps its order and the differences of its documents. The twin is not replaced.
        """
        labelled, routed, second = (self.draw(3 * seed + part) for part in range(3))
        return replace(routed, codes=labelled.codes, words=labelled.words, following=second.following)

    def mass(self, *, second: bool = False) -> Floats:
        """P(label, word, expert) by the rule of the design, [label, word, expert], of the layer or the second layer."""
        chosen = np.zeros((len(self.sets), self.design.experts))
        sets = self.second_sets if second else self.sets
        np.add.at(chosen, (np.arange(len(sets))[:, None], sets), self.rank_weights)
        return np.einsum("yw,yws,se->ywe", self.pairs, self._given_pair(second), chosen)

    def membership(self) -> Floats:
        """P(expert among the token's experts | label, word) of routed tokens, [label, word, expert]."""
        present = (1 - self.design.dropped) / (1 - self.design.dropped**self.design.top_k)
        return self.set_given_pair @ self._members() * present

    def coactivation(self) -> Floats:
        """P(expert j | expert i) among a token's experts, [i, j]; NaN on the diagonal."""
        members = self._members()
        joint = members.T @ (self.set_shares[:, None] * members)
        shares = joint / np.diag(joint)[:, None] * (1 - self.design.dropped)
        np.fill_diagonal(shares, np.nan)
        return shares

    def transitions(self) -> Floats:
        """P(first expert i of the layer, first expert j of the second layer), [i, j]."""
        size = self.design.experts
        first, second = self.sets[:, 0], self.second_sets[:, 0]
        joint = np.zeros((size, size))
        np.add.at(joint, (first, second[self.follower]), FOLLOWED * self.set_shares)
        loads = [
            np.bincount(sets, weights=p, minlength=size)
            for sets, p in ((first, self.set_shares), (second, self.second_shares))
        ]
        return joint + (1 - FOLLOWED) * np.outer(*loads)

    def saturation(self) -> float:
        """Expected overlap of the layer and the later checkpoint, as a share of k."""
        members, k, dropped = self._members(), self.design.top_k, self.design.dropped
        apart = self.set_shares @ (members @ members.T) @ self.set_shares / k
        both = ((1 - dropped) / (1 - dropped**k)) ** 2
        return float(both * (KEPT + (1 - KEPT) * apart))

    def _members(self) -> Floats:
        return (self.sets[:, :, None] == np.arange(self.design.experts)).any(axis=1).astype(float)

    def _given_pair(self, second: bool) -> Floats:
        if not second:
            return self.set_given_pair
        followed = np.zeros_like(self.set_given_pair)
        followed[..., self.follower] = self.set_given_pair
        return FOLLOWED * followed + (1 - FOLLOWED) * self.second_shares


def _normalise(values: Floats) -> Floats:
    return values / values.sum(axis=-1, keepdims=True)


def _softmax(odds: Floats) -> Floats:
    return _normalise(np.exp(odds - odds.max(axis=-1, keepdims=True)))


def _pick(rng: np.random.Generator, mixes: Floats, rows: Integers, steps: Floats | None = None) -> Integers:
    """Draw a category for each entry of `rows` from that row of `mixes` [row, category], in one search.

    With uniform ``steps``, of the shape of ``rows``, they decide: an equal step gives a similar category.
    """
    ends = np.cumsum(mixes, axis=1)
    ends /= ends[:, -1:]
    flat = (ends + np.arange(len(mixes))[:, None]).ravel()
    drawn = rng.random(rows.shape) if steps is None else steps
    found = np.searchsorted(flat, rows + drawn, side="right") - rows * mixes.shape[1]
    return np.clip(found, 0, mixes.shape[1] - 1)
