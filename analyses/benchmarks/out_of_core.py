"""Peak memory and time of `syntax` after tagging, `routing` and `compare` by number of tokens.

    python analyses/benchmarks/out_of_core.py

Two synthetic runs of the same tokens (4 layers, E = 64, k = 8, 17 labels, token ids, documents of 500 tokens) are
written as `specialize trace` writes them. Each command runs in a process of its own, with code compiled.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from peak import peak_megabytes

import specialize
from measure import EXPERTS, FIGURE_LAYERS, LABELS, LENGTH, TOP_K, write_trace
from specialize.annotators.store import load_annotation
from specialize.manifest import versions, write_json
from specialize.trace import open_trace

NUM_IDS = 20_000
SHARD = 2**17 // LENGTH * LENGTH  # tokens, as `specialize trace` cuts them


def measure_syntax(runs: Path, permutations: int) -> None:
    from specialize.measure import measure_details, measure_specialization

    trace = open_trace(runs / "one")
    labels = load_annotation(trace, "upos")
    measure_specialization(trace, labels, permutations=permutations)
    measure_details(trace, labels, permutations=permutations)


def measure_routing(runs: Path, permutations: int) -> None:
    specialize.routing(runs / "one", permutations=permutations)


def compare(runs: Path, permutations: int) -> None:
    specialize.compare(runs / "one", runs / "two")


COMMANDS: dict[str, Callable[[Path, int], None]] = {
    "syntax": measure_syntax,
    "routing": measure_routing,
    "compare": compare,
}


def run_command(name: str, runs: Path, warm: Path, permutations: int) -> None:
    """Run one command; print its seconds, those of its processor, and the peak memory of this process in megabytes."""
    COMMANDS[name](warm, permutations)
    started, used = time.perf_counter(), time.process_time()
    COMMANDS[name](runs, permutations)
    cost = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}
    print(json.dumps(cost | {"peak_mb": peak_megabytes()}))


def in_own_process(name: str, runs: Path, warm: Path, permutations: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", name, str(runs), str(warm), "--permutations", str(permutations)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    cost: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(f"{name}, {runs.name}: {cost['seconds']:.1f} s, {cost['peak_mb']:.0f} MB", flush=True)
    return cost


def write_runs(folder: Path, tokens: int) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        if not (folder / name / "annotations" / "upos.arrow").exists():
            write_trace(folder / name, tokens, FIGURE_LAYERS, shard=SHARD, seed=seed, num_ids=NUM_IDS)
    labels = "annotations/upos.arrow"
    shutil.copy(folder / "one" / labels, folder / "two" / labels)  # of the same tokens


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=here / "results")
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 4, 16, 32])
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--runs", type=Path, help="Folder in which the synthetic runs are kept.")
    parser.add_argument("--task", nargs=3, metavar=("NAME", "RUNS", "WARM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        name, runs, warm = given.task
        run_command(name, Path(runs), Path(warm), given.permutations)
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = given.runs or Path(name)
        warm = folder / "warm"
        write_runs(warm, 20_000)
        for millions in given.millions:
            runs = folder / f"{millions}"
            write_runs(runs, millions * 1_000_000)
            for command in given.commands:
                cost = in_own_process(command, runs, warm, given.permutations)
                cost["cpu_seconds_per_million"] = cost["cpu_seconds"] / millions
                rows.append({"command": command, "tokens": millions * 1_000_000, "layers": FIGURE_LAYERS} | cost)
    frame = pd.DataFrame(rows)
    smallest = frame.groupby("command")["peak_mb"].transform("first")
    frame["peak_ratio"] = frame["peak_mb"] / smallest
    about = {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "experts": EXPERTS, "top_k": TOP_K,
        "labels": LABELS, "token_ids": NUM_IDS, "document_length": LENGTH, "permutations": given.permutations,
        "versions": versions(),
    }  # fmt: skip
    given.output.mkdir(parents=True, exist_ok=True)
    frame.round(3).to_csv(given.output / "out-of-core.csv", index=False)
    write_json(given.output / "out-of-core.json", about)
    print(frame.to_string())


if __name__ == "__main__":
    main()
