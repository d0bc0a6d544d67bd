"""Probe a trace: predict a label from the experts of all layers; results as a tidy frame.

The path of a token is the sequence of experts that it was routed to, layer by layer.

Source: Antoine, Béchet & Langlais (2025), who predict the part of speech from routing paths.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from specialize.annotation import Annotation
from specialize.choices import SlotRule
from specialize.column import CHUNK_ROWS
from specialize.errors import MeasurementError
from specialize.measure.base.counting import check_range, spread_mass
from specialize.measure.base.random import generator
from specialize.measure.estimators.observed import sum_usage
from specialize.measure.estimators.probes import Features, PathProbe, probe_paths
from specialize.measure.estimators.word_baseline import Baseline
from specialize.measure.results.files import as_results
from specialize.measure.runs.routers import (
    Columns,
    check_annotation,
    check_layers,
    count_rows,
    name_run,
    read_columns,
    read_layer,
)
from specialize.measure.runs.word_forms import WordForms

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

# name of the estimate: metric and label; the label of the word-form baseline is word form or token id
_METRICS = {
    "linear": ("probe_accuracy", "linear"),
    "mlp": ("probe_accuracy", "mlp"),
    "majority": ("baseline_accuracy", "majority"),
    "word_form": ("baseline_accuracy", None),
    "control": ("control_accuracy", "linear"),
    "selectivity": ("selectivity", "linear"),
    "beyond_word_form": ("probe_beyond_word_form", "linear"),
}


def probe_trace(
    trace: "RoutingTrace",
    annotation: Annotation,
    *,
    run_name: str | None = None,
    rule: SlotRule = "selection",
    folds: int = 5,
    max_tokens: int = 20_000,
    mlp: bool = True,
    permutations: int = 50,
    num_blocks: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure how well probes predict a label from routing, for the model's routers and for its random routers.

    For labels of tokens, probes are fitted and scored on at most ``max_tokens`` labelled tokens, sampled once without
    replacement, so that their cost does not grow with the trace. The word-form baseline is scored on the same tokens
    but fitted on all labelled tokens of the training documents. For labels of documents, features are the standardised
    mean usage of the experts of all layers, and the null permutes labels across documents.

    Rows, by ``metric``, held-out accuracies as shares of tokens or documents: ``probe_accuracy`` (``label`` linear or
    mlp), ``baseline_accuracy`` (majority and word form, or token id where the trace has no text), ``control_accuracy``
    (of the linear probe on the control task), ``selectivity`` (linear minus control task) and
    ``probe_beyond_word_form`` (linear minus word form).

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        run_name: name of the run in the frame, by default that of the trace's folder.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        folds: number of cross-validation folds of documents.
        max_tokens: maximum number of tokens (or documents) on which probes are fitted and scored.
        mlp: whether to fit a multilayer perceptron as well.
        permutations: number of refits with permuted labels under the null; for labels of documents only.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the sample, the control task, the multilayer perceptron and the null.
        progress: called with (fits done, total fits); restarts for the random routers.

    Returns:
        A frame with the columns of `RESULT_COLUMNS`; rows of random routers (``routing``) follow the model's own.

    Raises:
        MeasurementError: the annotation does not match the trace or has too few labels, or the trace has no layers or
            no tokens.
    """
    check_annotation(trace, annotation)
    check_layers(trace)
    if max_tokens < 2:
        raise MeasurementError(f"max_tokens must be at least 2, got {max_tokens}: 20000 is usual")
    places, of_tokens = read_columns(trace), annotation.level == "token"
    chosen = _draw(trace, annotation, places, max_tokens, seed)
    frames = []
    with WordForms(trace, places) if of_tokens and len(chosen) else nullcontext() as words:
        kind, baseline = None if words is None else words.kind, None
        if words is not None and kind is not None:
            baseline = Baseline(words.numbers, annotation.codes, places["document"], chosen)
        for routers in (trace.layers, trace.random_routers):
            if routers:
                gather = _token_paths if of_tokens else _document_paths
                measured = probe_paths(
                    annotation.codes[chosen],
                    gather(trace, routers, chosen, rule),
                    places["document"][chosen] if of_tokens else chosen,
                    baseline=baseline,
                    folds=folds,
                    mlp=mlp,
                    permutations=0 if of_tokens else permutations,
                    groups=trace.groups,
                    num_blocks=num_blocks,
                    seed=seed,
                    progress=progress,
                )
                rows = _rows(measured, kind, f"share of {annotation.level}s")
                frames.append(rows.assign(routing=routers[0].routing))
    frame = pd.concat(frames, ignore_index=True)
    return as_results(frame.assign(run=name_run(trace, run_name), label_set=annotation.name))


def _draw(trace: "RoutingTrace", annotation: Annotation, places: Columns, most: int, seed: int) -> NDArray[np.int64]:
    """Draw labelled tokens, or labelled documents with tokens, without replacement; all if they are few.

    Returns:
        int64 [units], in ascending order.
    """
    codes, units = annotation.codes, [np.zeros(0, dtype=np.int64)]
    firsts = range(0, len(codes), CHUNK_ROWS)
    routed = None if annotation.level == "token" else count_rows(trace, places) > 0
    count = sum(len(_labelled(codes, routed, first)) for first in firsts)
    drawn = np.arange(count)
    if count > most:  # memory is that of the sample
        drawn = np.sort(generator(seed).choice(count, size=most, replace=False, shuffle=False))
    before = 0
    for first in firsts:
        labelled = _labelled(codes, routed, first)
        own = slice(*np.searchsorted(drawn, [before, before + len(labelled)]))
        units.append(labelled[drawn[own] - before])
        before += len(labelled)
    return np.concatenate(units)


def _labelled(codes: Any, routed: NDArray[np.bool_] | None, first: int) -> NDArray[np.int64]:
    """Return the units with a label among those of a slice; of documents, those with tokens."""
    rows = slice(first, first + CHUNK_ROWS)
    labelled = np.asarray(codes[rows]) >= 0
    return first + np.flatnonzero(labelled if routed is None else labelled & routed[rows])


def _token_paths(
    trace: "RoutingTrace", routers: "Sequence[RouterSpec]", chosen: NDArray[np.int64], rule: SlotRule
) -> Features:
    """Return the path features of the chosen tokens, reading one layer at a time."""
    places, experts, gates = read_columns(trace), [], []
    for router in routers:
        layer = read_layer(trace, router, places, rule=rule)
        experts.append(layer.experts[chosen])
        if layer.weights is not None:
            gates.append(layer.weights[chosen])
    return path_features(experts, [router.num_experts for router in routers], weights=gates or None, rule=rule)


def _document_paths(
    trace: "RoutingTrace", routers: "Sequence[RouterSpec]", chosen: NDArray[np.int64], rule: SlotRule
) -> Features:
    """Return the mean usage of each layer's experts by document, standardised; constant columns are 0."""
    places, usage = read_columns(trace), []
    for router in routers:
        layer = read_layer(trace, router, places, rule=rule)
        table = sum_usage(layer, trace.num_documents)[chosen]
        usage.append(table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300))
    values = np.concatenate(usage, axis=1)
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def _rows(measured: PathProbe, kind: str | None, unit: str) -> pd.DataFrame:
    rows = []
    for name, (metric, label) in _METRICS.items():
        estimate = getattr(measured, name)
        if estimate is not None:
            rows.append(asdict(estimate) | {"metric": metric, "label": label or kind, "unit": unit})
    return pd.DataFrame(rows)


def path_features(
    experts: Sequence[NDArray[np.integer]],
    num_experts: Sequence[int],
    *,
    weights: Sequence[NDArray[np.floating]] | None = None,
    rule: SlotRule = "selection",
) -> sparse.csr_array:
    """Encode the experts of all layers as features: one column per expert of each layer, 1 where it was chosen.

    Args:
        experts: integers [tokens, k] of each layer; negative where a slot holds no expert.
        num_experts: E of each layer.
        weights: gate weights [tokens, k] of each layer, for the gate rule.
        rule: how a token's mass is spread over its slots, see `spread_mass`. Masses are multiplied by the number of
            slots, so that under the selection rule features are 1 where all slots hold an expert.

    Returns:
        Sparse float64 [tokens, sum of E].

    Raises:
        MeasurementError: layers differ in length, or values are out of range.
    """
    if len({len(layer) for layer in experts}) != 1:
        lengths = ", ".join(str(len(layer)) for layer in experts) or "none"
        raise MeasurementError(f"expected layers with the same tokens, got lengths {lengths}")
    parts = []
    for index, (layer, limit) in enumerate(zip(experts, num_experts, strict=True)):
        chosen, masses = spread_mass(layer, None if weights is None else weights[index], rule=rule)
        check_range("experts", chosen, limit)
        rows, slots = np.nonzero(chosen >= 0)
        masses = np.broadcast_to(masses, chosen.shape)[rows, slots] * chosen.shape[1]
        parts.append(sparse.csr_array((masses, (rows, chosen[rows, slots])), shape=(len(chosen), limit)))
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
