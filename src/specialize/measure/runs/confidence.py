"""Rows on how decided a router is, and on the loss of the next token: over all tokens, by label and by expert."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.column import compute_column
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.routed import has_expert
from specialize.measure.estimators.label_means import choice_entropy, choice_margin, mean_labels
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.context import following_codes
from specialize.measure.runs.routers import Columns, count_rows, read_column

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
    logits = read_column(trace, "logits", router)

    def entropy(rows: slice) -> NDArray[np.float64]:
        routed = has_expert(np.ascontiguousarray(layer.experts[rows], dtype=np.int16))
        return np.where(routed, choice_entropy(logits[rows]), np.nan)

    def margin(rows: slice) -> NDArray[np.float64]:
        return choice_margin(logits[rows], layer.experts[rows])

    for metric, compute in (("choice_entropy", entropy), ("choice_margin", margin)):
        values = compute_column(len(layer.experts), compute, dtype=np.float64)
        for annotation in annotations:
            yield from mean_rows(
                metric, values, layer.counts, groups=layer.groups, annotation=annotation, settings=settings
            )


def loss_rows(
    trace: "RoutingTrace", tokens: Columns, annotations: Sequence[Annotation | None], settings: dict[str, int]
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the loss of the next token, of no layer; none where it was not recorded.

    For labels of tokens, the label is that of the token that is read (``next_token_loss``), or of the next one, which
    is predicted (``predicted_token_loss``).

    Args:
        trace: an open trace.
        tokens: the columns of its tokens.
        annotations: labels of its tokens or documents; None for the mean over all tokens.
        settings: permutations, num_blocks and seed.
    """
    losses = _read_losses(trace, tokens)
    if losses is None:
        return
    counts = count_rows(trace, tokens)
    for annotation in annotations:
        yield from mean_rows(
            "next_token_loss", losses, counts, groups=trace.groups, annotation=annotation, settings=settings
        )
        if annotation is not None and annotation.level == "token":
            predicted = replace(annotation, codes=following_codes(annotation.codes, tokens))
            yield from mean_rows(
                "predicted_token_loss", losses, counts, groups=trace.groups, annotation=predicted, settings=settings
            )


def expert_loss_rows(
    trace: "RoutingTrace", router: "RouterSpec", layer: LayerInput, tokens: Columns, *, num_blocks: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the loss of the next token by expert of a learned router, over the tokens routed to it.

    Args:
        trace: an open trace.
        router: one of its routers.
        layer: the routing decisions of the router.
        tokens: the columns of its tokens.
        num_blocks: maximum number of document blocks for the jackknife.
    """
    losses = _read_losses(trace, tokens) if router.routing == "learned" else None
    if losses is None:
        return
    slots, size, counted = layer.experts.shape[1], len(layer.experts), 0
    for part in layer.parts():
        counted += int(np.count_nonzero(np.isfinite(losses[part.rows]) & part.routed))

    def spread(rows: slice) -> NDArray[np.float64]:
        return np.repeat(losses[_tokens_of(rows, slots)], slots)[_within(rows, slots)]

    def choose(rows: slice) -> NDArray[np.int32]:
        return layer.experts[_tokens_of(rows, slots)].ravel()[_within(rows, slots)].astype(np.int32)

    means = mean_labels(
        compute_column(size * slots, spread, dtype=np.float64),
        compute_column(size * slots, choose, dtype=np.int32),
        layer.counts * slots,
        level="token",
        num_labels=layer.num_experts,
        permutations=0,
        groups=layer.groups,
        num_blocks=num_blocks,
    )
    if means is not None:
        rows = estimate_rows(means, "next_token_loss").assign(n_tokens=counted)
        yield rows[rows["value"].notna()]


def _tokens_of(slots: slice, width: int) -> slice:
    """Return the tokens that hold a slice of slots."""
    return slice(slots.start // width, -(-slots.stop // width))


def _within(slots: slice, width: int) -> slice:
    """Return the place of a slice of slots in those of its tokens."""
    first = slots.start % width
    return slice(first, first + slots.stop - slots.start)


def _read_losses(trace: "RoutingTrace", tokens: Columns) -> Any:
    """Return the loss of each token's next token in bits, NaN where there is none; None where it was not recorded."""
    if "predictions" not in trace.contents:
        return None
    losses = tokens["next_token_loss"]
    return compute_column(len(losses), lambda rows: losses[rows] / _NATS, dtype=(losses[:0] / _NATS).dtype)


def mean_rows(
    metric: str,
    values: Any,
    counts: NDArray[np.int64],
    *,
    groups: NDArray[np.integer] | None,
    annotation: Annotation | None,
    settings: Mapping[str, Any],
) -> Iterator[pd.DataFrame]:
    """Yield the mean over all tokens, or over the tokens of each label that has any; none where no token has a value.

    Args:
        metric: name of the quantity.
        values: floating [tokens], in memory or as a column; NaN where a token has none.
        counts: int64 [documents], number of tokens of each document.
        groups: integers [documents], documents of one group stay in one block.
        annotation: the labels; None for all tokens.
        settings: further arguments of `mean_labels`.
    """
    how: dict[str, Any] = dict(settings)
    if annotation is None:
        everyone = Annotation("all", "document", ("all",), np.zeros(len(counts), dtype=np.int32))
        how["permutations"] = 0
    else:
        everyone = annotation
    means = mean_labels(
        values, everyone.codes, counts, level=everyone.level, num_labels=len(everyone.labels), groups=groups, **how
    )
    if means is None:
        return
    rows = estimate_rows(means, metric).drop(columns="expert")
    if annotation is not None:
        rows = rows.assign(label=list(annotation.labels), label_set=annotation.name)
    yield rows[rows["value"].notna()]
