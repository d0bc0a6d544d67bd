"""Inject faults into every command and judge what comes of each.

    python -m analyses.reliability -o faults                                          # the whole matrix
    python -m analyses.reliability --only probe --fault "file bit flipped" --seed 3   # one injection, with its output

The same command resumes an interrupted matrix. The exit status is 1 if an outcome is bad.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analyses.reliability.children import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before anything loads NumPy, Numba or torch

from analyses.reliability.baseline import Baseline, make_baseline
from analyses.reliability.fault import FAULTS
from analyses.reliability.injection import Injection, Result, inject
from analyses.reliability.judge import BAD
from analyses.reliability.plan import draw_sample, plan_all
from analyses.reliability.stages import STAGES
from analyses.reliability.tables import write_tables
from analyses.reporting import LineReporter

PER_CELL = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix, a sample or a single injection; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("faults"), help="folder of outcomes (default: faults)"
    )
    parser.add_argument("--results", type=Path, help="folder of the tables (default: OUTPUT)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="injections at a time (default: one per core)")
    parser.add_argument("--per-cell", type=int, default=PER_CELL, help=f"of a fault in a command (default: {PER_CELL})")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many injections, spread over all cells")
    parser.add_argument("--only", choices=STAGES, help="only this command")
    parser.add_argument("--fault", choices=FAULTS, help="only this fault")
    parser.add_argument("--seed", type=int, help="a single injection of --only and --fault; its output is shown")
    parser.add_argument("--scratch", type=Path, help="folder of the copies (default: memory, if there is /dev/shm)")
    given = parser.parse_args(arguments)
    if given.seed is not None and not (given.only and given.fault):
        parser.error("--seed: expected --only and --fault beside it")
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(prefix="faults-", dir=given.scratch or (memory if memory.is_dir() else None)))
    reporter = LineReporter()
    try:
        reporter.say("making the runs that faults are injected into …")
        baseline = make_baseline(scratch / "baseline")
        if given.seed is not None:
            return _show(inject(Injection(given.only, given.fault, given.seed), baseline, scratch))
        injections = [
            each
            for each in plan_all(baseline, given.per_cell)
            if given.only in (None, each.stage) and given.fault in (None, each.fault)
        ]
        if given.sample:
            injections = draw_sample(injections, given.sample)
        return _run_all(injections, given, baseline, scratch, reporter)
    except KeyboardInterrupt:
        reporter.say("interrupted; the same command resumes the matrix")
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_all(
    injections: Sequence[Injection],
    given: argparse.Namespace,
    baseline: Baseline,
    scratch: Path,
    reporter: LineReporter,
) -> int:
    given.output.mkdir(parents=True, exist_ok=True)
    stored = given.output / "outcomes.jsonl"
    done = _read(stored)
    todo = [each for each in injections if each not in done]
    reporter.say(f"{len(injections) - len(todo):,} of {len(injections):,} injections are done")
    counts: Counter[str] = Counter()
    with stored.open("a", encoding="utf-8") as file, reporter.progress("faults", "injections") as update:
        began = time.monotonic()
        for number, result in enumerate(_results(todo, given.jobs, baseline, scratch), start=1):
            file.write(json.dumps(result.as_dict()) + "\n")
            file.flush()
            if result.outcome in BAD:
                reporter.say(f"{result.outcome}: {result.injection}, {result.target}: {result.detail[:300]}")
            counts[result.outcome] += 1
            rate = number / (time.monotonic() - began)
            found = ", ".join(f"{outcome} {times:,}" for outcome, times in counts.most_common())
            update(number, len(todo), f"{rate:.1f}/s, {(len(todo) - number) / rate / 60:.0f} min left: {found}")
    table = write_tables(stored, injections, given.results or given.output)
    reporter.say(table)
    return int(any(counts[outcome] for outcome in BAD))


def _results(todo: Sequence[Injection], jobs: int, baseline: Baseline, scratch: Path) -> Iterator[Result]:
    _shared[:] = baseline, scratch
    if jobs == 1:
        yield from map(_inject, todo)
        return
    for name in dict.fromkeys(each.stage for each in todo):
        baseline.clean(STAGES[name])  # once, for all processes
    with multiprocessing.get_context("fork").Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(_inject, todo)


_shared: list[Any] = []  # of forked processes: baseline, which remembers what undisturbed commands do, and scratch


def _inject(injection: Injection) -> Result:
    return inject(injection, *_shared)


def _read(stored: Path) -> set[Injection]:
    if not stored.is_file():
        return set()
    rows = map(json.loads, stored.read_text(encoding="utf-8").splitlines())
    return {Injection(row["stage"], row["fault"], row["seed"]) for row in rows}


def _show(result: Result) -> int:
    for run in result.runs:
        print(f"exit status {run.code} after {run.seconds:.2f} s")
        print(run.out + run.err)
    print(f"{result.injection}, {result.target}\n{result.outcome}: {result.detail}")
    return int(result.outcome in BAD)


if __name__ == "__main__":
    sys.exit(main())
