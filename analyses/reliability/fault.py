"""What a fault is: where it can be injected, and what is right after it."""

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analyses.reliability.baseline import Baseline
from analyses.reliability.children import Child, Finished, Limits
from analyses.reliability.stages import Stage


@dataclass
class Case:
    """A copy of the baseline that a fault is injected into.

    Attributes:
        here: the copy, in which commands run.
        stage: the command.
        baseline: what `here` is a copy of.
        target: what is hit, one of the fault's targets.
        rng: decides everything that is random.
    """

    here: Path
    stage: Stage
    baseline: Baseline
    target: str
    rng: random.Random

    @property
    def folder(self) -> Path:
        """The folder that the command works on."""
        return self.here / self.stage.folder

    @property
    def path(self) -> Path:
        """The file or folder that is hit."""
        return Path(os.path.normpath(self.folder / self.target))


@dataclass
class Injected:
    """How the command is run after a fault was injected, and what is right.

    Attributes:
        names: what a line about the fault has to name, any of them.
        arguments: of the command, where they are others than the stage's.
        limits: of the command.
        execute: runs the command, where it is not just waited for.
        renamed: new names of folders.
        right: ``clean``: an error, or the outputs of the clean run; ``error``: an error; ``either``: an error, or
            success with any outputs; else what a line has to say (a regular expression) if the command succeeds.
        optional: whether the run is valid without what was hit: success with other outputs is right.
        hidden: text that must not be shown.
        remedy: undoes the fault, before the command is repeated.
        repeat: whether the same command, given again, has to give the outputs of the clean run.
    """

    names: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    limits: Limits | None = None
    execute: Callable[[Callable[[], Child]], list[Finished]] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    right: str = "clean"
    optional: bool = False
    hidden: str = ""
    remedy: Callable[[], None] | None = None
    repeat: bool = False


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: of the kind.
        inject: injects it into a case.
        targets: what it can hit in a stage; what is hit first comes first. Empty: it does not apply.
        fresh: whether the command finds its work undone.
        prepare: prepares the folder of an injection, before it is filled, such as a small disk; returns its undoing,
            or None where that is not possible.
        often: how often it is injected: ``random``, as often as is asked for; ``fixed``, where nothing is random, at
            most once for each target; ``each``, once for each target.
        times: injections of it for one of another fault.
        of_files: whether at least every file that the command reads is hit.
    """

    name: str
    inject: Callable[[Case], Injected]
    targets: Callable[[Stage, Baseline], Sequence[str]] = lambda stage, baseline: ("",)
    fresh: bool = False
    prepare: Callable[[Path], Callable[[], None] | None] | None = None
    often: str = "random"
    times: int = 1
    of_files: bool = False


FAULTS: dict[str, Fault] = {}


def register(fault: Fault) -> Fault:
    """Add a fault to the matrix."""
    FAULTS[fault.name] = fault
    return fault


def inputs_of(stage_name: str, inputs: Iterable[str]) -> Callable[[Stage, Baseline], Sequence[str]]:
    """Return the targets of a fault that gives one command its inputs, each by its name."""
    return lambda stage, baseline: tuple(inputs) if stage.name == stage_name else ()
