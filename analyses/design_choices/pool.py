"""Runs of the grid on all cores at once."""

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from analyses.design_choices.cell import Job, run_job

import specialize.models  # noqa: F401 (registers the model type with transformers)
from specialize.cli.console import progress, say

_REPORT_EVERY = 10  # steps
_steps: Any = None  # queue to the main process, in a worker


def _start_worker(steps: Any) -> None:
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides


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
            for worker in multiprocessing.active_children():
                worker.terminate()  # training goes on from its last checkpoint
            raise
    return failed
