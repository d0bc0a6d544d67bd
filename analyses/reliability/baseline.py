"""The folder that faults are injected into, and what every command writes where nothing is disturbed."""

import contextlib
import gc
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analyses.reliability.children import Child, Finished, run_here
from analyses.reliability.inputs import write_inputs
from analyses.reliability.stages import MAKING, STAGES, Stage

RUN, OTHER, FOREIGN = "run", "other", "foreign"


@dataclass(frozen=True)
class Clean:
    """A command that nothing disturbed.

    Attributes:
        folder: everything after it.
        finished: what it printed, and how long it took.
    """

    folder: Path
    finished: Finished


@dataclass
class Baseline:
    """Folders that injections are copies of.

    Attributes:
        folder: of everything here.
        state: a folder with inputs, a run in which everything was measured, and a trained model.
        foreign: a run of another corpus and another model, with the same files.
    """

    folder: Path
    _clean: dict[str, Clean] = field(default_factory=dict)
    _lines: dict[str, set[str]] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The folder that is copied."""
        return self.folder / "state"

    @property
    def foreign(self) -> Path:
        """A run of another corpus."""
        return self.folder / FOREIGN / RUN

    def copy(self, here: Path, stage: Stage, *, fresh: bool) -> None:
        """Copy the state to a folder that exists.

        Args:
            here: the folder.
            stage: the command.
            fresh: whether what the command writes is left out.
        """
        for name in (stage.folder, *stage.uses):
            source = self.state / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, here / name)
        removed = stage.removed if fresh or stage.once else stage.without
        for path in find(here, removed):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def clean(self, stage: Stage) -> Clean:
        """Return what a command writes where nothing is disturbed; it runs when this is first asked.

        Raises:
            RuntimeError: it fails.
        """
        if stage.name not in self._clean:
            self._clean[stage.name] = self._run(stage)
        return self._clean[stage.name]

    def _run(self, stage: Stage) -> Clean:
        here = self.folder / "clean" / f"{stage.name}-{os.getpid()}"
        here.mkdir(parents=True)
        self.copy(here, stage, fresh=True)
        first = Child(stage.arguments, here).finish()
        if first.code:
            raise RuntimeError(f"{stage.name} fails where nothing is disturbed: {first.err}")
        return Clean(here, first)

    def clean_lines(self, stage: Stage) -> set[str]:
        """Return the lines that a command prints to stderr: the first time, and where its outputs are there before."""
        if stage.name not in self._lines:
            again = self.folder / "again" / f"{stage.name}-{os.getpid()}"
            again.mkdir(parents=True)
            self.copy(again, stage, fresh=False)
            said = self.clean(stage).finished.err + Child(stage.arguments, again).finish().err
            self._lines[stage.name] = set(said.splitlines())
        return self._lines[stage.name]


def find(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return what matches any of the patterns, sorted."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def make_baseline(folder: Path) -> Baseline:
    """Write the inputs and run every command on them, in this process, which forked children then resemble."""
    baseline = Baseline(folder)
    baseline.state.mkdir(parents=True)
    with contextlib.redirect_stderr(io.StringIO()):
        write_inputs(baseline.state)
    foreign = folder / FOREIGN
    foreign.mkdir()
    for name in ("model", "corpus.jsonl", "labels.csv"):
        source = baseline.state / {"model": "other-model", "corpus.jsonl": "another.jsonl"}.get(name, name)
        (foreign / name).symlink_to(source)
    for name in MAKING:
        run_here(STAGES[name].arguments, foreign)
    for name in MAKING:
        run_here(STAGES[name].arguments, baseline.state)
    run_here(("trace", "other-model", "corpus.jsonl", "-o", OTHER), baseline.state)
    run_here(("syntax", OTHER, "--permutations", "2"), baseline.state)
    for name in ("compare", "import", "train"):
        run_here(STAGES[name].arguments, baseline.state)
    gc.collect()
    gc.freeze()  # children then copy less of this process
    return baseline
