"""Measure the routing itself: load, repeats, co-activation, flow, caches, labels' experts; results as a tidy frame."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specialize.choices import SlotRule
from specialize.engine import LOCAL, Engine
from specialize.measure.base.estimate import EstimateArray
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.balance import balance_layer
from specialize.measure.estimators.coactivation import coactivate_layer
from specialize.measure.estimators.flow import connect_layers
from specialize.measure.estimators.repeats import Repeats, repeat_layer
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.confidence import choice_rows, expert_loss_rows, loss_rows
from specialize.measure.runs.label_usage import label_usage_rows
from specialize.measure.runs.prediction import cache_rows, recall_rows, same_token_rows
from specialize.measure.runs.routers import (
    check_annotation,
    check_layers,
    has_tokens,
    map_layers,
    name_rows,
    name_run,
    read_columns,
    read_layer,
)

if TYPE_CHECKING:
    from specialize.annotation import Annotation
    from specialize.trace import RouterSpec, RoutingTrace

REPEATS = {
    "first_expert_repeats": "first",
    "first_expert_repeats_chance": "first_chance",
    "any_expert_repeats": "shared",
    "any_expert_repeats_chance": "shared_chance",
}
_BALANCE = {
    "load": "load",
    "load_entropy": "entropy",
    "load_variation": "variation",
    "load_peak": "peak",
    "dead_experts": "dead",
}
_MOST_PARTNERS = 64


def measure_routing(
    trace: "RoutingTrace",
    annotations: "Sequence[Annotation]" = (),
    *,
    run_name: str | None = None,
    rule: SlotRule = "selection",
    cache_size: int | None = None,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
    engine: Engine = LOCAL,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the routing of each layer of a trace, and of each random router in it.

    Rows, by ``metric``, with jackknife intervals over document blocks:

    - ``load`` of each expert (share of all mass); ``load_entropy`` (bits), ``load_variation`` and ``load_peak``
      (ratios) and ``dead_experts`` (count), see `measure_balance`.
    - ``first_expert_repeats`` and ``any_expert_repeats``, the share of pairs of neighbouring tokens with the same
      first expert and with at least one expert in common; the null permutes the order of tokens. For each,
      ``..._chance`` is the value expected from the observed load alone. Over all documents, and for each label of
      each annotation of documents. See `measure_repeats`.
    - ``coactivation``, N(i, j) / N(i), a share of the expert's tokens: ``expert`` is i, ``label`` is j, ``label_set``
      is expert; ``null_mean`` is chance at the observed load. See `measure_coactivation`.
    - ``flow_mutual_information`` (bits) and ``flow_uncertainty_coefficient`` (share of H(next expert)) with the next
      router of the same stack, which is the ``label`` (``label_set`` next_router); and ``transition``, P(next expert =
      ``label`` | ``expert``), ``label_set`` next_expert. See `measure_flow`.
    - ``next_layer_recall`` and ``next_layer_recall_above_load``, shares of the next layer's slots, with the next router
      as for the flow. See `measure_next_layer_recall`.
    - ``lru_hit_rate``, ``optimal_hit_rate`` and ``segment_coverage``, shares of slots that a cache serves; ``label`` is
      its number of experts, ``label_set`` cache_size. See `measure_cache`; at most 99 permutations.
    - ``same_token_overlap``, ``any_token_overlap`` and ``same_token_overlap_above_any``, shares of slots. See
      `measure_same_token`. Absent where token ids are unknown or none occurs in two documents.
    - for each annotation of documents (``label_set``): ``common_committee_size``, ``common_committee_mass`` of each
      label, ``common_committee_load`` of each expert in the common group, and ``committee_size`` of each label, see
      `measure_committee`; ``label_overlap`` of each pair of labels, whose ``label`` is "a × b", see
      `measure_label_overlap`; ``signature_within``, ``signature_between`` and ``signature_difference``, see
      `measure_signatures`.
    - where router logits were recorded, ``choice_entropy`` and ``choice_margin`` (bits) over all tokens and by label of
      documents; where losses were, ``next_token_loss`` (bits), of no layer, and of the tokens of each expert. See
      `measure_label_means`.

    A trace without tokens has the rows of the load, and of the groups, overlap and similarity of labels, alone.

    With more than 64 labels, ``label_overlap`` has rows for pairs of the 64 labels of most documents only. With more
    than 65 experts, ``coactivation`` and ``transition`` have rows for the 64 most frequent partners of each expert
    only.

    Args:
        trace: an open trace.
        annotations: labels of its documents; annotations of tokens are ignored.
        run_name: name of the run in the frame, by default that of the trace's folder.
        rule: how a token's mass is spread over its slots, see `spread_mass`; applies to the load, and to what is
            measured of annotations, except repeats.
        cache_size: number of experts in the cache; by default a quarter of a router's.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the nulls; all layers share the same permutations.
        engine: measures the routers; the frame does not depend on it.
        progress: called with (routers done, total routers).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`; rows of random routers (``routing``) follow the model's own.
        Q-values are Benjamini-Hochberg over all rows of one metric and routing.

    Raises:
        MeasurementError: an annotation does not match the trace, or the trace has no layers or no tokens.
    """
    check_layers(trace)
    labelled = [each for each in annotations if each.level == "document"]
    groups = _group(trace, labelled)
    tokens = read_columns(trace)
    types = tokens.get("token_id")
    settings = {"permutations": permutations, "num_blocks": num_blocks, "seed": seed}
    routers = [*trace.layers, *trace.random_routers]
    preceding = dict(zip(routers[1:], routers, strict=False))

    def measure(router: "RouterSpec", layer: LayerInput) -> list[pd.DataFrame]:
        of_labels = [rows for annotation in labelled for rows in label_usage_rows(layer, annotation, settings)]
        if not layer.has_tokens:
            return [name_rows([*load_rows(layer, num_blocks), *of_labels], router)]
        pairs = coactivate_layer(layer, num_blocks=num_blocks)
        parts = [
            *load_rows(layer, num_blocks),
            *_repeat_rows(layer, groups, settings),
            _pair_rows(pairs, "coactivation", "expert"),
            *cache_rows(layer, cache_size, settings),
            *same_token_rows(layer, types, settings),
            *choice_rows(trace, router, layer, [None, *labelled], settings),
            *expert_loss_rows(trace, router, layer, tokens, num_blocks=num_blocks),
            *of_labels,
        ]
        frames = [name_rows(parts, router)]
        before = preceding.get(router)
        if before is not None:
            layer_before = read_layer(trace, before, tokens, rule=rule)
            if follows((before, layer_before), (router, layer)):
                frames.append(name_rows(_flow_rows(layer_before, layer, router.name, settings), before))
        return frames

    measured = map_layers(trace, measure, rule=rule, places=tokens, engine=engine, progress=progress)
    frames = [frame for _, of_router in measured for frame in of_router]
    if has_tokens(trace):
        frames += [rows.assign(routing="learned") for rows in loss_rows(trace, tokens, [None, *labelled], settings)]
    frame = adjust_by_routing(pd.concat(frames, ignore_index=True).assign(run=name_run(trace, run_name)))
    return as_results(frame.sort_values("routing", kind="stable", ignore_index=True))


def stack_of(router: Any) -> str:
    """Return the stack of a router, encoder or decoder."""
    return str(getattr(router, "stack", "decoder"))


def follows(before: tuple[Any, LayerInput], after: tuple[Any, LayerInput]) -> bool:
    """Return whether the second router follows the first: same routing and stack, with tokens in common."""
    same = (before[0].routing, stack_of(before[0])) == (after[0].routing, stack_of(after[0]))
    return same and any(
        bool(np.any((one.experts[:, 0] >= 0) & (two.experts[:, 0] >= 0)))
        for one, two in zip(before[1].parts(), after[1].parts(), strict=True)
    )


def _group(trace: "RoutingTrace", annotations: "Sequence[Annotation]") -> list[tuple[str | None, str | None, Any]]:
    """Return (label set, label, bool [documents]) of all documents together and of each document label."""
    documents = trace.num_documents
    groups: list[tuple[str | None, str | None, Any]] = [(None, None, np.ones(documents, dtype=bool))]
    for annotation in annotations:
        check_annotation(trace, annotation)
        for code, label in enumerate(annotation.labels):
            member = annotation.codes == code
            if member.any():
                groups.append((annotation.name, label, member))
    return groups


def load_rows(layer: LayerInput, num_blocks: int) -> list[pd.DataFrame]:
    """Return the rows of the load of a layer: of each expert, its entropy, variation and peak, and dead experts."""
    balance = balance_layer(layer, num_blocks=num_blocks)
    return [estimate_rows(getattr(balance, name), metric) for metric, name in _BALANCE.items()]


def _repeat_rows(
    layer: LayerInput, groups: list[tuple[str | None, str | None, Any]], settings: dict[str, int]
) -> Iterator[pd.DataFrame]:
    measured = repeat_layer(layer, [member for _, _, member in groups], **settings)
    for (label_set, label, _), repeats in zip(groups, measured, strict=True):
        yield repeat_rows(repeats).assign(label_set=label_set, label=label)


def repeat_rows(repeats: Repeats) -> pd.DataFrame:
    """Return the four rows of the consecutive repeats of a layer."""
    return pd.concat(
        [estimate_rows(getattr(repeats, name), metric) for metric, name in REPEATS.items()], ignore_index=True
    )


def _flow_rows(layer: LayerInput, after: LayerInput, name: str, settings: dict[str, int]) -> list[pd.DataFrame]:
    flow = connect_layers(layer, after, **settings)
    whole = pd.concat(
        [
            estimate_rows(flow.mutual_information, "flow_mutual_information"),
            estimate_rows(flow.uncertainty_coefficient, "flow_uncertainty_coefficient"),
            *recall_rows(layer, after, settings["num_blocks"]),
        ],
        ignore_index=True,
    ).assign(label_set="next_router", label=name)
    return [whole, _pair_rows(flow.transitions.transposed(), "transition", "next_expert")]


def _pair_rows(estimate: EstimateArray, metric: str, label_set: str) -> pd.DataFrame:
    """Convert estimates [expert, partner] to rows, limited to each expert's most frequent partners."""
    partners = np.arange(estimate.value.shape[1]).astype(str)
    frame = estimate_rows(estimate.transposed(), metric, partners.tolist())
    frame = frame[frame["value"].notna()]
    if len(partners) > _MOST_PARTNERS + 1:
        frame = frame.sort_values("value", ascending=False, kind="stable").groupby("expert").head(_MOST_PARTNERS)
        frame = frame.sort_index()
    return frame.assign(label_set=label_set)
