"""The labelled tokens or documents of one layer, with the blocks that they belong to."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, check_choice
from specialize.column import as_array
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks, group_documents
from specialize.measure.base.counting import add_to, as_codes, check_range, spread_mass
from specialize.measure.base.layer_input import LayerInput, cut_rows
from specialize.measure.base.routed import has_mass
from specialize.measure.base.units import Observations, ObservedParts, Part, Units


@dataclass(frozen=True)
class ObservedCounts:
    """Numbers of tokens, documents and blocks counted, as keyword arguments of an estimate."""

    n_tokens: int
    n_documents: int
    num_blocks: int


def observe_layer(
    layer: LayerInput, codes: ArrayLike, *, level: Level, num_labels: int, num_blocks: int
) -> tuple[Units, ObservedCounts]:
    """Check the arguments of `measure_layer` and return the labelled units, and how many there are."""
    labels = as_array(codes)
    _check_documents(layer, len(labels), level=level)
    if level == "token":
        seen, counts = _observe_tokens(layer, labels, num_labels=num_labels, num_blocks=num_blocks)
    else:
        check_range("codes", as_codes(labels), num_labels)
        usage = sum_usage(layer, len(labels))
        seen, counts = _observe_documents(as_codes(labels), usage, layer, num_blocks=num_blocks)
    if not counts.n_tokens:
        raise MeasurementError(f"expected {level}s with both a label and an expert, got none: check the labels")
    return seen, counts


def sum_usage(layer: LayerInput, num_documents: int) -> NDArray[np.float64]:
    """Sum the masses of each document's tokens, by expert, float64 [document, expert].

    A row sums to the document's routed tokens.
    """
    usage = np.zeros((num_documents, 1, layer.num_experts))
    for part in layer.parts():
        chosen, masses = spread_mass(part.experts, part.weights, rule=layer.rule)
        check_range("experts", chosen, layer.num_experts)
        add_to(usage, np.zeros(len(chosen), dtype=np.int32), chosen, masses, as_codes(part.documents))
    return usage[:, 0]


def observe_units(
    codes: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    documents: NDArray[np.integer],
    *,
    groups: ArrayLike | None,
    num_blocks: int,
) -> Observations:
    """Return labelled units, tokens or documents, with the block and the group of each of their documents.

    Args:
        codes: int32 [units], the label of each unit.
        experts: int16 [units, slots]; negative where a slot holds no expert.
        masses: float64 [units, slots] or [units, 1].
        documents: integers [units], the document of each unit, non-decreasing.
        groups: integers [documents], see `assign_blocks`; None where each document is a group of its own.
        num_blocks: maximum number of document blocks.
    """
    present, first = np.unique(documents, return_index=True)
    own = group_documents(present, groups)
    return Observations(
        codes=codes,
        experts=experts,
        masses=masses,
        starts=np.append(first, len(documents)).astype(np.int64),
        blocks=assign_blocks(own, num_blocks=num_blocks),
        groups=own,
    )


def _check_documents(layer: LayerInput, num_labels: int, *, level: Level) -> None:
    check_choice("level", level, Level, error=MeasurementError)
    size = len(layer.experts)
    if len(layer.documents) != size or (level == "token" and num_labels != size):
        raise MeasurementError(
            f"codes, experts and documents must be of one length, got {num_labels}, {size} and {len(layer.documents)}"
        )
    if level == "document" and len(layer.counts) > num_labels:
        check_range("documents", np.flatnonzero(layer.counts), num_labels)


def _observe_tokens(
    layer: LayerInput, labels: Any, *, num_labels: int, num_blocks: int
) -> tuple[Units, ObservedCounts]:
    """Keep the labelled tokens, routed by this layer or not, so that blocks and nulls of layers correspond."""
    lengths = count_labelled(labels, layer.counts, num_labels=num_labels)
    present = np.flatnonzero(lengths)
    own = group_documents(present, layer.groups)
    seen = ObservedParts(
        read=partial(read_labelled, layer, labels),
        lengths=lengths[present],
        blocks=assign_blocks(own, num_blocks=num_blocks),
        groups=own,
    )
    n_tokens = n_documents = 0
    for part in seen.parts():
        check_range("experts", part.experts, layer.num_experts)
        routed = has_mass(part.experts, part.masses)
        n_tokens += int(np.count_nonzero(routed))
        n_documents += int(np.count_nonzero(np.add.reduceat(routed, part.starts[:-1]))) if len(routed) else 0
    return seen, ObservedCounts(n_tokens, n_documents, seen.num_blocks)


def count_labelled(labels: Any, counts: NDArray[np.int64], *, num_labels: int) -> NDArray[np.int64]:
    """Count the labelled tokens of each document, int64 [documents].

    Args:
        labels: integers [tokens], in memory or on disk; negative where there is none.
        counts: int64 [documents], number of tokens of each.
        num_labels: number of labels; codes are below it.
    """
    found = np.zeros_like(counts)
    for first, last, rows in cut_rows(counts):
        codes = as_codes(labels[rows])
        check_range("codes", codes, num_labels)
        found[first:last] = _count_in_each(codes >= 0, np.append(0, np.cumsum(counts[first:last])))
    return found


def read_labelled(layer: LayerInput, labels: Any) -> Iterator[Part]:
    """Yield codes, experts, masses and starts of the labelled tokens of parts of a layer, see `ObservedParts`."""
    for part in layer.parts():
        codes = as_codes(labels[part.rows])
        experts, masses = spread_mass(part.experts, part.weights, rule=layer.rule)
        labelled, lengths = codes >= 0, part.counts
        if not labelled.all():
            codes, experts, masses = codes[labelled], experts[labelled], masses[labelled]
            lengths = _count_in_each(labelled, part.starts)
        yield codes, experts, masses, np.append(0, np.cumsum(lengths[lengths > 0]))


def _count_in_each(chosen: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the chosen tokens of each document; documents may be empty."""
    return np.diff(np.append(0, np.cumsum(chosen))[starts])


def _observe_documents(
    labels: NDArray[np.int32], usage: NDArray[np.float64], layer: LayerInput, *, num_blocks: int
) -> tuple[Observations, ObservedCounts]:
    """Keep the labelled documents that have tokens, routed by this layer or not."""
    has_tokens = np.zeros(len(labels), dtype=bool)
    has_tokens[np.flatnonzero(layer.counts)] = True
    kept = np.flatnonzero((labels >= 0) & has_tokens)
    routed = usage[kept].sum(axis=1)
    seen = observe_units(
        labels[kept],
        np.tile(np.arange(usage.shape[1], dtype=np.int16), (len(kept), 1)),
        usage[kept] / np.where(routed > 0, routed, 1.0)[:, None],
        kept,
        groups=layer.groups,
        num_blocks=num_blocks,
    )
    return seen, ObservedCounts(round(float(routed.sum())), int(np.count_nonzero(routed)), seen.num_blocks)
