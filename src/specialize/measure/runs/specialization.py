"""Measure the association of a trace's routing with one label set; results as a tidy frame."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.choices import SlotRule
from specialize.engine import LOCAL, Engine
from specialize.measure.base.estimate import Estimate, make_estimates
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.nulls import count_extreme
from specialize.measure.base.random import Seed
from specialize.measure.base.sequential import count_more
from specialize.measure.estimators.composition import Composition
from specialize.measure.estimators.layer import LayerMeasurement, associate_layer
from specialize.measure.estimators.null_uncertainty import draw_null_uncertainty
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.random_routers import random_router_rows
from specialize.measure.runs.routers import (
    Columns,
    check_annotation,
    check_labelled,
    check_layers,
    map_layers,
    name_rows,
    name_run,
    read_columns,
    read_layer,
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
    engine: Engine = LOCAL,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the association of routing with one annotation, for each layer of a trace and the random routers in it.

    Rows, by ``metric``:

    - of each layer, ``mutual_information``, ``label_entropy`` and ``load_entropy`` in bits, and
      ``uncertainty_coefficient``, I / H(label).
    - of each expert, ``load`` (share of all mass) and ``specific_information`` (bits).
    - of each occurring label and each expert, ``lift``, a ratio.
    - for labels of tokens, of each occurring label and, without ``label``, over all tokens, ``top_expert_share``
      (Spec), ``top_expert_share_above_uniform`` (delta U) and ``top_expert_share_above_load``, shares of the label's
      mass.
    - once per routing, ``max_uncertainty_coefficient``, the maximum over layers, with the p-value of the maximum
      statistic: one test for the whole model. Where the p-value of the model's own router lies near 0.05, more
      permutations are drawn for it (`n_permutations`), see `specialize.measure.base.sequential.count_more`.
    - of each layer with random routers, ``difference of uncertainty_coefficient`` (``routing`` is "learned − random"),
      ``uncertainty_coefficient_among_random_routers`` and ``random_router_draws``: the learned router against all
      random routers beside it, see `random_router_rows`. All other rows of ``routing`` random are of the first one.

    See `measure_layer` for definitions, nulls and intervals.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        run_name: name of the run in the frame, by default that of the trace's folder.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null; all layers share the same permutations.
        engine: measures the layers; the frame does not depend on it.
        progress: called with (routers done, total routers).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`; rows of random routers (``routing``) follow the model's own.
        Q-values are Benjamini-Hochberg over all layers, experts and labels of one metric and routing. With fewer than
        two occurring labels the mutual information is 0 and the uncertainty coefficient NaN.

    Raises:
        MeasurementError: the annotation does not match the trace, no labelled unit was routed, or the trace has no
            layers or no tokens.
    """
    check_layers(trace)
    check_annotation(trace, annotation)
    check_labelled(annotation)
    places = read_columns(trace)

    def measure(router: "RouterSpec", layer: LayerInput) -> tuple[LayerMeasurement, list[pd.DataFrame]]:
        measurement = associate_layer(
            layer,
            annotation.codes,
            level=annotation.level,
            num_labels=len(annotation.labels),
            permutations=permutations,
            num_blocks=num_blocks,
            seed=seed,
        )
        if router.routing != "learned":
            return measurement, []
        how: dict[str, Any] = {"places": places, "rule": rule, "num_blocks": num_blocks}
        return measurement, list(random_router_rows(trace, router, layer, annotation, **how))

    measured = []
    among: list[pd.DataFrame] = []
    layers = map_layers(trace, measure, rule=rule, places=places, engine=engine, progress=progress)
    for router, (measurement, rows_among) in layers:
        measured.append((router, measurement))
        among += rows_among

    def draw_more(permutations: int, seed: Seed) -> NDArray[np.float64]:
        how: dict[str, Any] = {"permutations": permutations, "num_blocks": num_blocks, "seed": seed}
        return _draw_largest(trace, annotation, places, rule=rule, engine=engine, **how)

    frames = []
    for routing in dict.fromkeys(router.routing for router, _ in measured):
        own = [(router, layer) for router, layer in measured if router.routing == routing]
        rows = [_layer_rows(router, layer, annotation.labels) for router, layer in own]
        largest = largest_uncertainty(
            [layer for _, layer in own], seed=seed, draw_more=draw_more if routing == "learned" else None
        )
        rows.append(estimate_rows(largest, "max_uncertainty_coefficient"))
        frames.append(pd.concat(rows, ignore_index=True).assign(routing=routing))
    frame = adjust_by_routing(pd.concat([*frames, *among], ignore_index=True))
    return as_results(frame.assign(run=name_run(trace, run_name), label_set=annotation.name))


def largest_uncertainty(
    measured: Sequence[LayerMeasurement],
    *,
    seed: int = 0,
    draw_more: Callable[[int, Seed], NDArray[np.float64]] | None = None,
) -> Estimate:
    """Compute the maximum of the uncertainty coefficient over layers, with the p-value of the maximum statistic.

    Each permutation under the null contributes its own maximum over layers, which corrects for selecting the layer
    after the fact. There is no interval.

    Args:
        measured: the layers, measured with the same seed and number of permutations.
        seed: their seed.
        draw_more: draws the maximum of so many further permutations, from a stream of the seed, float64 [permutation];
            called where the p-value lies near 0.05, see `specialize.measure.base.sequential.count_more`. By
            default there are only the permutations of the layers.

    Returns:
        The estimate, a share of H(label); NaN where the uncertainty coefficient is undefined in all layers.

    Source:
        Westfall & Young (1993), Resampling-Based Multiple Testing.
    """
    # fmax ignores layers whose coefficient is undefined
    value = np.fmax.reduce([layer.uncertainty_coefficient.value for layer in measured])
    null = np.fmax.reduce([layer.null_uncertainty for layer in measured])
    if draw_more is not None and np.isfinite(value):
        asked = len(null)
        while more := count_more(int(count_extreme(value, null)), len(null), asked=asked):
            null = np.concatenate([null, draw_more(more, (seed, len(null)))])
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


def _draw_largest(
    trace: "RoutingTrace",
    annotation: Annotation,
    places: Columns,
    *,
    rule: SlotRule,
    engine: Engine,
    permutations: int,
    num_blocks: int,
    seed: Seed,
) -> NDArray[np.float64]:
    """Draw the maximum over the model's own routers of U under the null, float64 [permutation]; a layer at a time."""

    def draw(router: "RouterSpec") -> NDArray[np.float64]:
        return draw_null_uncertainty(
            read_layer(trace, router, places, rule=rule),
            annotation.codes,
            level=annotation.level,
            num_labels=len(annotation.labels),
            permutations=permutations,
            num_blocks=num_blocks,
            seed=seed,
        )

    largest = np.full(permutations, np.nan)
    for null in engine.map(draw, trace.layers):
        largest = np.fmax(largest, null)
    return largest


def _layer_rows(router: "RouterSpec", measurement: LayerMeasurement, labels: Sequence[str]) -> pd.DataFrame:
    frames = [estimate_rows(getattr(measurement, metric), metric) for metric in _OF_A_LAYER + _OF_AN_EXPERT]
    lift = estimate_rows(measurement.lift, "lift", labels)
    occurs = measurement.table.sum(axis=1) > 0
    frames.append(lift[np.repeat(occurs, measurement.table.shape[1])])
    if measurement.composition is not None:
        frames += _composition_rows(measurement.composition, labels)
    return name_rows(frames, router)


def _composition_rows(composition: Composition, labels: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield one row per occurring label, and one without a label for the mean over all tokens."""
    for name, metric in _COMPOSITION.items():
        rows = estimate_rows(getattr(composition, name), metric).assign(expert=pd.NA, label=[*labels, None])
        yield rows[rows["value"].notna()]
