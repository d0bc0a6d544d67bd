"""How far the routing of a whole trace goes with one label set, as rows of the result schema."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from specialize.annotation import NO_LABEL, Annotation
from specialize.errors import MeasurementError
from specialize.measure.base.counting import SlotRule
from specialize.measure.base.estimate import Estimate
from specialize.measure.base.nulls import p_values, summarize_null
from specialize.measure.estimators.composition import Composition
from specialize.measure.estimators.layer import LayerMeasurement, measure_layer
from specialize.measure.results.files import as_results
from specialize.measure.results.rows import estimate_rows

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
    run: str | None = None,
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
        run: the run's name in the frame; the name of the trace's folder unless given.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        permutations: number of permutations under the null.
        num_blocks: the most blocks of documents for the jackknife.
        seed: seed of the null; the same draws serve all layers.
        progress: called with (routers done, routers in all).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`, random routers (`routing`) after the model's own.
        Benjamini-Hochberg q-values are over all layers, experts and labels of one metric and routing. Where
        fewer than two labels occur the information is 0 and the uncertainty coefficient NaN.

    Raises:
        MeasurementError: when the annotation does not fit the trace or labels nothing that was routed, or
            when the trace has no layers.
    """
    size = trace.num_tokens if annotation.level == "token" else trace.num_documents
    if len(annotation.codes) != size:
        raise MeasurementError(
            f"annotation {annotation.name!r} should label {size} {annotation.level}s of the trace, "
            f"got {len(annotation.codes)}: annotate this trace again"
        )
    if not np.any(annotation.codes != NO_LABEL):
        raise MeasurementError(
            f"annotation {annotation.name!r} labels no {annotation.level}: annotate this trace again"
        )
    if not trace.layers:
        raise MeasurementError("expected a trace with a routed layer, got none: capture a model with routers")
    documents = trace.tokens()["document"].to_numpy()
    routers = [*trace.layers, *trace.random_routers]

    measured: list[LayerMeasurement] = []
    for done, router in enumerate(routers):
        if progress is not None:
            progress(done, len(routers))
        measured.append(
            measure_layer(
                annotation.codes,
                trace.experts(router.name, routing=router.routing),
                documents,
                level=annotation.level,
                num_labels=len(annotation.labels),
                num_experts=router.num_experts,
                weights=trace.weights(router.name, routing=router.routing) if rule == "gate" else None,
                rule=rule,
                permutations=permutations,
                num_blocks=num_blocks,
                seed=seed,
            )
        )
    if progress is not None:
        progress(len(routers), len(routers))

    frames = []
    for routing in dict.fromkeys(router.routing for router in routers):
        own = [(router, layer) for router, layer in zip(routers, measured, strict=True) if router.routing == routing]
        rows = [_layer_rows(router, layer, annotation.labels) for router, layer in own]
        rows.append(estimate_rows(largest_uncertainty([layer for _, layer in own]), "max_uncertainty_coefficient"))
        frame = pd.concat(rows, ignore_index=True)
        frame["routing"] = routing
        frame["q_value"] = adjust_p_values(frame)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame["run"] = trace.path.name if run is None else run
    frame["label_set"] = annotation.name
    return as_results(frame)


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
    null_mean, null_low, null_high = summarize_null(null)
    first = measured[0].uncertainty_coefficient
    return Estimate(
        value=float(value),
        unit=first.unit,
        null_mean=float(null_mean),
        p_value=float(p_values(value, null)),
        n_tokens=first.n_tokens,
        n_documents=first.n_documents,
        null_low=float(null_low),
        null_high=float(null_high),
    )


def adjust_p_values(frame: pd.DataFrame) -> pd.Series:
    """Compute q-values over all rows of one metric that have a p-value; NaN elsewhere.

    Args:
        frame: columns ``metric`` and ``p_value``.

    Returns:
        float64, aligned with the frame.

    Source:
        Benjamini & Hochberg (1995), Controlling the false discovery rate.
    """
    adjusted = pd.Series(np.nan, index=frame.index, dtype=np.float64)
    for _, tested in frame["p_value"].dropna().groupby(frame["metric"]):
        adjusted[tested.index] = false_discovery_control(tested.to_numpy(), method="bh")
    return adjusted


def _layer_rows(router: "RouterSpec", measurement: LayerMeasurement, labels: Sequence[str]) -> pd.DataFrame:
    frames = [estimate_rows(getattr(measurement, metric), metric) for metric in _OF_A_LAYER + _OF_AN_EXPERT]
    lift = estimate_rows(measurement.lift, "lift", labels)
    occurs = measurement.table.sum(axis=1) > 0
    frames.append(lift[np.repeat(occurs, measurement.table.shape[1])])
    if measurement.composition is not None:
        frames += _composition_rows(measurement.composition, labels)
    return pd.concat(frames, ignore_index=True).assign(layer=router.layer, router=router.name)


def _composition_rows(composition: Composition, labels: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield a row a label that occurs, and one without label for the mean over all tokens."""
    for name, metric in _COMPOSITION.items():
        rows = estimate_rows(getattr(composition, name), metric).assign(expert=pd.NA, label=[*labels, None])
        yield rows[rows["value"].notna()]
