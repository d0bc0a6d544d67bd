"""The uncertainty coefficient of one layer under the null, alone."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level
from specialize.measure.base.estimate import jackknife_values
from specialize.measure.base.information import uncertainty_coefficient
from specialize.measure.base.random import Seed
from specialize.measure.estimators.layer import NULL_TABLES
from specialize.measure.estimators.observed import observe_layer


def draw_null_uncertainty(
    codes: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_experts: int,
    permutations: int,
    seed: Seed,
    **layer: Any,
) -> NDArray[np.float64]:
    """Compute the uncertainty coefficient of permutations under the null, as `measure_layer` does, and nothing else.

    Layers drawn with the same seed share their permutations.

    Args:
        codes: integers [tokens] or [documents]; negative where there is no label.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set.
        num_experts: number of experts of the layer.
        permutations: number of permutations.
        seed: seed of the permutations.
        **layer: the other arguments of `measure_layer` that say what is counted.

    Returns:
        float64 [permutation], bias-corrected.
    """
    seen, _ = observe_layer(codes, level=level, num_labels=num_labels, num_experts=num_experts, **layer)
    shape = (seen.num_blocks, num_labels, num_experts)
    null = np.empty(permutations)
    for batch, tables in NULL_TABLES[level](seen, shape=shape, permutations=permutations, seed=seed):
        null[batch], _ = jackknife_values(tables, uncertainty_coefficient)
    return null
