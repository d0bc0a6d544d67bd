"""Both curves of gpt-oss-20b in plain NumPy, to compare with those of the package: other code, other blocks."""

import numpy as np
from numpy.typing import NDArray

BLOCKS = 50


def explained_share(
    codes: NDArray[np.integer], experts: NDArray[np.integer], documents: NDArray[np.integer], mass: NDArray[np.float64]
) -> float:
    """Compute I(label; expert) / H(label), bias-corrected by leaving out every fiftieth document in turn.

    Args:
        codes: integers [tokens], the label of each token; negative where there is none.
        experts: integers [tokens, k].
        documents: integers [tokens].
        mass: float64 [tokens], of each token; an equal part goes to each of its experts.
    """
    tables = np.zeros((BLOCKS, codes.max() + 1, experts.max() + 1))
    for slot in experts[codes >= 0].T:
        np.add.at(tables, (documents[codes >= 0] % BLOCKS, codes[codes >= 0], slot), mass[codes >= 0])

    def share(table: NDArray[np.float64]) -> float:
        joint = table / table.sum()
        label, expert = joint.sum(axis=1), joint.sum(axis=0)
        cells = joint > 0
        information = (joint[cells] * np.log(joint[cells] / np.outer(label, expert)[cells])).sum()
        return float(information / -(label[label > 0] * np.log(label[label > 0])).sum())

    whole = tables.sum(axis=0)
    return BLOCKS * share(whole) - (BLOCKS - 1) * float(np.mean([share(whole - table) for table in tables]))
