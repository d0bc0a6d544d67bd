"""Which experts of which routers are switched off."""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

from specialize.capture.points import RoutingPoint
from specialize.errors import CaptureError, did_you_mean, show_value

Router = int | str
Targets = Iterable[tuple[Router, int]]


def resolve(points: Sequence[RoutingPoint], drop: Targets) -> dict[int, tuple[int, ...]]:
    """Return the experts to switch off by the position of their router in `points`.

    Raises:
        CaptureError: `drop` is empty or not made of pairs, a router or an expert does not exist or is ambiguous, or
            a pair occurs twice.
    """
    found: dict[int, tuple[int, ...]] = {}
    for router, expert in _pairs(drop):
        place = find_router(points, router)
        spec = points[place].spec
        if not 0 <= expert < spec.num_experts:
            raise CaptureError(
                f"drop: {spec.name}: expected an expert of 0 to {spec.num_experts - 1}, got {show_value(expert)}"
            )
        if expert in found.get(place, ()):
            raise CaptureError(f"drop: expected each expert once, got expert {expert} of {spec.name} twice")
        found[place] = (*found.get(place, ()), expert)
    if not found:
        raise CaptureError("drop: expected at least one pair (layer, expert), got none")
    return found


def find_router(points: Sequence[RoutingPoint], router: Router) -> int:
    """Return the position of a router among `points`.

    Args:
        points: the routing points of a model.
        router: the number of its layer, if the layer has one router only, or its name.

    Raises:
        CaptureError: there is no such router, or the layer has several.
    """
    if isinstance(router, str):
        names = [point.spec.name for point in points]
        if router not in names:
            near = did_you_mean(router, names)
            raise CaptureError(f"expected the name of a router, such as {names[0]}, got {router!r}.{near}")
        return names.index(router)
    places = [place for place, point in enumerate(points) if point.spec.layer == router]
    if not places:
        layers = ", ".join(map(str, sorted({point.spec.layer for point in points})))
        raise CaptureError(f"expected a layer with a router ({layers}), got {show_value(router)}")
    if len(places) > 1:
        names = [points[place].spec.name for place in places]
        raise CaptureError(f"layer {router} has {len(places)} routers: name the one meant, {' or '.join(names)}")
    return places[0]


def _pairs(drop: Any) -> Iterable[tuple[Router, int]]:
    if isinstance(drop, str) or not isinstance(drop, Iterable):
        raise CaptureError(f"drop: expected pairs (layer, expert), got {show_value(drop)}")
    for pair in drop:
        try:
            router, expert = pair
            if isinstance(router, bool) or isinstance(expert, bool) or isinstance(pair, str):
                raise TypeError
            yield (router if isinstance(router, str) else index(router)), index(expert)
        except (TypeError, ValueError):
            raise CaptureError(f"drop: expected pairs (layer, expert), got {show_value(pair)}") from None
