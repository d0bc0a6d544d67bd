"""Read the routing decisions of a trace router by router, and check traces and annotations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.choices import SlotRule
from specialize.engine import LOCAL, Engine
from specialize.errors import MeasurementError
from specialize.measure.base.layer_input import LayerInput
from specialize.trace.schema import numbers_of_tokens

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace

Columns: TypeAlias = Mapping[str, Any]  # [tokens] by name, in memory or on disk
Measured = TypeVar("Measured")


def iterate_layers(
    trace: "RoutingTrace",
    *,
    rule: SlotRule = "selection",
    places: Columns | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "Iterator[tuple[RouterSpec, LayerInput]]":
    """Yield each router of a trace with its routing decisions, after the model's own the first random router of each.

    Args:
        trace: an open trace.
        rule: how a token's mass is spread over its slots, see `spread_mass`; gate weights are read for ``"gate"`` only.
        places: the columns of its tokens, see `read_columns`; those of the trace by default.
        progress: called with (routers done, total routers).

    Yields:
        The router and its routing decisions, which are read from disk a part at a time.
    """
    return map_layers(trace, lambda _, layer: layer, rule=rule, places=places, progress=progress)


def map_layers(
    trace: "RoutingTrace",
    measure: "Callable[[RouterSpec, LayerInput], Measured]",
    *,
    rule: SlotRule = "selection",
    places: Columns | None = None,
    engine: Engine = LOCAL,
    progress: Callable[[int, int], None] | None = None,
) -> "Iterator[tuple[RouterSpec, Measured]]":
    """Yield the routers that `iterate_layers` yields with what is measured of each, independently of the others.

    Args:
        trace: an open trace.
        measure: called with a router and its routing decisions; by the engine, so that it cannot add to what is here.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
        places: the columns of its tokens, see `read_columns`; those of the trace by default.
        engine: measures the routers.
        progress: called with (routers done, total routers).
    """
    tokens = read_columns(trace) if places is None else places
    routers = [*trace.layers, *trace.random_routers]

    def measure_router(router: "RouterSpec") -> Measured:
        return measure(router, read_layer(trace, router, tokens, rule=rule))

    measured = engine.map(measure_router, routers)
    for done, router in enumerate(routers):
        if progress is not None:
            progress(done, len(routers))
        yield router, next(measured)
    if progress is not None:
        progress(len(routers), len(routers))


def read_layer(
    trace: "RoutingTrace", router: "RouterSpec", places: Columns, *, rule: SlotRule = "selection"
) -> LayerInput:
    """Return the routing decisions of one router, which are read from disk a part at a time.

    Args:
        trace: an open trace.
        router: one of its routers.
        places: the columns of its tokens, see `read_columns`.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
    """
    if not has_tokens(trace):
        return _read_usage(trace, router)
    return LayerInput(
        experts=read_column(trace, "experts", router),
        documents=places["document"],
        num_experts=router.num_experts,
        weights=read_column(trace, "weights", router) if rule == "gate" else None,
        rule=rule,
        sequences=places.get("sequence"),
        positions=places.get("position"),
        groups=trace.groups,
        token_counts=count_rows(trace, places),
    )


def read_column(trace: "RoutingTrace", name: str, router: "RouterSpec") -> Any:
    """Return what a trace holds of a router, experts, weights or logits, as a column that is read a slice at a time."""
    if hasattr(trace, "column"):
        return trace.column(name, router.name, routing=router.routing, draw=router.draw)
    if name == "experts":
        return trace.experts(router.name, routing=router.routing, draw=router.draw)
    return trace.router_logits(router.name) if name == "logits" else trace.weights(router.name, routing=router.routing)


def _read_usage(trace: "RoutingTrace", router: "RouterSpec") -> LayerInput:
    """Read a router of a trace without tokens: each document is a row with all experts, and what they received."""
    usage = trace.usage(router.name)
    return LayerInput(
        experts=np.tile(np.arange(router.num_experts, dtype=np.int16), (len(usage), 1)),
        documents=np.arange(len(usage)),
        num_experts=router.num_experts,
        weights=usage,
        rule="counts",
        groups=trace.groups,
        top_k=router.top_k,
    )


def has_tokens(trace: "RoutingTrace") -> bool:
    """Return whether a trace has tokens, and not only the usage of experts by each document."""
    return getattr(trace, "has_tokens", True)


def random_draws(trace: "RoutingTrace", router: "RouterSpec", *, rule: SlotRule) -> "tuple[RouterSpec, ...]":
    """Return the random routers beside a router that a slot rule can measure: by gate weights the first alone.

    Args:
        trace: an open trace.
        router: one of the model's routers.
        rule: how a token's mass is spread over its slots, see `spread_mass`.
    """
    drawn = trace.random_draws(router.name)
    return drawn[:1] if rule == "gate" else drawn


def read_columns(trace: "RoutingTrace") -> Columns:
    """Return the columns of `RoutingTrace.tokens` that are numbers, which are read a slice at a time.

    Without tokens, each document is a row, and there is the column document alone.
    """
    if not has_tokens(trace):
        return {"document": np.arange(trace.num_documents)}
    if hasattr(trace, "column"):
        return {name: trace.column(name) for name in numbers_of_tokens(trace.contents)}
    tokens = trace.tokens()
    return {name: tokens[name].to_numpy() for name in tokens}


def count_rows(trace: "RoutingTrace", columns: Columns) -> NDArray[np.int64]:
    """Count the rows of each document, int64 [documents], from the columns of its tokens unless the trace knows."""
    counts = getattr(trace, "token_counts", None) if has_tokens(trace) else None
    return np.bincount(columns["document"]).astype(np.int64) if counts is None else counts


def check_layers(trace: "RoutingTrace") -> None:
    """Raise MeasurementError for a trace without layers, or without tokens and usage."""
    if not trace.layers or not (trace.num_tokens if has_tokens(trace) else trace.num_documents):
        raise MeasurementError("expected a trace with tokens and MoE layers, got none: trace a model with routers")


def check_annotation(trace: "RoutingTrace", annotation: Annotation) -> None:
    """Raise MeasurementError for an annotation whose length is not that of the trace's tokens or documents."""
    size = trace.num_tokens if annotation.level == "token" else trace.num_documents
    if len(annotation.codes) != size:
        raise MeasurementError(
            f"annotation {annotation.name!r}: expected labels of the {size} {annotation.level}s of the trace, "
            f"got {len(annotation.codes)}: annotate this trace again"
        )


def check_labelled(annotation: Annotation) -> None:
    """Raise MeasurementError for an annotation without labels."""
    if not len(annotation.codes) or annotation.codes.max() == NO_LABEL:
        raise MeasurementError(
            f"annotation {annotation.name!r}: expected labelled {annotation.level}s, got none: annotate again"
        )


def name_rows(parts: Sequence[pd.DataFrame], router: "RouterSpec") -> pd.DataFrame:
    """Concatenate rows and set their layer, router and routing."""
    return pd.concat(parts, ignore_index=True).assign(layer=router.layer, router=router.name, routing=router.routing)


def name_run(trace: "RoutingTrace", run_name: str | None) -> str:
    """Return the name of a run in a frame, by default that of the trace's folder."""
    return trace.path.name if run_name is None else run_name
