"""Details of a specialization: given the word, of the next token, without first positions, and by domain."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specialize.annotation import Annotation
from specialize.choices import SlotRule
from specialize.column import compute_column
from specialize.engine import LOCAL, Engine
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.ambiguous import MIN_COUNT, AmbiguousTypes
from specialize.measure.estimators.conditional import condition_layer
from specialize.measure.estimators.domain import specialize_domains
from specialize.measure.estimators.layer import associate_layer
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.confidence import choice_rows, loss_rows
from specialize.measure.runs.context import drop_positions, following_codes
from specialize.measure.runs.routers import (
    Columns,
    check_annotation,
    check_layers,
    map_layers,
    name_rows,
    name_run,
    read_columns,
)

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_MOST_PERMUTATIONS = 200  # for quantities tested once per layer; cells of a table need more
_CONDITIONAL = ("conditional_information", "mutual_information", "word_information")


def measure_details(
    trace: "RoutingTrace",
    annotation: Annotation,
    *,
    run_name: str | None = None,
    rule: SlotRule = "selection",
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
    min_count: int = MIN_COUNT,
    engine: Engine = LOCAL,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the details of the association of each router with one annotation.

    Rows of each layer, by ``metric``:

    - ``conditional_information``, I(expert; label | token id) over ambiguous token ids, and on the same tokens
      ``ambiguous_mutual_information``, I(expert; label), and ``ambiguous_word_information``, I(expert; token id), all
      in bits; see `measure_conditional_information`. Absent where token ids are unknown or none is ambiguous.
    - for labels of tokens, ``next_token_mutual_information`` (bits) and ``next_token_uncertainty_coefficient`` (share
      of H(label)) with the label of the next token; ``uncertainty_coefficient_without_first``, without position 0 of
      each sequence and without a null. Where router logits were recorded, ``choice_entropy`` and ``choice_margin``
      (bits) of each label, and where losses were, ``next_token_loss`` and ``predicted_token_loss`` (bits), of no layer;
      see `measure_label_means`.
    - for labels of documents, ``domain_specialization`` of each occurring label and each expert, a share of the
      label's tokens; see `measure_domain_specialization`.

    For labels of tokens, one row ``skipped_positions`` without a layer reports how many first positions
    `drop_positions` removed.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        run_name: name of the run in the frame, by default that of the trace's folder.
        rule: how a token's mass is spread over its slots, see `spread_mass`; domain specialization counts choices.
        permutations: number of permutations under the nulls; at most 200 for quantities tested once per layer.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the nulls.
        min_count: minimum number of labelled occurrences of an ambiguous token id.
        engine: measures the routers; the frame does not depend on it.
        progress: called with (routers done, total routers).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`, including random routers (``routing``). Q-values are
        Benjamini-Hochberg over all rows of one metric and routing.

    Raises:
        MeasurementError: the annotation does not match the trace, no labelled unit was routed, or the trace has no
            layers or no tokens.
    """
    check_layers(trace)
    check_annotation(trace, annotation)
    tokens = read_columns(trace)
    how: dict[str, Any] = {"num_labels": len(annotation.labels), "num_blocks": num_blocks, "seed": seed}
    few = min(permutations, _MOST_PERMUTATIONS)
    settings = {"permutations": few, "num_blocks": num_blocks, "seed": seed}
    ambiguous = _find_ambiguous(annotation, tokens, min_count)

    def measure(router: "RouterSpec", layer: LayerInput) -> list[pd.DataFrame]:
        rows = list(_conditional_rows(annotation, tokens, layer, ambiguous, how | {"permutations": few}))
        if annotation.level == "token":
            rows += _next_token_rows(annotation, tokens, layer, how | {"permutations": few})
            rows += _first_position_rows(annotation, tokens, layer, how)
            rows += choice_rows(trace, router, layer, [annotation], settings)
        else:
            domains = specialize_domains(layer, annotation.codes, permutations=permutations, **how)
            domain = estimate_rows(domains, "domain_specialization", annotation.labels)
            rows.append(domain[domain["value"].notna()])
        return rows

    measured = map_layers(trace, measure, rule=rule, places=tokens, engine=engine, progress=progress)
    # no rows where every document has one token: no next token, and nothing but first positions
    frames = [name_rows(rows, router) for router, rows in measured if rows]
    if annotation.level == "token":
        frames += [rows.assign(routing="learned") for rows in loss_rows(trace, tokens, [annotation], settings)]
    frame = as_results(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame())
    frame = adjust_by_routing(frame) if len(frame) else frame
    skipped = annotation.provenance.get("skip_positions", 0)
    if annotation.level == "token":
        note = pd.DataFrame({"metric": ["skipped_positions"], "value": [float(skipped)], "unit": "count"})
        frame = pd.concat([frame, as_results(note.assign(routing="learned"))], ignore_index=True)
    return frame.assign(
        run=pd.Series(name_run(trace, run_name), index=frame.index, dtype=frame["run"].dtype),
        label_set=pd.Series(annotation.name, index=frame.index, dtype=frame["label_set"].dtype),
    )


def _find_ambiguous(annotation: Annotation, tokens: Columns, min_count: int) -> tuple[Any, AmbiguousTypes] | None:
    """Return the label of each token and the ambiguous token ids; None where token ids are unknown."""
    if "token_id" not in tokens:
        return None
    codes, documents = annotation.codes, tokens["document"]
    if annotation.level == "document":
        codes = compute_column(len(documents), lambda rows: annotation.codes[documents[rows]], dtype=np.int32)  # type: ignore[assignment]
    found = AmbiguousTypes(tokens["token_id"], codes, num_labels=len(annotation.labels), min_count=min_count)
    return codes, found


def _conditional_rows(
    annotation: Annotation,
    tokens: Columns,
    layer: LayerInput,
    ambiguous: tuple[Any, AmbiguousTypes] | None,
    how: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    if ambiguous is None:
        return
    measured = condition_layer(layer, ambiguous[0], tokens["token_id"], ambiguous[1], level=annotation.level, **how)
    if measured is None:
        return
    for name in _CONDITIONAL:
        metric = name if name == "conditional_information" else f"ambiguous_{name}"
        yield estimate_rows(getattr(measured, name), metric)


def _next_token_rows(
    annotation: Annotation, tokens: Columns, layer: LayerInput, how: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    codes = following_codes(annotation.codes, tokens)
    if _any_routed(layer, codes):
        measured = associate_layer(layer, codes, level="token", **how)
        yield estimate_rows(measured.mutual_information, "next_token_mutual_information")
        yield estimate_rows(measured.uncertainty_coefficient, "next_token_uncertainty_coefficient")


def _first_position_rows(
    annotation: Annotation, tokens: Columns, layer: LayerInput, how: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    if "position" not in tokens:
        return
    codes = drop_positions(annotation, tokens, 1).codes
    if _any_routed(layer, codes):
        measured = associate_layer(layer, codes, level="token", permutations=0, **how)
        yield estimate_rows(measured.uncertainty_coefficient, "uncertainty_coefficient_without_first")


def _any_routed(layer: LayerInput, codes: Any) -> bool:
    """Return whether any labelled token was routed; it is found soon."""
    return any(bool(((codes[part.rows] >= 0) & part.routed).any()) for part in layer.parts())
