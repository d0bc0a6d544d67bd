"""Short runs of the stages on a sample of a corpus, each stage in a process of its own, whose memory is its own.

    python -m specialize.pipeline.pilot JOB.json

runs one stage on several run folders, from small to large, and prints what each run took as JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from specialize.errors import SpecializeError
from specialize.events import Update

_LONGEST = 120.0  # seconds of a run, beyond which no larger one is made
_FEWEST = 2  # runs: one warms up, one is measured


class StepClock:
    """A reporter that adds up the time of each step, by its title.

    Attributes:
        steps: wall time in seconds.
        cpu_steps: time of the processor in seconds.
    """

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.cpu_steps: dict[str, float] = {}

    def say(self, message: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Time a step."""
        del unit
        started, used = time.perf_counter(), time.process_time()
        try:
            yield _ignore
        finally:
            self.steps[title] = self.steps.get(title, 0.0) + time.perf_counter() - started
            self.cpu_steps[title] = self.cpu_steps.get(title, 0.0) + time.process_time() - used


def _ignore(done: int, total: int, rate: str | None = None) -> None:
    """Do nothing."""


def run_stage(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one stage on several run folders.

    Args:
        job: ``stage``; ``arguments`` of its function; ``model`` and ``loading``; ``runs``, a run folder and a corpus
            each, of an ablation with arguments of their own; and ``launched``, when the process was started.

    Returns:
        The seconds before the first run, and of each run its seconds, memory and files; fewer runs than asked for
        where the next one would take long.
    """
    make = _STAGES[job["stage"]](job)
    answer: dict[str, Any] = {
        "start_seconds": max(0.0, time.time() - job["launched"]),
        "start_cpu_seconds": time.process_time(),
        "runs": [],
    }
    before = None
    for place in job["runs"]:
        found = _time_run(Path(place["run"]), partial(make, place))
        answer["runs"].append(found)
        growth = 1.0 if before is None else found["seconds"] / max(before, 1e-3)
        before = found["seconds"]
        if len(answer["runs"]) >= _FEWEST and found["seconds"] * max(growth, 2.0) > _LONGEST:
            break
    return answer


def _time_run(run: Path, make: Callable[[StepClock], object]) -> dict[str, Any]:
    there = list_files(run)
    clock = StepClock()
    _forget_peak()
    started, used = time.perf_counter(), time.process_time()
    make(clock)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "steps": clock.steps,
        "cpu_steps": clock.cpu_steps,
        "host": _peak_bytes(),
        **_used_devices(),
        "files": {path: size for path, size in list_files(run).items() if path not in there},
    }


def list_files(run: Path) -> dict[str, int]:
    """Return the bytes of all files of a run folder by path, locks and hidden files left out."""
    return {
        path.relative_to(run).as_posix(): path.stat().st_size
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def _trace(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any], StepClock], object]:
    from specialize.events import SILENT
    from specialize.pipeline.models import load_model
    from specialize.pipeline.trace import trace_corpus

    checkpoint = load_model(job["model"], job["loading"], reporter=SILENT)
    return lambda place, clock: trace_corpus(
        checkpoint, place["corpus"], place["run"], **job["arguments"], reporter=clock
    )


def _syntax(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any], StepClock], object]:
    from specialize.pipeline.syntax import syntax

    return lambda place, clock: syntax(place["run"], **job["arguments"], reporter=clock)


def _topics(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any], StepClock], object]:
    from specialize.pipeline.topics import topics

    return lambda place, clock: topics(place["run"], **job["arguments"], reporter=clock)


def _ablate(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any], StepClock], object]:
    from specialize.events import SILENT
    from specialize.pipeline.ablate import ablate
    from specialize.pipeline.models import load_model

    checkpoint = load_model(job["model"], job["loading"], reporter=SILENT)
    return lambda place, clock: ablate(
        checkpoint, place["run"], **{**job["arguments"], **place.get("arguments", {})}, reporter=clock
    )


_STAGES = {"trace": _trace, "syntax": _syntax, "topics": _topics, "ablate": _ablate}


def _forget_peak() -> None:
    """Let the largest memory of this process begin anew, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_bytes() -> int:
    """Return the largest memory of this process; that of `getrusage` is inherited from the parent process on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _used_devices() -> dict[str, int]:
    """Return the largest memory of this process on all GPUs, and on how many of them it has any."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {"device": 0, "devices": 0}
    held = [torch.cuda.max_memory_reserved(number) for number in range(torch.cuda.device_count())]
    return {"device": sum(held), "devices": sum(size > 0 for size in held)}


def main() -> int:
    """Run the job of a file; print its result, or the error of the user."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        answer = run_stage(job)
    except SpecializeError as error:
        answer = {"error": str(error)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
