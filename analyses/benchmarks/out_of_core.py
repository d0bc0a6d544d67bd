"""Peak memory and time of commands by number of tokens.

    python analyses/benchmarks/out_of_core.py

Two synthetic runs of the same text (4 layers, E = 64, k = 8, 17 labels, token ids, documents of 500 tokens) are
written as `specialize trace` writes them. Each command runs in a process of its own, with code compiled; `syntax` is
what it measures after tagging, and `report` is made of what `routing` left, and shows texts. Time is that of the
processor, which other work on the machine changes little.

A row is written as soon as it is measured. With --add the rows of other sizes and commands, and of earlier sessions,
are kept.
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
WARM = 20_000  # tokens of the run on which code is compiled
FEW = 2  # permutations of results that only a report needs
KEY = ["command", "tokens"]


def measure_syntax(runs: Path, permutations: int) -> None:
    from specialize.measure import measure_details, measure_specialization

    trace = open_trace(runs / "one")
    labels = load_annotation(trace, "upos", on_disk=True)
    measure_specialization(trace, labels, permutations=permutations)
    measure_details(trace, labels, permutations=permutations)


def measure_routing(runs: Path, permutations: int) -> None:
    specialize.routing(runs / "one", permutations=permutations)


def compare(runs: Path, permutations: int) -> None:
    specialize.compare(runs / "one", runs / "two")


def measure_vocabulary(runs: Path, permutations: int) -> None:
    specialize.vocabulary(runs / "one", permutations=permutations)


def fit_probes(runs: Path, permutations: int) -> None:
    specialize.probe(runs / "one", label_sets=["upos"])


def write_report(runs: Path, permutations: int) -> None:
    specialize.report(runs / "one", runs / "report")


COMMANDS: dict[str, Callable[[Path, int], None]] = {
    "syntax": measure_syntax,
    "routing": measure_routing,
    "compare": compare,
    "vocabulary": measure_vocabulary,
    "probe": fit_probes,
    "report": write_report,
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
    used = f"{cost['seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of the processor, {cost['peak_mb']:.0f} MB"
    print(f"{time.strftime('%H:%M:%S')} {name}, {runs.name} million tokens: {used}", flush=True)
    return cost


def write_runs(folder: Path, tokens: int) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        if not (folder / name / "annotations" / "upos.arrow").exists():
            write_trace(folder / name, tokens, FIGURE_LAYERS, shard=SHARD, seed=seed, num_ids=NUM_IDS)
    labels = "annotations/upos.arrow"
    shutil.copy(folder / "one" / labels, folder / "two" / labels)  # of the same tokens


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to the table, in place of one of the same command and size."""
    earlier = pd.read_csv(path)[list(row)] if path.exists() else pd.DataFrame(columns=list(row))
    order = {name: number for number, name in enumerate(COMMANDS)}
    frame = pd.concat([earlier, pd.DataFrame([row])] if len(earlier) else [pd.DataFrame([row])], ignore_index=True)
    frame = frame.drop_duplicates(KEY, keep="last").sort_values(KEY, key=lambda column: column.replace(order))
    smallest = frame.groupby("command")[["peak_mb", "cpu_seconds_per_million"]].transform("first")
    ratios = frame[["peak_mb", "cpu_seconds_per_million"]] / smallest
    frame = frame.assign(peak_ratio=ratios["peak_mb"], cpu_ratio=ratios["cpu_seconds_per_million"])
    frame.round(3).to_csv(path, index=False)


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=here / "results")
    parser.add_argument("--figures", type=Path, default=here.parents[1] / "figures")
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--runs", type=Path, help="Folder in which the synthetic runs are kept.")
    parser.add_argument("--add", action="store_true", help="Keep the rows of the table that are not measured again.")
    parser.add_argument("--task", nargs=3, metavar=("NAME", "RUNS", "WARM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        name, runs, warm = given.task
        run_command(name, Path(runs), Path(warm), given.permutations)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    table = given.output / "out-of-core.csv"
    if not given.add:
        table.unlink(missing_ok=True)
    about = {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "experts": EXPERTS, "top_k": TOP_K,
        "labels": LABELS, "token_ids": NUM_IDS, "document_length": LENGTH, "permutations": given.permutations,
        "versions": versions(),
    }  # fmt: skip
    write_json(given.output / "out-of-core.json", about)
    with tempfile.TemporaryDirectory() as name:
        folder = given.runs or Path(name)
        warm = folder / "warm"
        write_runs(warm, WARM)
        for millions in given.millions:
            runs = folder / f"{millions}"
            write_runs(runs, millions * 1_000_000)
            for command in given.commands:
                for each in (warm, runs):  # what the report is of
                    if command == "report" and not (each / "one" / "routing").exists():
                        in_own_process("routing", each, warm, FEW)
                cost = in_own_process(command, runs, warm, given.permutations)
                cost["cpu_seconds_per_million"] = cost["cpu_seconds"] / millions
                row = {"command": command, "tokens": millions * 1_000_000, "layers": FIGURE_LAYERS}
                add_row(table, row | cost | {"permutations": given.permutations})
    # Matplotlib is imported only here: this file also runs the commands, whose memory is measured.
    sys.path.insert(0, str(here.parents[1]))
    from analyses.benchmarks.cost import plan_out_of_core
    from analyses.drawing import draw_planned

    draw_planned(plan_out_of_core(given.output), given.figures, command="make figures")
    print(pd.read_csv(table).to_string())


if __name__ == "__main__":
    main()
