"""One planted routing, and how each tool would have written it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LAYERS, TOP_K, NUM_EXPERTS = 3, 2, 7
LENGTHS = (5, 1, 4)


@dataclass(frozen=True)
class Planted:
    """Experts and weights [tokens, layers, k] of each document."""

    experts: list[NDArray[np.int64]]
    weights: list[NDArray[np.float64]]

    @property
    def document(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.experts)), [len(each) for each in self.experts])


def plant_routing() -> Planted:
    rng = np.random.default_rng(3)

    def draw(tokens: int) -> NDArray[np.int64]:
        return rng.random((tokens, LAYERS, NUM_EXPERTS)).argsort(axis=2)[:, :, :TOP_K]

    experts = [draw(tokens) for tokens in LENGTHS]
    experts[0][0, 0] = (NUM_EXPERTS - 1, 0)  # so that E can be inferred
    return Planted(experts, [rng.random(each.shape).round(4) for each in experts])


def write_esft(folder: Path, planted: Planted) -> Path:
    folder.mkdir(parents=True)
    for layer in range(LAYERS):
        lines = [
            "\t".join(str(value) for value in experts[:, layer].ravel())
            + "\t\t"
            + "\t".join(str(value) for value in weights[:, layer].ravel())
            + "\n"
            for experts, weights in zip(planted.experts, planted.weights, strict=True)
        ]
        # numbered so that the order of names is not that of numbers
        (folder / f"expert_weights_{layer + 9}.txt").write_text("".join(lines))
    return folder
