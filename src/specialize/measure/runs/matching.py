"""Match two traces: check that they are of one corpus, and pair their routers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from specialize.errors import MeasurementError
from specialize.measure.runs.routers import has_tokens, read_columns
from specialize.measure.runs.routing import stack_of

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

_ROWS = 2**17  # that are compared at a time


def check_same_corpus(first: "RoutingTrace", second: "RoutingTrace") -> None:
    """Check that two traces are of the same corpus, by digest or, where a digest is missing, by document ids.

    The digest covers label columns. Corpora with the same text and different label columns are accepted if document
    ids and tokens are equal.

    Raises:
        MeasurementError: the corpora differ.
    """
    digests = [(trace.manifest.get("corpus") or {}).get("digest") for trace in (first, second)]
    if digests[0] is not None and digests[0] == digests[1]:
        return
    both = f"{first.path} and {second.path}"
    if first.num_documents != second.num_documents:
        raise MeasurementError(
            f"{both}: expected traces of one corpus, got {first.num_documents} and {second.num_documents} documents: "
            "trace the same corpus with both models"
        )
    one, two = (trace.documents(labels_only=True)["id"] for trace in (first, second))
    if not (one.equals(two) and (None in digests or same_tokens(first, second))):
        raise MeasurementError(
            f"{both}: expected traces of one corpus, got different documents: trace the same corpus with both models"
        )


def same_tokens(first: "RoutingTrace", second: "RoutingTrace") -> bool:
    """Return whether two traces of one corpus have the same tokens, as far as token ids are known, or none both."""
    if not (has_tokens(first) and has_tokens(second)):
        return has_tokens(first) == has_tokens(second) and first.num_documents == second.num_documents
    if first.num_tokens != second.num_tokens:
        return False
    one, two = read_columns(first), read_columns(second)
    known = [name for name in ("document", "token_id") if name in one and name in two]
    return all(equal_columns(one[name], two[name], ignore_unknown=name == "token_id") for name in known)


def equal_columns(one: Any, two: Any, *, ignore_unknown: bool = False) -> bool:
    """Return whether two arrays or columns of numbers are equal; optionally, negative ones are equal to anything."""
    if len(one) != len(two):
        return False
    for start in range(0, len(one), _ROWS):
        first, second = one[start : start + _ROWS], two[start : start + _ROWS]
        same = first == second
        if ignore_unknown:
            same |= (first < 0) | (second < 0)
        if not same.all():
            return False
    return True


def pair_routers(first: "RoutingTrace", second: "RoutingTrace | None") -> Iterator[tuple[str, Any, Any]]:
    """Yield (routing, router of the first trace, router of the second), paired by stack, layer and order in the layer.

    Without a second trace, each router is paired with the random router of the same layer.

    Raises:
        MeasurementError: there are no random routers, or no layers in common.
    """
    if second is None:
        beside = {router.name: router for router in first.random_routers}
        if not any(router.name in beside for router in first.layers):
            raise MeasurementError(
                f"{first.path}: expected random routers to compare with, got none: "
                "trace with --control random-router, or name a second run"
            )
        for router in first.layers:
            if router.name in beside:
                yield "learned − random", router, beside[router.name]
        return
    found = False
    for routing in ("layers", "random_routers"):
        others = _by_place(getattr(second, routing))
        for place, router in _by_place(getattr(first, routing)).items():
            if place in others:
                found = True
                yield router.routing, router, others[place]
    if not found:
        numbers = [", ".join(str(router.layer) for router in trace.layers) or "none" for trace in (first, second)]
        raise MeasurementError(
            f"{first.path} and {second.path}: expected routers in the same layers, got layers {numbers[0]} and "
            f"{numbers[1]}: compare models of one architecture"
        )


def _by_place(routers: Sequence[Any]) -> dict[tuple[str, int, int], Any]:
    """Key routers by stack, layer number, and their order among the routers of that layer."""
    keyed: dict[tuple[str, int, int], Any] = {}
    for router in routers:
        order = sum(key[:2] == (stack_of(router), router.layer) for key in keyed)
        keyed[stack_of(router), router.layer, order] = router
    return keyed
