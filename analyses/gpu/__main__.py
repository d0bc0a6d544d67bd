"""Everything that a GPU must show, in one command: tests, the cost of capture, and training steps.

    python -m analyses.gpu -o OUT             # where there is a GPU, without network; about eight minutes
    python -m analyses.gpu -o OUT --rounds 3  # tries what runs without one on a CPU

It needs the package, torch, transformers and pytest; no annotators. Each step runs in a process of its own and is ended
at its limit; the others go on. OUT has a log for each step, the tables of the benchmarks, and summary.json.
The exit status is 1 if a step failed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specialize.manifest import versions

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """A command, and the seconds after which it is ended."""

    name: str
    command: tuple[str, ...]
    limit: float


def list_steps(output: Path, *, rounds: int, workers: int, on_gpu: bool) -> list[Step]:
    """Return the steps in the order of their worth: what comes last is lost first if time runs out."""
    tests = ("-m", "pytest", "tests/gpu", "-q", "-rs", "-W", "default", "-p", "no:cacheprovider", "--tb=short")
    several = ("-n", str(workers)) if workers > 1 else ()
    benchmarks = "analyses/benchmarks"
    more = ("--batches", "1", "8", "64", "--documents", "400") if on_gpu else ()
    capture = (f"{benchmarks}/capture.py", "-o", str(output), "--rounds", str(rounds), *more)
    corpora = ("2000", "16000") if on_gpu else ("100", "800")
    memory = (f"{benchmarks}/capture_memory.py", "-o", str(output), "--documents", *corpora)
    compiled = (*capture[:5], "--compiled")
    controls = (f"{benchmarks}/capture_control.py", "-o", str(output), "--rounds", str(max(3, rounds // 3)))
    train = (f"{benchmarks}/train.py", "-o", str(output), "--rounds", str(max(3, rounds // 2)))
    return [
        Step("tests", (*tests, *several, f"--junitxml={output}/tests.xml"), 180),
        Step("capture", capture, 180),
        Step("memory", memory, 120),
        Step("train", train, 80),
        Step("controls", controls, 60),
        *([Step("compiled", compiled, 200)] if on_gpu else []),
    ]


def run(step: Step, output: Path) -> dict[str, object]:
    """Run a step and write its log; returns its name, exit status (None: ended at its limit) and seconds."""
    started = time.monotonic()
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    status: int | None = None
    with (output / f"{step.name}.log").open("w", encoding="utf-8") as log:
        try:
            command = [sys.executable, *step.command]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=step.limit,
                check=False,
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            pass
    return {"step": step.name, "status": status, "seconds": round(time.monotonic() - started, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=min(6, os.cpu_count() or 1), help="processes of the tests")
    parser.add_argument("--only", nargs="*", help="names of the steps to run")
    given = parser.parse_args(arguments)
    import torch

    on_gpu = torch.cuda.is_available()
    output = given.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if on_gpu else platform.machine()
    about = {"device": device, "python": platform.python_version(), "versions": versions()}
    print(json.dumps(about), flush=True)
    done = []
    for step in list_steps(output, rounds=given.rounds, workers=given.workers, on_gpu=on_gpu):
        if given.only and step.name not in given.only:
            continue
        done.append(run(step, output))
        log = (output / f"{step.name}.log").read_text(encoding="utf-8").splitlines()
        print(json.dumps(done[-1]), *log[-12:], sep="\n", flush=True)
        (output / "summary.json").write_text(json.dumps(about | {"steps": done}, indent=2) + "\n", encoding="utf-8")
    return int(any(step["status"] != 0 for step in done))


if __name__ == "__main__":
    sys.exit(main())
