"""The uncertainty coefficient of one layer with its null, as `measure_layer` estimates it, and nothing else."""

from typing import Any

from numpy.typing import ArrayLike

from specialize.choices import Level
from specialize.measure.base.counting import tabulate
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.information import uncertainty_coefficient
from specialize.measure.base.random import Seed
from specialize.measure.base.reliability import find_shortage
from specialize.measure.estimators.null_uncertainty import draw_null_uncertainty
from specialize.measure.estimators.observed import observe_layer


def measure_uncertainty(
    codes: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_experts: int,
    permutations: int,
    seed: Seed = 0,
    **layer: Any,
) -> Estimate:
    """Measure U = I(label; expert) / H(label) of one layer: of what `measure_layer` returns, this alone.

    Args:
        codes: integers [tokens] or [documents]; negative where there is no label.
        level: unit of the labels, token or document.
        num_labels: number of labels of the label set.
        num_experts: number of experts of the layer.
        permutations: number of permutations under the null; 0 for none.
        seed: seed of the null; layers measured with the same seed share their permutations.
        **layer: the other arguments of `measure_layer` that say what is counted.

    Returns:
        The estimate, a share of H(label); NaN where only one label occurs.

    Raises:
        MeasurementError: as `measure_layer`.
    """
    counted = {"level": level, "num_labels": num_labels, "num_experts": num_experts, **layer}
    seen, counts = observe_layer(codes, **counted)
    shape = (seen.num_blocks, num_labels, num_experts)
    blocks = tabulate(seen.codes, seen.experts, seen.masses, seen.unit_blocks, shape=shape)
    value, error = jackknife_values(blocks, uncertainty_coefficient)
    return make_estimates(
        value,
        error,
        unit="share of H(label)",
        null=draw_null_uncertainty(codes, permutations=permutations, seed=seed, **counted),
        least=0.0,
        shortage=find_shortage(seen, blocks.sum(axis=0), n_documents=counts.n_documents),
        **vars(counts),
    ).at_most(1.0)[()]
