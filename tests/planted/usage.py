"""Usage of experts by labelled documents, drawn around the mean usage of their label."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def plant_usage(
    means: Floats, *, num_documents: int, tokens_per_document: int = 30, concentration: float = 10.0, seed: int = 0
) -> tuple[Floats, NDArray[np.int64]]:
    """Draw a label for each document, its mix of experts, Dirichlet around that of the label, and its tokens.

    Args:
        means: P(expert | label) of the population, [label, expert].
        num_documents: number of documents.
        tokens_per_document: number of tokens of each, with one expert.
        concentration: of the Dirichlet distribution.
        seed: of the generator.

    Returns:
        Tokens of each expert, float64 [documents, experts], and labels int64 [documents].
    """
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(means), num_documents)
    mixes = rng.standard_gamma(concentration * means[codes] + 1e-9)
    return rng.multinomial(tokens_per_document, mixes / mixes.sum(axis=1, keepdims=True)).astype(float), codes


def draw_routing(
    num_tokens: int, *, num_experts: int, top_k: int, num_documents: int, dropped: float = 0.15, seed: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Draw distinct experts of each token, some of them dropped, int16 [tokens, k], and sorted documents [tokens]."""
    rng = np.random.default_rng(seed)
    experts = rng.random((num_tokens, num_experts)).argsort(axis=1)[:, :top_k].astype(np.int16)
    experts[rng.random(experts.shape) < dropped] = -1
    return experts, np.sort(rng.integers(0, num_documents, num_tokens))
