"""The routers of a trace, one after the other, as the estimators take them."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from specialize.annotation import NO_LABEL, Annotation
from specialize.choices import SlotRule
from specialize.errors import MeasurementError
from specialize.measure.base.layer_input import LayerInput

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace


def iterate_layers(
    trace: "RoutingTrace",
    *,
    rule: SlotRule = "selection",
    progress: Callable[[int, int], None] | None = None,
) -> "Iterator[tuple[RouterSpec, LayerInput]]":
    """Yield every router of a trace with its routing, the random routers after the model's own.

    Args:
        trace: an open trace.
        rule: how a token's mass is spread over its slots; gate weights are read where it needs them.
        progress: called with (routers done, routers in all).

    Yields:
        The router, and its routing; one layer is held in memory.
    """
    tokens = read_places(trace)
    routers = [*trace.layers, *trace.random_routers]
    for done, router in enumerate(routers):
        if progress is not None:
            progress(done, len(routers))
        yield router, read_layer(trace, router, tokens, rule=rule)
    if progress is not None:
        progress(len(routers), len(routers))


def read_layer(
    trace: "RoutingTrace", router: "RouterSpec", places: pd.DataFrame, *, rule: SlotRule = "selection"
) -> LayerInput:
    """Read the routing of one router.

    Args:
        trace: an open trace.
        router: one of its routers.
        places: of the tokens, see `read_places`.
        rule: how a token's mass is spread over its slots.
    """
    known = {name: places[name].to_numpy() for name in ("document", "sequence", "position") if name in places}
    return LayerInput(
        experts=trace.experts(router.name, routing=router.routing),
        documents=known["document"],
        num_experts=router.num_experts,
        weights=trace.weights(router.name, routing=router.routing) if rule == "gate" else None,
        rule=rule,
        sequences=known.get("sequence"),
        positions=known.get("position"),
    )


def read_places(trace: "RoutingTrace") -> pd.DataFrame:
    """Return where each token stands, columns document, and sequence and position where they are known."""
    tokens = trace.tokens()
    return tokens[[name for name in ("document", "sequence", "position") if name in tokens]]


def check_layers(trace: "RoutingTrace") -> None:
    """Raise MeasurementError for a trace without routed layers or without tokens."""
    if not trace.layers or not trace.num_tokens:
        raise MeasurementError("expected a trace with tokens and a routed layer, got none: trace a model with routers")


def check_annotation(trace: "RoutingTrace", annotation: Annotation) -> None:
    """Raise MeasurementError for an annotation that is not of this trace's tokens or documents, or labels none."""
    size = trace.num_tokens if annotation.level == "token" else trace.num_documents
    if len(annotation.codes) != size:
        raise MeasurementError(
            f"annotation {annotation.name!r} should label {size} {annotation.level}s of the trace, "
            f"got {len(annotation.codes)}: annotate this trace again"
        )


def check_labelled(annotation: Annotation) -> None:
    """Raise MeasurementError for an annotation without a single label."""
    if not (annotation.codes != NO_LABEL).any():
        raise MeasurementError(
            f"annotation {annotation.name!r} labels no {annotation.level}: annotate this trace again"
        )


def name_rows(parts: Sequence[pd.DataFrame], router: "RouterSpec") -> pd.DataFrame:
    """Put rows together and enter their router: layer, router and routing."""
    return pd.concat(parts, ignore_index=True).assign(layer=router.layer, router=router.name, routing=router.routing)


def name_run(trace: "RoutingTrace", run_name: str | None) -> str:
    """Return the name of a run in a frame; that of the trace's folder unless given."""
    return trace.path.name if run_name is None else run_name
