"""Which injections there are: every fault in every command that it applies to."""

import random
from collections.abc import Sequence

from analyses.reliability.baseline import Baseline, find
from analyses.reliability.fault import FAULTS, Fault
from analyses.reliability.injection import Injection
from analyses.reliability.stages import STAGES, Stage

_COSTS = {  # of a command, relative; others cost 3
    "affinity": 1, "validate": 1, "export": 1, "import": 1, "trace": 1, "train": 1, "train, unfinished": 1,
    "syntax": 6, "topics": 8, "figures": 12, "report": 30,
}  # fmt: skip
_REPEATED = 3  # times as much for a fault after which the command is run again
_OTHERS = 2  # files that a command does not read, beside those that it reads


def plan_all(baseline: Baseline, per_cell: int) -> list[Injection]:
    """Return the whole matrix: by command, fault and seed.

    Args:
        baseline: what is disturbed.
        per_cell: injections of each fault in each command; every file that is read is hit by every fault of files, and
            every bad input is given once.
    """
    return [
        Injection(stage.name, fault.name, seed)
        for stage in STAGES.values()
        for fault in FAULTS.values()
        for seed in range(count(stage, fault, baseline, per_cell))
    ]


def count(stage: Stage, fault: Fault, baseline: Baseline, per_cell: int) -> int:
    """Return how often a fault is injected into a command."""
    targets = len(fault.targets(stage, baseline))
    if targets == 0 or fault.often == "each":
        return targets
    wanted = per_cell * fault.times
    if fault.of_files:
        wanted = max(wanted, len(find(baseline.state / stage.folder, stage.reads)) + _OTHERS)
    return min(wanted, targets) if fault.often == "fixed" else wanted


def draw_sample(injections: Sequence[Injection], size: int, *, seed: int = 0) -> list[Injection]:
    """Return some injections: every fault, every command, and no cell twice; those that cost much are rarer."""
    rng = random.Random(seed)
    cells: dict[tuple[str, str], list[Injection]] = {}
    for injection in injections:
        cells.setdefault((injection.stage, injection.fault), []).append(injection)
    order = sorted(cells, key=lambda cell: rng.random() ** (1 / _cost(*cell)))
    chosen: dict[tuple[str, str], None] = {}
    for place in (1, 0):  # a cheap one of every fault, and of every command
        for name in dict.fromkeys(cell[place] for cell in cells):
            chosen[min((cell for cell in order if cell[place] == name), key=lambda cell: _cost(*cell))] = None
    for cell in order:
        chosen[cell] = None
    return sorted(rng.choice(cells[cell]) for cell in list(chosen)[:size])


def _cost(stage: str, fault: str) -> float:
    return _COSTS.get(stage, 3) * (_REPEATED if FAULTS[fault].fresh else 1)
