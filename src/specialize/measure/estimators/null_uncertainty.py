"""The uncertainty coefficient of one layer under the null, alone."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level
from specialize.measure.base.estimate import jackknife_values
from specialize.measure.base.information import uncertainty_coefficient
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.random import Seed
from specialize.measure.estimators.layer import NULL_TABLES
from specialize.measure.estimators.observed import observe_layer


def draw_null_uncertainty(
    layer: LayerInput,
    codes: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    permutations: int,
    num_blocks: int,
    seed: Seed,
) -> NDArray[np.float64]:
    """Compute the uncertainty coefficient of permutations under the null, as `measure_layer` does, and nothing else.

    Layers drawn with the same seed share their permutations.

    Args:
        layer: the routing decisions, in memory or on disk.
        codes: integers [tokens] or [documents], in memory or on disk; negative where there is no label.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set.
        permutations: number of permutations.
        num_blocks: maximum number of document blocks.
        seed: seed of the permutations.

    Returns:
        float64 [permutation], bias-corrected.
    """
    seen, _ = observe_layer(layer, codes, level=level, num_labels=num_labels, num_blocks=num_blocks)
    shape = (seen.num_blocks, num_labels, layer.num_experts)
    null = np.empty(permutations)
    for batch, tables in NULL_TABLES[level](seen, shape=shape, permutations=permutations, seed=seed):
        null[batch], _ = jackknife_values(tables, uncertainty_coefficient)
    return null
