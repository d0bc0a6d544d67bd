"""Tagger error: accuracy against gold tags, and its effect on the measured association with routing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.choices import SlotRule
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted, block_tokens, divide, estimate_blocks
from specialize.measure.base.counting import count_blocks
from specialize.measure.base.information import mutual_information, uncertainty_coefficient
from specialize.measure.base.pairing import estimate_difference, pseudo_values
from specialize.measure.results.files import as_results
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.routers import iterate_layers, name_rows, name_run, read_columns

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

_COMPARED = {"mutual_information": "bits", "uncertainty_coefficient": "share of H(label)"}


def measure_tagger_error(
    trace: "RoutingTrace",
    predicted: Annotation,
    gold: Annotation,
    *,
    run_name: str | None = None,
    rule: SlotRule = "selection",
    num_blocks: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the accuracy of a tagger, and the effect of its errors on the association of tags with routing.

    Only tokens with both a predicted and a gold tag are counted. Rows, by ``metric``:

    - ``tagger_accuracy``, the share of tokens whose tags agree; ``tagger_recall`` of each gold tag and
      ``tagger_precision`` of each predicted tag.
    - for each router, ``difference of mutual_information`` (bits), I(predicted tags) − I(gold tags), and
      ``difference of uncertainty_coefficient`` (share of H(label)), U(predicted tags) − U(gold tags), over the same
      tokens and paired by blocks of documents; see `estimate_difference`.

    Args:
        trace: an open trace.
        predicted: the tagger's labels of its tokens.
        gold: manual labels of its tokens, of the same label set.
        run_name: name of the run in the frame, by default that of the trace's folder.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        num_blocks: maximum number of document blocks for the jackknife.
        progress: called with (routers done, total routers).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`; ``label_set`` is "PREDICTED against GOLD".

    Raises:
        MeasurementError: the annotations do not label the tokens of this trace, or no token has both labels.
    """
    for annotation in (predicted, gold):
        if annotation.level != "token" or len(annotation.codes) != trace.num_tokens:
            raise MeasurementError(
                f"annotation {annotation.name!r}: expected labels of the {trace.num_tokens} tokens of the trace, "
                f"got {len(annotation.codes)} labels of {annotation.level}s: annotate this trace again"
            )
    names = {label: code for code, label in enumerate(dict.fromkeys((*gold.labels, *predicted.labels)))}
    both = np.flatnonzero((predicted.codes >= 0) & (gold.codes >= 0))
    if not len(both):
        raise MeasurementError(
            f"expected tokens labelled in both {predicted.name} and {gold.name}, got none: check the labels"
        )
    predicted_codes, true_codes = (
        np.array([names[label] for label in each.labels])[each.codes[both]] for each in (predicted, gold)
    )
    cut = block_tokens(np.asarray(read_columns(trace)["document"])[both], groups=trace.groups, num_blocks=num_blocks)
    counted: Counted = {"n_tokens": len(both), "n_documents": len(cut.blocks)}
    shape: dict[str, Any] = {"num_labels": len(names), "num_blocks": cut.num_blocks, "blocks": cut.token_blocks}
    confusion = count_blocks(true_codes, predicted_codes[:, None], num_experts=len(names), **shape)
    shares = estimate_blocks(confusion, _shares, unit="share of tokens", **counted)
    rows = estimate_rows(shares, "tagger_accuracy").assign(
        expert=pd.NA,
        label=[None, *names, *names],
        metric=["tagger_accuracy", *["tagger_recall"] * len(names), *["tagger_precision"] * len(names)],
    )
    frames = [rows[rows["value"].notna()]]
    for router, layer in iterate_layers(trace, rule=rule, progress=progress):
        weights = None if layer.weights is None else layer.weights[both]
        sides = [
            count_blocks(codes, layer.experts[both], num_experts=layer.num_experts, weights=weights, rule=rule, **shape)
            for codes in (predicted_codes, true_codes)
        ]
        for metric, unit in _COMPARED.items():
            statistic = mutual_information if metric == "mutual_information" else uncertainty_coefficient
            one, other = (pseudo_values(side, statistic) for side in sides)
            difference = estimate_difference(one, other, unit=unit, **counted).difference
            row = estimate_rows(difference, f"difference of {metric}")
            frames.append(name_rows([row], router))
    frame = pd.concat(frames, ignore_index=True)
    return as_results(frame.assign(run=name_run(trace, run_name), label_set=f"{predicted.name} against {gold.name}"))


def share_labels(predicted: Annotation, gold: Annotation) -> bool:
    """Return whether at least 90 % of the predicted labels, by token, are in the label set of the gold annotation."""
    known = np.array([label in gold.labels for label in predicted.labels], dtype=bool)
    labelled = predicted.codes[predicted.codes >= 0]
    return bool(len(labelled)) and float(known[labelled].mean()) >= 0.9


def _shares(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute accuracy, recall of each gold label and precision of each predicted label, [..., 1 + 2 labels]."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    accuracy = divide(right.sum(axis=-1), confusion.sum(axis=(-2, -1)))[..., None]
    recall, precision = divide(right, confusion.sum(axis=-1)), divide(right, confusion.sum(axis=-2))
    return np.concatenate([accuracy, recall, precision], axis=-1)
