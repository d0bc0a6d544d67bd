"""The labelled tokens or documents of one layer, with the blocks that they belong to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, SlotRule, check_choice
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks, check_order, group_documents
from specialize.measure.base.counting import as_codes, check_range, count_usage, spread_mass
from specialize.measure.base.nulls import Observations


@dataclass(frozen=True)
class ObservedCounts:
    """Numbers of tokens, documents and blocks counted, as keyword arguments of an estimate."""

    n_tokens: int
    n_documents: int
    num_blocks: int


def observe_layer(
    codes: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    num_experts: int,
    weights: ArrayLike | None = None,
    rule: SlotRule = "selection",
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
) -> tuple[Observations, ObservedCounts]:
    """Check the arguments of `measure_layer` and return the labelled units, and how many there are."""
    chosen, masses = spread_mass(np.asarray(experts), None if weights is None else np.asarray(weights), rule=rule)
    labels, places = as_codes(codes), as_codes(documents)
    check_range("codes", labels, num_labels)
    check_range("experts", chosen, num_experts)
    _check_documents(labels, chosen, places, level=level)
    if level == "token":
        seen, counts = _observe_tokens(labels, chosen, masses, places, groups, num_blocks=num_blocks)
    else:
        usage = count_usage(chosen, masses, places, num_documents=len(labels), num_experts=num_experts)
        seen, counts = _observe_documents(labels, usage, places, groups, num_blocks=num_blocks)
    if not counts.n_tokens:
        raise MeasurementError(f"expected {level}s with both a label and an expert, got none: check the labels")
    return seen, counts


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


def _check_documents(
    labels: NDArray[np.int32], experts: NDArray[np.int16], documents: NDArray[np.int32], *, level: Level
) -> None:
    check_choice("level", level, Level, error=MeasurementError)
    if len(documents) != len(experts) or (level == "token" and len(labels) != len(experts)):
        raise MeasurementError(
            "codes, experts and documents must be of one length, "
            f"got {len(labels)}, {len(experts)} and {len(documents)}"
        )
    check_order(documents)
    if level == "document":
        check_range("documents", documents, len(labels))


def _observe_tokens(
    labels: NDArray[np.int32],
    experts: NDArray[np.int16],
    masses: NDArray[np.float64],
    documents: NDArray[np.int32],
    groups: ArrayLike | None,
    *,
    num_blocks: int,
) -> tuple[Observations, ObservedCounts]:
    """Keep the labelled tokens, routed by this layer or not, so that blocks and nulls of layers correspond."""
    labelled = labels >= 0
    seen = observe_units(
        labels[labelled],
        experts[labelled],
        masses[labelled],
        documents[labelled],
        groups=groups,
        num_blocks=num_blocks,
    )
    routed = ((seen.experts >= 0) & (seen.masses > 0)).any(axis=1)
    n_documents = int(np.count_nonzero(np.add.reduceat(routed, seen.starts[:-1]))) if len(seen.codes) else 0
    return seen, ObservedCounts(int(routed.sum()), n_documents, seen.num_blocks)


def _observe_documents(
    labels: NDArray[np.int32],
    usage: NDArray[np.float64],
    documents: NDArray[np.int32],
    groups: ArrayLike | None,
    *,
    num_blocks: int,
) -> tuple[Observations, ObservedCounts]:
    """Keep the labelled documents that have tokens, routed by this layer or not."""
    kept = np.flatnonzero((labels >= 0) & (np.bincount(documents, minlength=len(labels)) > 0))
    routed = usage[kept].sum(axis=1)
    seen = observe_units(
        labels[kept],
        np.tile(np.arange(usage.shape[1], dtype=np.int16), (len(kept), 1)),
        usage[kept] / np.where(routed > 0, routed, 1.0)[:, None],
        kept,
        groups=groups,
        num_blocks=num_blocks,
    )
    return seen, ObservedCounts(round(float(routed.sum())), int(np.count_nonzero(routed)), seen.num_blocks)
