"""What `specialize plan` says of a job, against what the job then takes on the same machine.

    python analyses/benchmarks/plan.py
    python analyses/benchmarks/plan.py --models demo --documents 600 --ablated 60

Two models: the demo's token-routed checkpoint, and a random one of OLMoE's architecture with 31 million parameters
(8 layers, E = 64, k = 8). For each the command `plan` runs first, then `trace`, `syntax`, `topics` and `ablate`, each
in a process of its own: wall time from its start to its end, time of the processor, largest memory, and bytes of the
files that it leaves.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from specialize.demo import checkpoint_path, write_corpus
from specialize.manifest import versions, write_json
from specialize.pipeline.pilot import list_files

STAGES = ("trace", "syntax", "topics", "ablate")
GOALS = {"seconds": 0.25, "cpu_seconds": 0.25, "peak_bytes": 0.25, "disk_bytes": 0.02}
ABLATED_EXPERTS = 8  # of each layer, switched off alone


def build_olmoe(folder: Path) -> None:
    """Write a random model of OLMoE's architecture with the demo's tokenizer."""
    from transformers import AutoTokenizer

    from capture import build_model

    tokenizer = AutoTokenizer.from_pretrained(checkpoint_path("token"))
    build_model(layers=8, width=256, expert_width=64, vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run_command(*arguments: object) -> tuple[dict[str, float], str]:
    """Run a command in a process of its own; return what it took, and what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "specialize", *map(str, arguments)], stdout=printed, stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"expected `specialize {arguments[0]}` to succeed, got status {process.returncode}")
        printed.seek(0)
        cost = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": 1024.0 * used.ru_maxrss}
        return cost, printed.read()


def count_bytes(run: Path) -> int:
    return sum(list_files(run).values())


def commands(model: Path, corpus: Path, run: Path, ablated: int) -> dict[str, Sequence[object]]:
    experts = ",".join(map(str, range(ABLATED_EXPERTS)))
    return {
        "trace": ("trace", model, corpus, "-o", run),
        "syntax": ("syntax", run),
        "topics": ("topics", run),
        "ablate": ("ablate", model, run, "--documents", ablated, "--experts", experts),
    }


def compare(name: str, model: Path, corpus: Path, folder: Path, ablated: int) -> Iterator[dict[str, Any]]:
    layers = json.loads((model / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    options = ("--ablated-documents", ablated, "--conditions", ABLATED_EXPERTS * layers, "--json")
    cost, printed = run_command("plan", model, corpus, *options)
    planned = {stage["stage"]: stage for stage in json.loads(printed)["stages"]}
    yield {"model": name, "stage": "plan", "quantity": "seconds", "measured": cost["seconds"]}
    run, there = folder / "run", 0
    whole = {"planned": 0.0, "measured": 0.0}
    for stage, command in commands(model, corpus, run, ablated).items():
        found, _ = run_command(*command)
        size = count_bytes(run)
        found["disk_bytes"], there = float(size - there), size
        said = planned[stage]
        values = {
            "seconds": said["time_seconds"],
            "cpu_seconds": said["cpu_seconds"],
            "peak_bytes": said["peak_host_memory_bytes"],
            "disk_bytes": said["disk_bytes"],
        }
        whole = {"planned": whole["planned"] + values["disk_bytes"]["value"], "measured": float(size)}
        for quantity, value in values.items():
            yield row(name, stage, quantity, value["value"], found[quantity])
    yield row(name, "all", "disk_bytes", whole["planned"], whole["measured"])


def row(model: str, stage: str, quantity: str, planned: float, measured: float) -> dict[str, Any]:
    ratio = planned / measured
    return {
        "model": model,
        "stage": stage,
        "quantity": quantity,
        "planned": planned,
        "measured": measured,
        "ratio": ratio,
        "within_goal": abs(ratio - 1) <= GOALS[quantity],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--ablated", type=int, default=400, help="Documents that are run again.")
    parser.add_argument("--models", nargs="*", choices=("demo", "olmoe"), default=["demo", "olmoe"])
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build_olmoe(given.build)
        return
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus.jsonl", limit=given.documents)
        for model in given.models:
            path = checkpoint_path("token")
            if model == "olmoe":
                path = folder / "model"
                subprocess.run([sys.executable, __file__, "--build", str(path)], check=True)
            (folder / model).mkdir()
            for each in compare(model, path, corpus, folder / model, given.ablated):
                rows.append(each)
                print({key: value for key, value in each.items() if value is not None}, flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(given.output / "plan.csv", index=False, float_format="%.4f")
    about = {"documents": given.documents, "ablated_documents": given.ablated, "goals": GOALS}
    about |= {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "versions": versions()}
    write_json(given.output / "plan.json", about)
    print(frame.to_string())


if __name__ == "__main__":
    main()
