"""Whether imported routing can be what a router chose, judged over all tokens."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.text import list_names
from specialize.trace.schema import NO_EXPERT

_FEWEST_TOKENS = 1000  # below, a constant choice is not unlikely enough for a warning


class Plausibility:
    """Remembers of each layer whether all tokens chose the same experts, and how many have none.

    Args:
        where: the input, for messages.
        num_experts: E.
    """

    def __init__(self, where: str, *, num_experts: int) -> None:
        self._where = where
        self._num_experts = num_experts
        self._constant: dict[int, NDArray[np.integer] | None] = {}  # of each layer; None if tokens differ
        self._tokens: dict[int, int] = {}
        self._empty: dict[int, int] = {}

    def see(self, layer: int, experts: NDArray[np.integer]) -> None:
        """Take in the experts [tokens, k] of a layer; tokens without any expert are counted, but not judged."""
        empty = int((experts == NO_EXPERT).all(axis=1).sum())
        if empty:
            self._empty[layer] = self._empty.get(layer, 0) + empty
        if layer in self._constant and self._constant[layer] is None:
            return
        routed = np.sort(experts[(experts != NO_EXPERT).any(axis=1)], axis=1)
        if not len(routed):
            return
        first = self._constant.setdefault(layer, routed[0])
        self._tokens[layer] = self._tokens.get(layer, 0) + len(routed)
        if (routed != first).any():
            self._constant[layer] = None

    def judge(self) -> Iterator[str]:
        """Yield what a user should know: a layer in which all tokens are alike, and tokens without experts.

        Raises:
            TraceError: no token has another expert than 0.
        """
        if not self._constant:
            raise TraceError(f"{self._where}: expected the experts that routers chose, found no slot with an expert")
        constant = {layer: experts for layer, experts in self._constant.items() if experts is not None}
        if self._num_experts > 1 and len(constant) == len(self._constant):
            check_not_all_zero(self._where, max(int(experts.max()) for experts in constant.values()))
        found = [layer for layer in sorted(constant) if self._tokens[layer] >= _FEWEST_TOKENS]
        if found and self._num_experts > len(constant[found[0]]):
            chosen = ", ".join(map(str, constant[found[0]]))
            yield (
                f"warning: all {self._tokens[found[0]]:,} tokens have the same experts in {len(found)} of "
                f"{len(self._constant)} layers ({list_names(found)}; in layer {found[0]}: {chosen}); a router "
                "rarely does so: is it a dense layer, or was nothing recorded?"
            )
        if self._empty:
            each = list_names(f"{count:,} in layer {layer}" for layer, count in sorted(self._empty.items()))
            yield f"tokens without experts, which are -1 in all slots of a layer: {each}"


def check_not_all_zero(where: str, largest: int) -> None:
    """Raise TraceError if the largest expert id of an input is 0: the capture recorded nothing."""
    if largest == 0:
        raise TraceError(
            f"{where}: expected the experts that routers chose, got expert 0 for every token in every layer; nothing "
            "was recorded"
        )
