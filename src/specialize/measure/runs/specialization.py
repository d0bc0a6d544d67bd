"""How far the routing of a whole trace goes with one label set, as rows of the result schema."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from specialize.annotation import Annotation
from specialize.choices import SlotRule
from specialize.measure.base.estimate import Estimate, make_estimates
from specialize.measure.estimators.composition import Composition
from specialize.measure.estimators.layer import LayerMeasurement, measure_layer
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_p_values
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.routers import (
    check_annotation,
    check_labelled,
    check_layers,
    iterate_layers,
    name_rows,
    name_run,
)

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_OF_A_LAYER = ("mutual_information", "uncertainty_coefficient", "label_entropy", "load_entropy")
_OF_AN_EXPERT = ("load", "specific_information")
_COMPOSITION = {
    "top_share": "top_expert_share",
    "above_uniform": "top_expert_share_above_uniform",
    "above_load": "top_expert_share_above_load",
}


def measure_specialization(
    trace: "RoutingTrace",
    annotation: Annotation,
    *,
    run_name: str | None = None,
    rule: SlotRule = "selection",
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure every layer of a trace, and every random router in it, against one annotation.

    Rows, by ``metric``: for each layer ``mutual_information``, ``uncertainty_coefficient`` (the share of
    H(label) that one routing decision removes), ``label_entropy`` and ``load_entropy``; for each expert
    ``load`` and ``specific_information``; for each label that occurs and each expert ``lift``; of labels of tokens,
    for each label that occurs and, without a label, over all tokens, ``top_expert_share`` (Spec),
    ``top_expert_share_above_uniform`` (delta U) and ``top_expert_share_above_load``; and once
    ``max_uncertainty_coefficient``, the largest over the layers, whose p-value comes from the largest of
    each null draw and so is one test for the whole model. See `measure_layer` for units, nulls and intervals.

    Args:
        trace: an open trace.
        annotation: labels for its tokens or for its documents.
        run_name: the run's name in the frame; the name of the trace's folder unless given.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        permutations: number of permutations under the null.
        num_blocks: the most blocks of documents for the jackknife.
        seed: seed of the null; the same permutations serve all layers.
        progress: called with (routers done, routers in all).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`, random routers (`routing`) after the model's own.
        Benjamini-Hochberg q-values are over all layers, experts and labels of one metric and routing. Where
        fewer than two labels occur the information is 0 and the uncertainty coefficient NaN.

    Raises:
        MeasurementError: when the annotation does not fit the trace or labels nothing that was routed, or
            when the trace has no layers.
    """
    check_layers(trace)
    check_annotation(trace, annotation)
    check_labelled(annotation)
    measured = [
        (
            router,
            measure_layer(
                annotation.codes,
                **layer.masses,
                level=annotation.level,
                num_labels=len(annotation.labels),
                permutations=permutations,
                num_blocks=num_blocks,
                seed=seed,
            ),
        )
        for router, layer in iterate_layers(trace, rule=rule, progress=progress)
    ]

    frames = []
    for routing in dict.fromkeys(router.routing for router, _ in measured):
        own = [(router, layer) for router, layer in measured if router.routing == routing]
        rows = [_layer_rows(router, layer, annotation.labels) for router, layer in own]
        rows.append(estimate_rows(largest_uncertainty([layer for _, layer in own]), "max_uncertainty_coefficient"))
        frame = pd.concat(rows, ignore_index=True)
        frame["routing"] = routing
        frame["q_value"] = adjust_p_values(frame)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    return as_results(frame.assign(run=name_run(trace, run_name), label_set=annotation.name))


def largest_uncertainty(measured: Sequence[LayerMeasurement]) -> Estimate:
    """Find the largest uncertainty coefficient over layers, with the p-value of a largest.

    Each null draw contributes its own largest over the layers, so that choosing the layer after the fact is
    paid for (Westfall & Young 1993). The layers must have been measured with one seed and number of draws.
    There is no interval.

    Returns:
        The estimate; NaN where no layer has an uncertainty coefficient.
    """
    # fmax passes over a layer whose coefficient is undefined
    value = np.fmax.reduce([layer.uncertainty_coefficient.value for layer in measured])
    null = np.fmax.reduce([layer.null_uncertainty for layer in measured])
    first = measured[0].uncertainty_coefficient
    return make_estimates(
        value,
        np.nan,
        unit=first.unit,
        num_blocks=0,
        n_tokens=first.n_tokens,
        n_documents=first.n_documents,
        null=null,
    )[()]


def _layer_rows(router: "RouterSpec", measurement: LayerMeasurement, labels: Sequence[str]) -> pd.DataFrame:
    frames = [estimate_rows(getattr(measurement, metric), metric) for metric in _OF_A_LAYER + _OF_AN_EXPERT]
    lift = estimate_rows(measurement.lift, "lift", labels)
    occurs = measurement.table.sum(axis=1) > 0
    frames.append(lift[np.repeat(occurs, measurement.table.shape[1])])
    if measurement.composition is not None:
        frames += _composition_rows(measurement.composition, labels)
    return name_rows(frames, router)


def _composition_rows(composition: Composition, labels: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield a row a label that occurs, and one without label for the mean over all tokens."""
    for name, metric in _COMPOSITION.items():
        rows = estimate_rows(getattr(composition, name), metric).assign(expert=pd.NA, label=[*labels, None])
        yield rows[rows["value"].notna()]
