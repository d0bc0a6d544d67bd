"""Checks that every imported block must pass, whatever tool wrote it."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.imports.source import Block, Source
from specialize.trace.schema import MOST_EXPERTS, NO_EXPERT

_ABSENT_UNSIGNED = 0xFFFF
_LARGEST_HALF = 65504.0


class Checker:
    """Checks blocks and converts them to the types of a trace.

    Args:
        source: the input.
        num_experts: E.
        layers: numbers of the MoE layers, if the user gave them.

    Attributes:
        layers: numbers of the layers that are kept; set by the first block.
        top_k: k; set by the first block.
        contents: what the trace holds besides the experts; set by the first block.
        column: what `check` returns of each layer.
    """

    column = "experts"

    def __init__(self, source: Source, *, num_experts: int, layers: tuple[int, ...] | None) -> None:
        if not 1 <= num_experts <= MOST_EXPERTS:
            raise TraceError(f"num_experts: expected 1 to {MOST_EXPERTS}, got {num_experts}; set num_experts")
        self.source = source
        self.num_experts = num_experts
        self.layers: tuple[int, ...] = ()
        self.top_k = 0
        self.contents: list[str] = []
        self._asked = layers
        self._index: list[int] = []
        self._keeps_all = True
        self._shape: tuple[int, ...] = ()
        self._columns: set[str] = set()

    def check(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return the block's columns: document, those of the tokens, experts int16 and weights float16.

        Raises:
            TraceError: the block's shape differs from that of earlier blocks, an expert id is out of range or occurs
                twice in a token, or a gate weight is not finite.
        """
        columns = set(block.tokens) | ({"weights"} if block.weights is not None else set())
        if not self._shape:
            self._begin(block, columns)
        if block.experts.shape[1:] != self._shape or columns != self._columns:
            layers, top_k = self._shape
            raise TraceError(
                f"{block.where(0)}: expected {layers} layers with k = {top_k} and the same columns as before, got "
                f"{block.experts.shape[1]} layers with k = {block.experts.shape[2]}; import the files separately"
            )
        chosen = block.experts if self._keeps_all else block.experts[:, self._index]
        experts = self._experts(block, chosen)
        result = {"document": block.document, "experts": experts}
        for name, column in block.tokens.items():
            if np.issubdtype(column.dtype, np.integer) and (column.min() < -(2**31) or column.max() >= 2**31):
                raise TraceError(f"{block.where(0)} or after: expected {name} within 32 bits, got a larger integer")
            result[name] = column
        if block.weights is not None:
            weights = block.weights if self._keeps_all else block.weights[:, self._index]
            wrong = ~(np.abs(weights) <= _LARGEST_HALF) & (experts != NO_EXPERT)  # NaN compares false
            if wrong.any():
                place, value = self._place(block, wrong, weights)
                raise TraceError(f"{place}: expected a finite gate weight within half precision, got {value}")
            result["weights"] = np.where(experts == NO_EXPERT, 0, weights).astype(np.float16)
        return result

    def _begin(self, block: Block, columns: set[str]) -> None:
        self._shape, self._columns = block.experts.shape[1:], columns
        self.layers, self._index = choose_layers(self.source, self._asked, self._shape[0])
        self._keeps_all = self._index == list(range(self._shape[0]))
        self.top_k = self._shape[1]
        if not self._shape[0] or not 1 <= self.top_k <= self.num_experts:
            raise TraceError(
                f"{block.where(0)}: expected at least one layer and k from 1 to {self.num_experts}, the number of "
                f"experts, got {self._shape[0]} layers with k = {self.top_k}"
            )
        self.contents = ["weights"] * ("weights" in columns) + ["predictions"] * ("predicted_token_id" in columns)

    def _experts(self, block: Block, chosen: NDArray[np.integer]) -> NDArray[np.int16]:
        missing = _missing(self.source, chosen)
        wrong = (chosen >= self.num_experts) | (chosen < 0)
        if missing is not None:
            wrong &= ~missing
        if wrong.any():
            place, value = self._place(block, wrong, chosen)
            raise TraceError(
                f"{place}: expected an expert id from 0 to {self.num_experts - 1}, got {value}; "
                "the file is damaged, or num_experts is too small"
            )
        experts = chosen.astype(np.int16)
        if missing is not None:
            experts[missing] = NO_EXPERT
        if self.top_k > 1:
            ranked = np.sort(experts, axis=2)
            twice = (ranked[:, :, 1:] == ranked[:, :, :-1]) & (ranked[:, :, 1:] != NO_EXPERT)
            if twice.any():
                place, value = self._place(block, twice, ranked[:, :, 1:])
                raise TraceError(
                    f"{place}: expected {self.top_k} different experts, got expert {value} twice; if this is a "
                    "dense layer, name the MoE layers with `layers`, else check k"
                )
        return experts

    def _place(self, block: Block, wrong: NDArray[np.bool_], values: NDArray[Any]) -> tuple[str, Any]:
        row, layer, slot = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        return f"{block.where(int(row))}, layer {self.layers[int(layer)]}", values[row, layer, slot]


def choose_layers(source: Source, asked: tuple[int, ...] | None, count: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the numbers of the layers to import, and their places on the layers' axis.

    If the input does not number its layers and `asked` has as many numbers as there are layers, they number the
    layers in order; fewer numbers select from the layers 0, 1, ….

    Args:
        source: the input.
        asked: numbers that the user gave; None for all layers.
        count: number of layers in the input.

    Raises:
        TraceError: there are no layers, or one that was asked for is not in the input.
    """
    if not count:
        raise TraceError(f"{source.path}: expected the routing of at least one layer, got arrays without layers")
    known = source.layers or tuple(range(count))
    if asked is None:
        return known, list(range(count))
    if source.layers is None and len(asked) == count:
        return asked, list(range(count))
    missing = [number for number in asked if number not in known]
    if missing:
        raise TraceError(
            f"{source.path}: layers: expected layers among {known[0]} to {known[-1]} ({count} of them), "
            f"got {missing[0]}"
        )
    return asked, [known.index(number) for number in asked]


def largest_expert(source: Source, asked: tuple[int, ...] | None, blocks: Iterable[Block]) -> int:
    """Return the largest expert id of an input."""
    highest = -1
    for experts in _kept(source, asked, blocks):
        missing = _missing(source, experts)
        here = experts if missing is None else experts[~missing]
        highest = max(highest, int(here.max())) if here.size else highest
    if highest < 0:
        raise TraceError(f"{source.path}: expected the routing of at least one token, got none")
    if highest >= MOST_EXPERTS:
        raise TraceError(f"{source.path}: expected ids of experts below {MOST_EXPERTS}, got {highest}")
    return highest


def _kept(source: Source, asked: tuple[int, ...] | None, blocks: Iterable[Block]) -> Iterator[NDArray[np.integer]]:
    for block in blocks:
        if len(block.experts):
            _, index = choose_layers(source, asked, block.experts.shape[1])
            yield block.experts[:, index] if asked else block.experts


def _missing(source: Source, experts: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    """Return which slots the format marks as without an expert; None if there are none."""
    if not source.marks_absent:
        return None
    mark = _ABSENT_UNSIGNED if np.issubdtype(experts.dtype, np.unsignedinteger) else NO_EXPERT
    if mark > np.iinfo(experts.dtype).max:
        return None  # of one byte: every value is an expert id
    missing: NDArray[np.bool_] = experts == mark
    return missing if missing.any() else None
