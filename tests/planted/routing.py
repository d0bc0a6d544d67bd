"""Routing decisions and labels drawn from distributions whose information is known in closed form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlantedRouting:
    """One layer's routing with its labels.

    Attributes:
        codes: int32 [tokens] or [documents], the labels.
        experts: int16 [tokens, k].
        documents: int32 [tokens], non-decreasing.
        num_labels: labels in the label set.
        num_experts: experts of the layer.
        information: the true I(label; expert) in bits of the population that documents come from.
    """

    codes: NDArray[np.int32]
    experts: NDArray[np.int16]
    documents: NDArray[np.int32]
    num_labels: int
    num_experts: int
    information: float


def channel_information(label_shares: Floats, expert_given_label: Floats) -> float:
    """Sum P(y) P(e|y) log2(P(e|y) / P(e)) term by term."""
    load = label_shares @ expert_given_label
    total = 0.0
    for share, channel in zip(label_shares, expert_given_label, strict=True):
        for conditional, marginal in zip(channel, load, strict=True):
            if share * conditional > 0:
                total += share * conditional * np.log2(conditional / marginal)
    return float(total)


def plant_channel(
    label_shares: Floats,
    expert_given_label: Floats,
    *,
    num_documents: int,
    tokens_per_document: int,
    concentration: float = np.inf,
    top_k: int = 1,
    seed: int = 0,
) -> PlantedRouting:
    """Draw labels from P(y) and experts from P(e|y), with random effects of documents.

    Each document has its own label mix and its own channel, Dirichlet around the given ones with
    ``concentration`` (infinite: none) and independent of each other: the population's joint distribution
    stays P(y) P(e|y). With ``top_k`` k, expert e stands for experts k e to k e + k - 1, all chosen
    together: that leaves the information as it is.
    """
    rng = np.random.default_rng(seed)
    shape = (num_documents, tokens_per_document)
    codes = _draw(rng, _vary(rng, label_shares, num_documents, concentration), shape)
    channels = np.stack([_vary(rng, row, num_documents, concentration) for row in expert_given_label], axis=1)
    channel_of_token = channels[np.arange(num_documents)[:, None], codes]
    first = _draw(rng, channel_of_token.reshape(-1, channels.shape[-1]), (codes.size, 1))
    return PlantedRouting(
        codes=codes.ravel().astype(np.int32),
        experts=(top_k * first + np.arange(top_k)).astype(np.int16),
        documents=np.repeat(np.arange(num_documents, dtype=np.int32), tokens_per_document),
        num_labels=len(label_shares),
        num_experts=top_k * channels.shape[-1],
        information=channel_information(label_shares, expert_given_label),
    )


def plant_noise(
    label_shares: Floats,
    load: Floats,
    *,
    num_documents: int,
    tokens_per_document: int,
    concentration: float = 5.0,
    persistence: float = 0.7,
    seed: int = 0,
) -> PlantedRouting:
    """Draw labels and experts that know nothing of each other, but are both clustered.

    Every document has its own label mix and expert mix, and each side repeats its previous value with
    probability ``persistence``: what makes a free shuffle of tokens the wrong null.
    """
    rng = np.random.default_rng(seed)
    shape = (num_documents, tokens_per_document)
    codes = _linger(rng, _draw(rng, _vary(rng, label_shares, num_documents, concentration), shape), persistence)
    experts = _linger(rng, _draw(rng, _vary(rng, load, num_documents, concentration), shape), persistence)
    return PlantedRouting(
        codes=codes.ravel().astype(np.int32),
        experts=experts.reshape(-1, 1).astype(np.int16),
        documents=np.repeat(np.arange(num_documents, dtype=np.int32), tokens_per_document),
        num_labels=len(label_shares),
        num_experts=len(load),
        information=0.0,
    )


def plant_document_labels(
    label_shares: Floats,
    expert_given_label: Floats,
    *,
    num_documents: int,
    tokens_per_document: int,
    concentration: float = 5.0,
    by_sequence: bool = False,
    seed: int = 0,
) -> PlantedRouting:
    """Draw one label a document and route its tokens by the document's own mix of experts.

    The mix is Dirichlet around P(e|y), so that documents of one label differ and the mean usage of a label
    is P(e|y). With ``by_sequence`` all tokens of a document go to one expert, drawn from P(e|y).
    """
    rng = np.random.default_rng(seed)
    codes = _draw(rng, label_shares[None], (1, num_documents))[0]
    channel = expert_given_label[codes]
    if by_sequence:
        experts = np.repeat(_draw(rng, channel, (num_documents, 1)), tokens_per_document, axis=1)
    else:
        mixes = np.stack([rng.dirichlet(concentration * row + 1e-9) for row in channel])
        experts = _draw(rng, mixes, (num_documents, tokens_per_document))
    return PlantedRouting(
        codes=codes.astype(np.int32),
        experts=experts.reshape(-1, 1).astype(np.int16),
        documents=np.repeat(np.arange(num_documents, dtype=np.int32), tokens_per_document),
        num_labels=len(label_shares),
        num_experts=expert_given_label.shape[1],
        information=channel_information(label_shares, expert_given_label),
    )


def _vary(rng: np.random.Generator, shares: Floats, count: int, concentration: float) -> Floats:
    """Return `count` distributions around `shares`."""
    if np.isinf(concentration):
        return np.tile(shares, (count, 1))
    return rng.dirichlet(concentration * shares + 1e-9, size=count)


def _draw(rng: np.random.Generator, shares: Floats, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Draw a row of categories from each row of `shares`."""
    edges = np.cumsum(shares, axis=1)[:, None, :-1]
    return (rng.random((*shape, 1)) > edges).sum(axis=-1)


def _linger(rng: np.random.Generator, drawn: NDArray[np.int64], persistence: float) -> NDArray[np.int64]:
    """Repeat the previous value of a row with probability `persistence`."""
    places = np.arange(drawn.shape[1])
    renewed = np.where(rng.random(drawn.shape) >= persistence, places, 0)
    return np.take_along_axis(drawn, np.maximum.accumulate(renewed, axis=1), axis=1)
