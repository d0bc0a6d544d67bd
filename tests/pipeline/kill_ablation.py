"""Kill an ablation at random points of its work and resume it; prints a JSON line for each trial.

A script of its own, as capture/kill_and_resume.py: single-threaded so that it can fork, with everything loaded once.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import specialize
from capture.kill_and_resume import Operations, digests
from pipeline.test_ablate import BATCH, LENGTH, TEXTS, make_checkpoint
from specialize import manifest


def main(folder: Path, trials: int) -> None:
    manifest._git_revision = lambda: None  # a commit during the test would be another plan
    draw, checkpoint, traced = random.Random(0), make_checkpoint(), folder / "traced" / "run"
    specialize.trace_corpus(checkpoint, TEXTS, traced, context=LENGTH, batch_tokens=BATCH)

    def ablate(run: Path, *, kill_at: int | None = None, count_in: Path | None = None) -> int:
        """Ablate in a child process; return its exit status."""
        child = os.fork()
        if child == 0:
            operations = Operations(kill_at)
            specialize.ablate(
                checkpoint, run, experts=[0, 3, 5], rankings=["load"], permutations=2, batch_tokens=BATCH
            )  # fmt: skip
            if count_in is not None:
                count_in.write_text(str(operations.count))
            os._exit(0)
        return os.waitpid(child, 0)[1]

    whole = Path(shutil.copytree(traced, folder / "whole" / "run"))
    assert ablate(whole, count_in=folder / "count") == 0
    operations = int((folder / "count").read_text())
    points = [draw.randrange(operations * i // trials, operations * (i + 1) // trials) + 1 for i in range(trials)]
    for trial, point in enumerate(points):
        run = Path(shutil.copytree(traced, folder / f"trial{trial}" / "run"))  # one name, which results hold
        killed = os.WIFSIGNALED(ablate(run, kill_at=point))
        there = len(list(run.glob("ablation/**/*.*")))
        assert ablate(run) == 0
        print(json.dumps({"killed": killed, "there": there, "identical": digests(run) == digests(whole)}), flush=True)
    print(json.dumps({"files": len(digests(whole / "ablation")), "operations": operations}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
