"""How shards fall to the parts of a trace."""

import numpy as np
import pytest

from specialize.trace.parts import Part
from specialize.tracing.division import ShardPlan
from specialize.tracing.windows import Window, group_windows


def make_windows(count: int, seed: int) -> list[Window]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 30, count)
    return [Window(row, np.zeros(n, np.int32), 0, np.zeros((n, 2), np.int32)) for row, n in enumerate(lengths)]


def plans(windows: list[Window], of: int) -> list[ShardPlan]:
    def groups():
        return group_windows(iter(windows), first=40, largest=200)

    return [ShardPlan(groups(), Part(number, of)) for number in range(1, of + 1)]


@pytest.mark.parametrize(("count", "of"), [(300, 2), (300, 7), (40, 3), (1, 4), (0, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_each_shard_falls_to_one_part_as_in_the_whole_trace(count, of, seed):
    windows = make_windows(count, seed)
    whole_plan = ShardPlan(group_windows(iter(windows), first=40, largest=200), None)
    whole = list(whole_plan)
    divided = plans(windows, of)
    parts = [list(plan) for plan in divided]
    assert {plan.num_shards for plan in (*divided, whole_plan)} == {len(whole)}
    together = sorted((shard for part in parts for shard in part), key=lambda shard: shard.number)
    assert [(s.number, s.first_sequence, len(s.windows)) for s in together] == [
        (s.number, s.first_sequence, len(s.windows)) for s in whole
    ]
    assert [window.document for shard in together for window in shard.windows] == list(range(count))
    loads = [sum(shard.num_planned for shard in part) for part in parts]
    assert max(loads) - min(loads) <= max((shard.num_planned for shard in whole), default=0)


def test_further_documents_leave_the_earlier_shards_where_they_were():
    windows = make_windows(200, 1)
    for before, after in zip(plans(windows[:120], 3), plans(windows, 3), strict=True):
        earlier = [shard.number for shard in before]
        assert [shard.number for shard in after][: len(earlier) - 1] == earlier[:-1]  # the last one may be longer now
