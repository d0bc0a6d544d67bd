"""Compare two traces of one corpus, or a model with its random routers; results as a tidy frame."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specialize.choices import SlotRule
from specialize.column import compute_column
from specialize.errors import MeasurementError
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.pairing import Difference
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.agreement import AgreementRows
from specialize.measure.runs.matching import check_same_corpus, pair_routers, same_tokens
from specialize.measure.runs.replicates import Key, Replicates, replicate
from specialize.measure.runs.routers import (
    Columns,
    check_annotation,
    has_tokens,
    random_draws,
    read_columns,
    read_layer,
)
from specialize.measure.runs.routing import follows
from specialize.measure.runs.routing_replicates import replicate_recall, replicate_routing

if TYPE_CHECKING:
    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


def compare_traces(
    first: "RoutingTrace",
    second: "RoutingTrace | None" = None,
    annotations: "Sequence[Annotation]" = (),
    *,
    by: "Sequence[Annotation]" = (),
    run_name: str | None = None,
    rule: SlotRule = "selection",
    margin: float | None = None,
    num_blocks: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the differences in routing between two traces by layer, paired over blocks of documents.

    Rows, by ``metric``, with values of the first trace minus values of the second:

    - ``difference of mutual_information`` (bits) and ``difference of uncertainty_coefficient`` (shares of H(label))
      for each annotation, and ``difference of signature_difference`` (cosine) for those of documents; ``difference of
      load_entropy`` (bits), of ``first_expert_repeats`` and ``any_expert_repeats`` (shares of neighbours), of
      ``lru_hit_rate``, ``optimal_hit_rate``, ``segment_coverage`` and ``same_token_overlap_above_any`` (shares of
      slots), and of ``next_layer_recall`` (shares of the next layer's slots), as in `measure_routing`. The interval
      is a jackknife that deletes each block of documents from both sides at once; ``p_value`` is that of the
      two-sided paired t test over the same blocks. See `estimate_difference`.
    - ``mean difference of ...``: the difference of the means over all layers, without ``layer``.
    - With a margin, ``equivalence of ...`` and ``mean equivalence of ...``: the same value with a 90 % interval and
      the p-value of two one-sided tests, whose alternative is that the difference is within the margin.
    - ``saturation``: the share of slots with the same experts in both traces, where numbers of experts and of slots
      are equal; see `measure_saturation`. By label of `by`, too, as means over tokens without chance.
    - In the same layers ``first_expert_agreement`` and ``mismatched_tokens``, the shares of tokens with the same first
      expert and with other sets of experts; ``gate_weight_difference``, the mean over tokens of the absolute difference
      of gate weights of experts that both chose, where both traces have them; and, without ``layer``,
      ``mismatched_tokens_in_any_layer``, the share of tokens with another set in at least one of them, also by label.

    Agreement is not computed against random routers, whose expert indices are unrelated to the model's.

    Routers are paired by stack, layer number and order within the layer. Where several random routers were recorded,
    the mean of their statistics is the second side. Where the tokens of the traces differ, as
    with two tokenizers, only annotations of documents are compared.

    Args:
        first: an open trace.
        second: a trace of the same documents; None to compare the model's routers with the random routers of the
            first trace.
        annotations: labels of the tokens or documents, the same for both traces.
        by: labels by which agreement is measured, too; of traces with the same tokens those of either.
        run_name: name of the comparison in the frame, by default made from the names of the folders.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        margin: equivalence margin, the largest negligible absolute difference, in the unit of each metric.
        num_blocks: maximum number of document blocks for the jackknife.
        progress: called with (pairs of routers done, total pairs).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`. ``routing`` is learned, random (where both traces have random
        routers) or "learned − random". Q-values are Benjamini-Hochberg over all rows of one metric and routing.

    Raises:
        MeasurementError: the traces are of different corpora or without tokens, no routers can be paired, there are
            no random routers, an annotation does not match the trace, or there is nothing to compare.
    """
    other = first if second is None else second
    if second is not None:
        check_same_corpus(first, second)
    if any(has_tokens(trace) and not trace.num_tokens for trace in (first, other)):
        raise MeasurementError(
            f"{first.path} and {other.path}: expected tokens in both, got none: trace a corpus first"
        )
    places = read_columns(first)
    other_places = places if second is None else read_columns(second)
    alike = second is None or same_tokens(first, second)
    usable = [each for each in annotations if alike or each.level == "document"]
    for annotation in [*usable, *(by if alike else ())]:
        check_annotation(first, annotation)
    if not (alike or usable):
        raise MeasurementError(
            f"{first.path} and {other.path}: expected the same tokens or a document label set in both, got neither: "
            "with different tokenizers only labels of documents can be compared"
        )
    pairs = list(pair_routers(first, second))
    measured: dict[str, list[tuple[Any, dict[Key, Replicates]]]] = {}
    frames: list[pd.DataFrame] = []
    types = _read_types(places, other_places) if alike else None
    with AgreementRows((first, other), by if alike else (), num_blocks=num_blocks) as agreement:
        before: tuple[tuple[Any, Any], list[LayerInput]] | None = None
        for done, (routing, one, two) in enumerate(pairs):
            if progress is not None:
                progress(done, len(pairs))
            seconds = random_draws(first, one, rule=rule) if second is None else [two]
            sides = [read_layer(first, one, places, rule=rule)]
            sides += [read_layer(other, each, other_places, rule=rule) for each in seconds]
            replicates = dict(replicate(sides, usable, num_blocks=num_blocks))
            if alike:
                replicates |= replicate_routing(sides, types, num_blocks=num_blocks)
                if before is not None and _all_follow(*before, (one, two), sides):
                    measured[routing][-1][1].update(replicate_recall(before[1], sides, num_blocks=num_blocks))
                before = (one, two), sides
            measured.setdefault(routing, []).append((one, replicates))
            same_slots = sides[0].has_tokens and (one.num_experts, one.top_k) == (two.num_experts, two.top_k)
            if second is not None and alike and same_slots:
                frames += agreement.of_layer(routing, (one, two), (sides[0], sides[1]))
        if progress is not None:
            progress(len(pairs), len(pairs))
        frames += agreement.of_all_layers()
    frames += [
        _rows(layers, margin).assign(routing=routing)
        for routing, layers in measured.items()
        if any(replicates for _, replicates in layers)
    ]
    if not frames:
        raise MeasurementError(
            f"{first.path} and {other.path}: expected labels of documents that both sides routed, got none: "
            "check the labels"
        )
    frame = adjust_by_routing(pd.concat(frames, ignore_index=True))
    name = first.path.name if second is None else f"{first.path.name} − {second.path.name}"
    return as_results(frame.assign(run=name if run_name is None else run_name))


def _read_types(first: Columns, second: Columns) -> Any:
    """Return the token ids of two traces of the same tokens, negative where neither knows them; None where no trace."""
    ids = [columns["token_id"] for columns in (first, second) if "token_id" in columns]
    if not ids:
        return None
    return compute_column(len(ids[0]), lambda rows: np.maximum.reduce([each[rows] for each in ids]), dtype=np.int32)


def _all_follow(
    before: tuple[Any, Any], before_sides: Sequence[LayerInput], after: tuple[Any, Any], sides: Sequence[LayerInput]
) -> bool:
    """Return whether the routers of both sides follow those of the pair before."""
    return all(follows((before[side], before_sides[side]), (after[side], sides[side])) for side in range(len(after)))


def _rows(layers: list[tuple[Any, dict[Key, Replicates]]], margin: float | None) -> pd.DataFrame:
    """Return the rows of each layer and of the mean over layers of the quantities that all layers have."""
    frames = [
        _difference_rows(replicates.difference(margin), metric, label_set, router=router)
        for router, measured in layers
        for (label_set, metric), replicates in measured.items()
    ]
    shared = [key for key in layers[0][1] if all(key in measured for _, measured in layers)]
    for label_set, metric in shared:
        each = [measured[label_set, metric] for _, measured in layers]
        mean = Replicates(
            np.mean([replicates.first for replicates in each], axis=0),
            np.mean([replicates.second for replicates in each], axis=0),
            each[0].unit,
            each[0].n_tokens,
            each[0].n_documents,
        )
        frames.append(_difference_rows(mean.difference(margin), metric, label_set, router=None))
    return pd.concat(frames, ignore_index=True)


def _difference_rows(difference: Difference, metric: str, label_set: str | None, *, router: Any) -> pd.DataFrame:
    mean = "mean " if router is None else ""
    frames = [estimate_rows(difference.difference, f"{mean}difference of {metric}")]
    if difference.equivalence is not None:
        frames.append(estimate_rows(difference.equivalence, f"{mean}equivalence of {metric}"))
    layer, name = (pd.NA, None) if router is None else (router.layer, router.name)
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(label_set=label_set, layer=pd.array([layer] * len(frame), dtype="Int64"), router=name)
