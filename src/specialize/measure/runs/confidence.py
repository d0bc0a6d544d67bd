"""Rows on how decided a router is, and on the loss of the next token: over all tokens, by label and by expert."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.label_means import choice_entropy, choice_margin, measure_label_means
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.context import next_codes

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

_NATS = np.log(2)  # in a bit


def choice_rows(
    trace: "RoutingTrace",
    router: "RouterSpec",
    layer: LayerInput,
    annotations: Sequence[Annotation | None],
    settings: dict[str, int],
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the entropy and the margin of a router's choices; none where its logits were not recorded.

    Args:
        trace: an open trace.
        router: one of its routers.
        layer: the routing decisions of the router.
        annotations: labels of its tokens or documents; None for the mean over all tokens.
        settings: permutations, num_blocks and seed.
    """
    if router.routing != "learned" or "logits" not in trace.contents:
        return
    logits = trace.router_logits(router.name)
    entropy = np.where(layer.routed, choice_entropy(logits), np.nan)
    for metric, values in (("choice_entropy", entropy), ("choice_margin", choice_margin(logits, layer.experts))):
        for annotation in annotations:
            yield from mean_rows(
                metric, values, layer.documents, groups=layer.groups, annotation=annotation, settings=settings
            )


def loss_rows(
    trace: "RoutingTrace", tokens: pd.DataFrame, annotations: Sequence[Annotation | None], settings: dict[str, int]
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the loss of the next token, of no layer; none where it was not recorded.

    For labels of tokens, the label is that of the token that is read (``next_token_loss``), or of the next one, which
    is predicted (``predicted_token_loss``).

    Args:
        trace: an open trace.
        tokens: its tokens.
        annotations: labels of its tokens or documents; None for the mean over all tokens.
        settings: permutations, num_blocks and seed.
    """
    losses = _read_losses(trace, tokens)
    if losses is None:
        return
    documents = tokens["document"].to_numpy()
    for annotation in annotations:
        yield from mean_rows(
            "next_token_loss", losses, documents, groups=trace.groups, annotation=annotation, settings=settings
        )
        if annotation is not None and annotation.level == "token":
            predicted = replace(annotation, codes=next_codes(annotation.codes, tokens))
            yield from mean_rows(
                "predicted_token_loss", losses, documents, groups=trace.groups, annotation=predicted, settings=settings
            )


def expert_loss_rows(
    trace: "RoutingTrace", router: "RouterSpec", layer: LayerInput, tokens: pd.DataFrame, *, num_blocks: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the loss of the next token by expert of a learned router, over the tokens routed to it.

    Args:
        trace: an open trace.
        router: one of its routers.
        layer: the routing decisions of the router.
        tokens: the tokens of the trace.
        num_blocks: maximum number of document blocks for the jackknife.
    """
    losses = _read_losses(trace, tokens) if router.routing == "learned" else None
    slots = layer.experts.shape[1]
    if losses is None or not (np.isfinite(losses) & layer.routed).any():
        return
    means = measure_label_means(
        np.repeat(losses, slots),
        layer.experts.ravel(),
        np.repeat(layer.documents, slots),
        level="token",
        num_labels=layer.num_experts,
        permutations=0,
        groups=layer.groups,
        num_blocks=num_blocks,
    )
    rows = estimate_rows(means, "next_token_loss").assign(n_tokens=int((np.isfinite(losses) & layer.routed).sum()))
    yield rows[rows["value"].notna()]


def _read_losses(trace: "RoutingTrace", tokens: pd.DataFrame) -> NDArray[np.floating] | None:
    """Return the loss of each token's next token in bits, NaN where there is none; None where it was not recorded."""
    return tokens["next_token_loss"].to_numpy() / _NATS if "predictions" in trace.contents else None


def mean_rows(
    metric: str,
    values: NDArray[np.floating],
    documents: NDArray[np.integer],
    *,
    groups: NDArray[np.integer] | None,
    annotation: Annotation | None,
    settings: Mapping[str, Any],
) -> Iterator[pd.DataFrame]:
    """Yield the mean over all tokens, or over the tokens of each label that has any; none where no token has a value.

    Args:
        metric: name of the quantity.
        values: floating [tokens]; NaN where a token has none.
        documents: integers [tokens], the document of each token.
        groups: integers [documents], documents of one group stay in one block.
        annotation: the labels; None for all tokens.
        settings: further arguments of `measure_label_means`.
    """
    how: dict[str, Any] = dict(settings)
    if annotation is None:
        everyone = Annotation("all", "document", ("all",), np.zeros(int(documents[-1]) + 1, dtype=np.int32))
        how["permutations"] = 0
    else:
        everyone = annotation
    labels = everyone.codes if everyone.level == "token" else everyone.codes[documents]
    if not (np.isfinite(values) & (labels >= 0)).any():
        return
    means = measure_label_means(
        values, everyone.codes, documents, level=everyone.level, num_labels=len(everyone.labels), groups=groups, **how
    )
    rows = estimate_rows(means, metric).drop(columns="expert")
    if annotation is not None:
        rows = rows.assign(label=list(annotation.labels), label_set=annotation.name)
    yield rows[rows["value"].notna()]
