"""The uncertainty coefficient of one layer with its null, as `measure_layer` estimates it, and nothing else."""

from numpy.typing import ArrayLike

from specialize.choices import Level
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.information import uncertainty_coefficient
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.random import Seed
from specialize.measure.base.reliability import find_shortage
from specialize.measure.base.units import tabulate_units
from specialize.measure.estimators.null_uncertainty import draw_null_uncertainty
from specialize.measure.estimators.observed import observe_layer


def measure_uncertainty(
    layer: LayerInput,
    codes: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    permutations: int,
    num_blocks: int = 50,
    seed: Seed = 0,
) -> Estimate:
    """Measure U = I(label; expert) / H(label) of one layer: of what `measure_layer` returns, this alone.

    Args:
        layer: the routing decisions, in memory or on disk.
        codes: integers [tokens] or [documents], in memory or on disk; negative where there is no label.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set.
        permutations: number of permutations under the null; 0 for none.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null; layers measured with the same seed share their permutations.

    Returns:
        The estimate, a share of H(label); NaN where only one label occurs.

    Raises:
        MeasurementError: as `measure_layer`.
    """
    seen, counts = observe_layer(layer, codes, level=level, num_labels=num_labels, num_blocks=num_blocks)
    blocks = tabulate_units(seen, shape=(seen.num_blocks, num_labels, layer.num_experts))
    value, error = jackknife_values(blocks, uncertainty_coefficient)
    null = draw_null_uncertainty(
        layer,
        codes,
        level=level,
        num_labels=num_labels,
        permutations=permutations,
        num_blocks=num_blocks,
        seed=seed,
    )
    return make_estimates(
        value,
        error,
        unit="share of H(label)",
        null=null,
        least=0.0,
        shortage=find_shortage(seen, blocks.sum(axis=0), n_documents=counts.n_documents),
        **vars(counts),
    ).at_most(1.0)[()]
