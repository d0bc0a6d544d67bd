"""Whether imported routing can be what a router chose, judged over all tokens."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.text import list_names
from specialize.trace.schema import NO_EXPERT

_FEWEST_TOKENS = 1000  # below, a constant choice is not unlikely enough for a warning


class Plausibility:
    """Remembers what no router does: of each layer whether all tokens chose the same experts, and the longest run of
    tokens that chose the same ones in every layer, besides how many tokens have none.

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
        self._seen = 0
        self._last: list[NDArray[np.integer]] = []  # the last token's experts in each layer
        self._run = (0, 1)  # the first token and the length of the run that is not at its end yet
        self._longest = (0, 1)

    def see(self, experts: Mapping[int, NDArray[np.integer]]) -> None:
        """Take in the experts [tokens, k] of each layer; tokens without any expert are counted, but not judged."""
        for layer, chosen in experts.items():
            self._see_layer(layer, chosen)
        self._see_runs(list(experts.values()))

    def _see_layer(self, layer: int, experts: NDArray[np.integer]) -> None:
        missing = experts == NO_EXPERT
        empty = int(missing.all(axis=1).sum()) if missing.any() else 0  # all(axis=1) takes ten times as long
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

    def _see_runs(self, layers: list[NDArray[np.integer]]) -> None:
        """Take in the experts of all layers; a run may extend over several calls."""
        count = len(layers[0])
        before = self._last or [np.full_like(experts[0], NO_EXPERT - 1) for experts in layers]
        repeats = np.ones(count, bool)  # whether a token has the experts of the one before it
        for experts, last in zip(layers, before, strict=True):
            rows = np.flatnonzero(repeats)
            if not len(rows):
                break
            earlier = np.where((rows > 0)[:, None], experts[rows - 1], last)
            repeats[rows] = (experts[rows] == earlier).all(axis=1) & (experts[rows] != NO_EXPERT).any(axis=1)
        starts = np.flatnonzero(~repeats)
        bounds = np.concatenate([[self._run[0]], self._seen + starts, [self._seen + count]])
        lengths = np.diff(bounds)
        longest = int(lengths.argmax())
        self._longest = max(self._longest, (int(bounds[longest]), int(lengths[longest])), key=lambda run: run[1])
        self._run = (int(bounds[-2]), int(lengths[-1]))
        self._seen += count
        self._last = [experts[-1].copy() for experts in layers]

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
        first, length = self._longest
        if length >= _FEWEST_TOKENS and self._num_experts > 1 and len(found) < len(self._constant):
            yield (
                f"warning: {length:,} tokens in a row, from token {first:,} of the input on, have the same experts in "
                "all layers; routers rarely do so: were they a profiling batch, or padding?"
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
