"""Paths through several layers, with labels and word forms, for probes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planted.trace import PlantedTrace


@dataclass(frozen=True)
class PlantedPaths:
    """Tokens whose label is a function of their path, and their word forms.

    Attributes:
        codes: int32 [tokens], the labels.
        words: int64 [tokens], the word forms.
        routings: int16 [tokens, 1] by layer.
        documents: int32 [tokens], non-decreasing.
        num_experts: experts of every layer.
    """

    codes: NDArray[np.int32]
    words: NDArray[np.int64]
    routings: dict[int, NDArray[np.int16]]
    documents: NDArray[np.int32]
    num_experts: int


def plant_paths(
    *, num_documents: int, tokens_per_document: int, noise: float, ambiguity: float, num_labels: int = 4, seed: int = 0
) -> PlantedPaths:
    """Route three layers by the label, and give words that do not always tell it.

    Labels are uniform. In every layer the expert is the label's own, or with probability ``noise`` any of them, drawn
    once a token: the best guess from the path is right with probability 1 - noise + noise / labels. Each label has ten
    word forms of its own; a token has, with probability ``ambiguity``, a form of any label instead.
    """
    rng = np.random.default_rng(seed)
    tokens = num_documents * tokens_per_document
    codes = rng.integers(0, num_labels, tokens)
    routed = np.where(rng.random(tokens) < noise, rng.integers(0, num_labels, tokens), codes)
    spoken = np.where(rng.random(tokens) < ambiguity, rng.integers(0, num_labels, tokens), codes)
    return PlantedPaths(
        codes=codes.astype(np.int32),
        words=10 * spoken + rng.integers(0, 10, tokens),
        # each layer numbers its experts in its own way
        routings={layer: ((routed + layer) % num_labels)[:, None].astype(np.int16) for layer in range(3)},
        documents=np.repeat(np.arange(num_documents, dtype=np.int32), tokens_per_document),
        num_experts=num_labels,
    )


class WordTrace(PlantedTrace):
    """A planted trace that tells the words of its tokens.

    Args:
        planted: the paths.
        with_text: documents are texts of words, one a token; otherwise there are token ids alone.
        random_routers: routing of random routers, int16 [tokens, k] by layer number.
    """

    def __init__(
        self,
        planted: PlantedPaths,
        *,
        with_text: bool = True,
        random_routers: dict[int, NDArray[np.int16]] | None = None,
    ) -> None:
        super().__init__(
            planted.documents, planted.routings, num_experts=planted.num_experts, random_routers=random_routers
        )
        self._words, self._with_text = planted.words, with_text

    def tokens(self) -> pd.DataFrame:
        """Return document, place in the text and token id of each token."""
        frame = super().tokens()
        if not self._with_text:
            return frame.assign(char_start=-1, char_end=-1, token_id=self._words)
        # each is " wNNN": a token begins with the space, its piece ends before the word does
        start = 5 * frame.groupby("document").cumcount()
        return frame.assign(char_start=start, char_end=start + 3, token_id=0)

    def documents(self) -> pd.DataFrame:
        """Return the text of each document."""
        texts = [
            "".join(f" w{word:03d}" for word in self._words[self._documents == document])
            for document in range(self.num_documents)
        ]
        return pd.DataFrame({"text": texts if self._with_text else [None] * len(texts)})
