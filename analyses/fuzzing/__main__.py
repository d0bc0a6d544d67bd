"""Fuzzes the readers of foreign bytes: python -m analyses.fuzzing --minutes 10. Inputs are kept in --work for more."""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from analyses.fuzzing.findings import shorten_findings
from analyses.fuzzing.harness import without_slow_parts
from analyses.fuzzing.targets import TARGETS

_RESULTS = Path(__file__).parent / "results.csv"
_FEWEST_SECONDS = 5


@dataclass
class Row:
    """What fuzzing a target gave: a row of results.csv.

    Attributes:
        target: its name.
        seconds: for which it was fuzzed in this run.
        executions: inputs that were read in this run.
        per_second: executions per second.
        accepted: share of inputs that were read without an error.
        branches: edges of the instrumented modules that were covered.
        inputs: inputs in the corpus, which cover them.
        findings: distinct exceptions and broken promises, by type and place.
        ends: hangs, memory beyond the limit and signals, each of which ended a process.
    """

    target: str
    seconds: int = 0
    executions: int = 0
    per_second: int = 0
    accepted: float = 0.0
    branches: int = 0
    inputs: int = 0
    findings: int = 0
    ends: int = 0


def fuzz(name: str, work: Path, seconds: int) -> Row:
    """Fuzz a target in processes of its own until the time is over."""
    folder, row, accepted, left = work / name, Row(name), 0, seconds
    shutil.rmtree(folder / "findings", ignore_errors=True)  # those of earlier versions
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    while left >= _FEWEST_SECONDS:
        began = time.monotonic()
        log = _run(name, folder, left)
        left -= max(round(time.monotonic() - began), 1)
        counts = json.loads((folder / "counts.json").read_text()) if (folder / "counts.json").exists() else {}
        done = re.search(r"stat::number_of_executed_units:\s*([0-9]+)", log)
        row.executions += int(done[1]) if done else counts.get("executions", 0)
        accepted += counts.get("accepted", 0) / max(counts.get("executions", 0), 1) * (int(done[1]) if done else 0)
        row.branches = max([row.branches, *map(int, re.findall(r"cov: ([0-9]+)", log)[-1:])])
        if "\nDone " not in log:
            row.ends += 1
            if not done and not counts.get("executions"):
                sys.stderr.write(f"{name}: stopped at once, see {folder / 'log.txt'}\n")
                break
    with tempfile.TemporaryDirectory() as scratch, without_slow_parts():
        shorten_findings(TARGETS[name], folder, Path(scratch) / "input")
    row.seconds = seconds - max(left, 0)
    row.per_second = round(row.executions / max(row.seconds, 1))
    row.accepted = round(accepted / max(row.executions, 1), 3)
    row.inputs = len(list((folder / "corpus").glob("*")))
    row.findings = len(list((folder / "findings").glob("*")))
    return row


def _run(name: str, folder: Path, seconds: int) -> str:
    """Run a worker and return what it printed."""
    (folder / "counts.json").unlink(missing_ok=True)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-", dir=memory if memory.is_dir() else None) as scratch:
        command = [sys.executable, "-m", "analyses.fuzzing.worker", name, str(folder), str(seconds), scratch]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "1"}
        with (folder / "log.txt").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    return (folder / "log.txt").read_text(encoding="utf-8", errors="replace")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write results.csv; targets that were not fuzzed now keep their rows."""
    known = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            known = {row["target"]: row for row in csv.DictReader(file)}
    known |= {row.target: asdict(row) for row in rows}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(known[name] for name in TARGETS if name in known)


def main() -> int:
    """Fuzz the targets in parallel, write results.csv, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m analyses.fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--targets", default="", help="names, separated by spaces; default: all")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="targets at the same time")
    parser.add_argument("--work", type=Path, default=Path("fuzz-work"), help="inputs that are kept from run to run")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    given = parser.parse_args()
    names = given.targets.split() or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"expected targets among {', '.join(TARGETS)}, got {unknown[0]}")
    rows = []
    with ThreadPoolExecutor(max(given.jobs, 1)) as pool:
        for row in pool.map(lambda name: fuzz(name, given.work, round(given.minutes * 60)), names):
            rows.append(row)
            write_rows(given.results, rows)
            print(", ".join(f"{key} {value}" for key, value in asdict(row).items()), flush=True)
            for finding in sorted((given.work / row.target / "findings").glob("*/finding.txt")):
                print(f"  {finding.read_text().splitlines()[0]}: {finding.with_name('input')}", flush=True)
    return int(any(row.findings or row.ends for row in rows))


if __name__ == "__main__":
    sys.exit(main())
