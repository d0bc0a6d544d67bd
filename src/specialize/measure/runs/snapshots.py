"""Measure a snapshot of a model in training: load, association with labels, saturation; results as a tidy frame."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from numpy.typing import ArrayLike

from specialize.annotation import Annotation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.saturation import measure_saturation
from specialize.measure.estimators.uncertainty import measure_uncertainty
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.routers import name_rows
from specialize.measure.runs.routing import load_rows

if TYPE_CHECKING:
    from specialize.trace import RouterSpec

TO_PREVIOUS = "saturation_to_previous"
TO_END = "saturation"


def measure_snapshot(
    layers: "Sequence[tuple[RouterSpec, LayerInput]]",
    annotations: Sequence[Annotation],
    *,
    run_name: str,
    previous: Sequence[ArrayLike] | None = None,
    permutations: int = 20,
    num_blocks: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the routing of a model on a fixed sample, as it is at one step of its training.

    Rows, by ``metric``, as in `measure_specialization` and `measure_routing`: ``uncertainty_coefficient`` of each layer
    and label set, with its null; ``load`` of each expert, ``load_entropy``, ``load_variation``, ``load_peak`` and
    ``dead_experts``; and ``saturation_to_previous``, the router saturation of the model's own routers against the
    snapshot before, see `measure_saturation`.

    Args:
        layers: each router with its decisions on the sample.
        annotations: labels of the tokens or documents of the sample.
        run_name: name of the run in the frame.
        previous: the decisions of the same routers at the snapshot before, integers [tokens, k] each.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null; all layers, and all snapshots, share the same permutations.

    Returns:
        A frame with the columns of `RESULT_COLUMNS`.

    Raises:
        MeasurementError: an annotation does not match the sample, or no labelled unit was routed.
    """
    frames = []
    for number, (router, layer) in enumerate(layers):
        parts = load_rows(layer, num_blocks)
        for annotation in annotations:
            measured = measure_uncertainty(
                layer,
                annotation.codes,
                level=annotation.level,
                num_labels=len(annotation.labels),
                permutations=permutations,
                num_blocks=num_blocks,
                seed=seed,
            )
            parts.append(estimate_rows(measured, "uncertainty_coefficient").assign(label_set=annotation.name))
        if previous is not None and router.routing == "learned":
            parts.append(_saturation_rows(layer, previous[number], TO_PREVIOUS, num_blocks))
        frames.append(name_rows(parts, router))
    frame = adjust_by_routing(pd.concat(frames, ignore_index=True))
    return as_results(frame.assign(run=run_name))


def saturation_rows(
    layers: "Sequence[tuple[RouterSpec, LayerInput]]",
    end: Sequence[ArrayLike],
    *,
    run_name: str,
    num_blocks: int = 50,
) -> pd.DataFrame:
    """Measure ``saturation``, the router saturation of a snapshot against the end of training, by layer.

    Args:
        layers: each router with its decisions at the snapshot; those of random routers are passed over.
        end: the decisions of the same routers at the end, integers [tokens, k] each.
        run_name: name of the run in the frame.
        num_blocks: maximum number of document blocks for the jackknife.

    Returns:
        A frame with the columns of `RESULT_COLUMNS`.
    """
    frames = [name_rows([rows], router) for router, rows in _each(layers, end, num_blocks)]
    return as_results(pd.concat(frames, ignore_index=True).assign(run=run_name))


def _each(
    layers: "Sequence[tuple[RouterSpec, LayerInput]]", end: Sequence[ArrayLike], num_blocks: int
) -> "Iterator[tuple[RouterSpec, pd.DataFrame]]":
    for (router, layer), experts in zip(layers, end, strict=True):
        if router.routing == "learned":
            yield router, _saturation_rows(layer, experts, TO_END, num_blocks)


def _saturation_rows(layer: LayerInput, other: ArrayLike, metric: str, num_blocks: int) -> pd.DataFrame:
    saturation = measure_saturation(
        layer.experts,
        other,
        layer.documents,
        num_experts=layer.num_experts,
        groups=layer.groups,
        num_blocks=num_blocks,
    )
    return estimate_rows(saturation, metric)
