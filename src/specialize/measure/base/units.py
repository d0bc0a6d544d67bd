"""Labelled units (tokens or documents) of one layer, in memory or read a part at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.counting import add_to

Part: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float64], NDArray[np.int64]]


class Units(Protocol):
    """Labelled units (tokens or documents) of one layer, in parts of whole documents."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of units of each document, int64 [documents]."""

    @property
    def blocks(self) -> NDArray[np.int32]:
        """Block of each document, int32 [documents]."""

    @property
    def groups(self) -> NDArray[np.integer] | None:
        """Group of each document, integers [documents]; None where each is a group of its own."""

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""

    @property
    def group_numbers(self) -> NDArray[np.integer]:
        """Group of each document, integers [documents]."""

    def parts(self) -> "Iterator[Observations]":
        """Yield the units of consecutive documents; they cover the documents in order."""


class _InBlocks:
    """What follows from the block and the group of each document."""

    blocks: NDArray[np.int32]
    groups: NDArray[np.integer] | None

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.blocks.max(initial=-1)) + 1

    @property
    def group_numbers(self) -> NDArray[np.integer]:
        """Group of each document, its own number where each is a group of its own, integers [documents]."""
        return np.arange(len(self.blocks)) if self.groups is None else self.groups


@dataclass(frozen=True)
class Observations(_InBlocks):
    """Labelled units (tokens or documents) of one layer, in memory: one part, or all of them.

    Attributes:
        codes: int32 [units], the label of each unit; none is negative.
        experts: int16 [units, slots], negative where a slot holds no expert.
        masses: float64 [units, slots], or [units, 1] where all slots of a unit have the same mass.
        starts: int64 [documents + 1], first unit of each document; the last entry is the number of units.
        blocks: int32 [documents], the block of each document.
        groups: integers [documents], the group of each document; None where each is a group of its own.
    """

    codes: NDArray[np.int32]
    experts: NDArray[np.int16]
    masses: NDArray[np.float64]
    starts: NDArray[np.int64]
    blocks: NDArray[np.int32]
    groups: NDArray[np.integer] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of units of each document, int64 [documents]."""
        return np.diff(self.starts)

    @property
    def unit_blocks(self) -> NDArray[np.int32]:
        """Block of each unit, int32 [units]."""
        return np.repeat(self.blocks, np.diff(self.starts))

    def parts(self) -> "Iterator[Observations]":
        """Yield these units."""
        yield self


@dataclass(frozen=True)
class ObservedParts(_InBlocks):
    """Labelled units of one layer that are read a part at a time, so that memory does not grow with their number.

    Attributes:
        read: returns codes, experts, masses and starts of consecutive documents, see `Observations`, which cover the
            documents in order; called for each pass over the units.
        lengths: int64 [documents], number of units of each document.
        blocks: int32 [documents], the block of each document.
        groups: integers [documents], the group of each document.
    """

    read: Callable[[], Iterator[Part]]
    lengths: NDArray[np.int64]
    blocks: NDArray[np.int32]
    groups: NDArray[np.integer] | None = None

    def parts(self) -> Iterator[Observations]:
        """Yield the units of consecutive documents."""
        first = 0
        for codes, experts, masses, starts in self.read():
            end = first + len(starts) - 1
            yield Observations(codes, experts, masses, starts, self.blocks[first:end])
            first = end


def tabulate_units(units: Units, *, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Count the masses of units, float64 [block, label, expert]."""
    table = np.zeros(shape)
    for part in units.parts():
        add_to(table, part.codes, part.experts, part.masses, part.unit_blocks)
    return table
