"""How the shards of a trace are divided among its parts."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from specialize.trace.parts import Part
from specialize.tracing.windows import Window


@dataclass(frozen=True)
class PlannedShard:
    """A shard before it is traced.

    Attributes:
        number: of the shard in the whole trace, from 0.
        first_sequence: running number of its first window in the whole trace.
        windows: in reading order.
    """

    number: int
    first_sequence: int
    windows: list[Window]

    @property
    def num_planned(self) -> int:
        """Largest number of tokens that it may have."""
        return sum(window.num_planned for window in self.windows)


class ShardPlan:
    """The shards of a trace, or those that fall to one of its parts, in order; iterated over once.

    Each shard falls to the part that has the fewest planned tokens so far, and of several such parts to the first. That
    depends on the tokenized texts alone, so that every part finds its shards without running the model on the others,
    and the parts differ by the tokens of one shard at most.

    Args:
        groups: the windows of each shard of the whole trace.
        part: whose shards are wanted; None for all.

    Attributes:
        part: whose shards are wanted; None for all.
        num_shards: number of shards of the whole trace that were seen so far; in the end of all.
    """

    def __init__(self, groups: Iterator[list[Window]], part: Part | None) -> None:
        self.part, self.num_shards = part, 0
        self._groups = groups

    def __iter__(self) -> Iterator[PlannedShard]:
        part = self.part or Part(1, 1)
        loads = [(0, number) for number in range(1, part.of + 1)]  # a heap: tokens and number of each part
        sequence = 0
        for windows in self._groups:
            shard = PlannedShard(self.num_shards, sequence, windows)
            self.num_shards, sequence = self.num_shards + 1, sequence + len(windows)
            tokens, number = loads[0]
            heapq.heapreplace(loads, (tokens + shard.num_planned, number))
            if number == part.number:
                yield shard
