"""Which router of a trace is meant by a layer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from specialize.errors import TraceError
from specialize.trace.schema import RouterSpec


def find_router(routers: Sequence[RouterSpec], layer: int | str, routing: str, draw: int, *, run: Path) -> int:
    """Return the place of a router in the list of routers of a trace.

    Args:
        routers: all routers of the trace.
        layer: number of the layer, or path of its experts module.
        routing: ``learned`` or ``random``.
        draw: which of the random routers, from 0.
        run: the run folder, for the message.

    Raises:
        TraceError: there is no such router, or the layer has several.
    """
    key = "layer" if isinstance(layer, int | np.integer) else "name"
    every = [(index, router) for index, router in enumerate(routers) if router.routing == routing]
    of_draw = [(index, router) for index, router in every if router.draw == draw]
    found = [(index, router.name) for index, router in of_draw if getattr(router, key) == layer]
    if len(found) == 1:
        return found[0][0]
    if found:
        names = ", ".join(name for _, name in found)
        raise TraceError(f"layer {layer} has {len(found)} routers; name one of {names}")
    if every and not of_draw:
        numbers = ", ".join(map(str, sorted({router.draw for _, router in every})))
        raise TraceError(f"{run}: draw: expected one of {numbers} of the {routing} routers, got {draw}")
    if not of_draw:
        held = ", ".join(sorted({router.routing for router in routers})) or "none"
        raise TraceError(f"{run}: expected {routing} routing; the trace has {held}")
    known = ", ".join(str(router.layer) for _, router in of_draw)
    raise TraceError(f"no router in layer {layer!r}; the trace has layers {known}")
