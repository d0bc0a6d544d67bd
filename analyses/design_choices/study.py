"""Train, trace and measure every cell of the grid, then write the tables and draw the figures.

    python analyses/design_choices/study.py --preset cpu --data FOLDER -o FOLDER

An interrupted study goes on where it stopped: what is done is skipped. `--smoke` runs a small part of the grid on toy
text, with nothing to bring.
"""

import argparse
import multiprocessing
import os
import queue
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from cell import Job, run_job
from data import prepare, write_toy_data
from grid import HERE, read_grid, read_preset

import specialize.models  # noqa: F401 (registers the model type with transformers)
from specialize.cli.console import progress, say
from specialize.errors import SpecializeError

_REPORT_EVERY = 10  # steps
_steps: Any = None  # queue to the main process, in a worker


def _start_worker(steps: Any) -> None:
    global _steps
    _steps = steps


def _work(job: Job) -> None:
    told = 0

    def on_step(step: int) -> None:
        nonlocal told
        if step - told >= _REPORT_EVERY or step == job.config.training.steps:
            _steps.put((job.folder.name, step))
            told = step

    run_job(job, on_step)


def run_jobs(jobs: Sequence[Job], *, workers: int) -> list[str]:
    """Run what is not done yet, `workers` at a time; returns a line for each job that failed."""
    waiting = [job for job in jobs if not job.is_done]
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are done")
    if not waiting:
        return []
    # long ones first, so that no core is left with one at the end
    waiting.sort(key=lambda job: (job.cell.dense > 0, job.cell.choices.get("routing_unit") != "token", job.seed))
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    at: dict[str, int] = {}
    total = sum(job.config.training.steps for job in waiting)
    tokens_a_step = waiting[0].config.training.batch_size * waiting[0].config.training.context_length
    started, done, failed = time.monotonic(), 0, []
    os.environ["OMP_NUM_THREADS"] = "1"  # a worker is a core: threads would only get into each other's way
    with (
        progress("training", "steps") as update,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(steps,)) as pool,
    ):
        pending: dict[Future[None], Job] = {pool.submit(_work, job): job for job in waiting}
        try:
            while pending:
                finished, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = pending.pop(future)
                    error = future.exception()
                    done += error is None
                    at[job.folder.name] = job.config.training.steps
                    if error is not None:
                        failed.append(f"{job.folder.name}: {type(error).__name__}: {error}")
                        say(failed[-1])
                while True:
                    try:
                        name, step = steps.get_nowait()
                    except queue.Empty:
                        break
                    at[name] = step
                seen = sum(at.values())
                speed = seen * tokens_a_step / (time.monotonic() - started)
                update(seen, total, rate=f"{done} of {len(waiting)} runs, {speed:,.0f} tokens/s")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu", help="size of everything: a file of presets/ (default: cpu)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the preset's corpora")
    parser.add_argument("-o", "--output", type=Path, help="folder of the runs (default: study-PRESET)")
    parser.add_argument("--results", type=Path, help="folder of the tables (default: results/PRESET beside this file)")
    parser.add_argument("--figures", type=Path, help="folder of the figures (default: OUTPUT/figures)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)")
    parser.add_argument("--smoke", action="store_true", help="a small part of the grid on toy text")
    given = parser.parse_args(arguments)
    preset_name = "smoke" if given.smoke else given.preset
    output = given.output or Path(f"study-{preset_name}")
    try:
        preset = read_preset(preset_name)
        cells, margin = read_grid(preset)
        data = given.data
        if given.smoke:
            data = output / "toy"
            write_toy_data(data)
        for name in dict.fromkeys(cell.corpus for cell in cells):
            prepare(preset, name, data, output)
        jobs = [Job.of(cell, seed, preset, data, output) for cell in cells for seed in range(cell.seeds)]
        failed = run_jobs(jobs, workers=given.jobs)
    except SpecializeError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here")
        return 130
    if failed:
        say(f"{len(failed)} of {len(jobs)} runs failed; the tables wait for them. The same command tries them again.")
        return 1
    from figures import draw_all
    from tables import write_tables

    results = given.results or (output / "results" if given.smoke else HERE / "results" / preset_name)
    write_tables(jobs, margin, results)
    drawn = draw_all(results, given.figures or output / "figures")
    say(f"tables: {results}; figures: {', '.join(path.name for path in drawn)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
