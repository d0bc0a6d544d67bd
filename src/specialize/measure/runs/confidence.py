"""Rows on how decided a router is, and on the loss of the next token, over all tokens and by labels of documents."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from specialize.annotation import Annotation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.label_means import choice_entropy, choice_margin, measure_label_means
from specialize.measure.results.rows import estimate_rows

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_NATS = np.log(2)  # in a bit


def choice_rows(
    trace: "RoutingTrace",
    router: "RouterSpec",
    layer: LayerInput,
    annotations: Sequence[Annotation],
    settings: dict[str, int],
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the entropy and the margin of a router's choices; none where its logits were not recorded.

    Args:
        trace: an open trace.
        router: one of its routers.
        layer: the routing decisions of the router.
        annotations: labels of documents.
        settings: permutations, num_blocks and seed.
    """
    if router.routing != "learned" or "logits" not in trace.contents:
        return
    logits = trace.router_logits(router.name)
    entropy = np.where(layer.routed, choice_entropy(logits), np.nan)
    for metric, values in (("choice_entropy", entropy), ("choice_margin", choice_margin(logits, layer.experts))):
        yield from _mean_rows(metric, values, layer.documents, layer.groups, annotations, settings)


def loss_rows(
    trace: "RoutingTrace", tokens: pd.DataFrame, annotations: Sequence[Annotation], settings: dict[str, int]
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the loss of the next token, of no layer; none where it was not recorded.

    Args:
        trace: an open trace.
        tokens: its tokens.
        annotations: labels of documents.
        settings: permutations, num_blocks and seed.
    """
    if "predictions" not in trace.contents:
        return
    losses = tokens["next_token_loss"].to_numpy() / _NATS
    yield from _mean_rows("next_token_loss", losses, tokens["document"].to_numpy(), trace.groups, annotations, settings)


def _mean_rows(
    metric: str,
    values: NDArray[np.floating],
    documents: NDArray[np.integer],
    groups: ArrayLike | None,
    annotations: Sequence[Annotation],
    settings: dict[str, int],
) -> Iterator[pd.DataFrame]:
    """Yield the mean over all tokens, and over the tokens of each label that has any."""
    known = np.isfinite(values)
    if not known.any():
        return
    everything = np.zeros(int(documents[-1]) + 1, dtype=np.int32)
    how: dict[str, Any] = {"level": "document", "groups": groups, **settings}
    whole = measure_label_means(values, everything, documents, num_labels=1, **how | {"permutations": 0})
    yield estimate_rows(whole[0], metric)
    for annotation in annotations:
        if not (known & (annotation.codes[documents] >= 0)).any():
            continue
        means = measure_label_means(values, annotation.codes, documents, num_labels=len(annotation.labels), **how)
        rows = estimate_rows(means, metric).drop(columns="expert")
        rows = rows.assign(label=list(annotation.labels), label_set=annotation.name)
        yield rows[rows["value"].notna()]
