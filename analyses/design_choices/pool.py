"""Parallel execution of the runs of the grid."""

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from analyses.design_choices.cell import Job, run_job

from specialize.events import Reporter, Update

_REPORT_EVERY = 10  # steps
_steps: Any = None  # in a worker: the queue to the main process


def _start_worker(steps: Any) -> None:
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles it


class _StepReporter:
    """Sends the number of training steps done to the main process."""

    def __init__(self, job: str) -> None:
        self.job = job

    def say(self, message: str) -> None:
        """Drop a note: many jobs run at a time."""

    @contextmanager
    def progress(self, title: str, unit: str) -> Iterator[Update]:
        """Give a function that sends the steps done."""
        sent = 0

        def update(done: int, total: int, rate: str | None = None) -> None:
            nonlocal sent
            if done - sent >= _REPORT_EVERY or done == total:
                _steps.put((self.job, done))
                sent = done

        yield update


def _work(job: Job) -> None:
    run_job(job, _StepReporter(job.folder.name))


def run_jobs(jobs: Sequence[Job], *, workers: int, reporter: Reporter) -> list[str]:
    """Run the jobs that are not done, `workers` at a time; return a line for each job that failed."""
    waiting = [job for job in jobs if not job.is_done]
    if len(waiting) < len(jobs):
        reporter.say(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are done")
    if not waiting:
        return []
    # long jobs first, so that none of them runs alone at the end
    waiting.sort(key=lambda job: (job.cell.dense > 0, job.cell.choices.get("routing_unit") != "token", job.seed))
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    at: dict[str, int] = {}
    total = sum(job.config.training.steps for job in waiting)
    tokens_a_step = waiting[0].config.training.batch_size * waiting[0].config.training.context_length
    started, done, failed = time.monotonic(), 0, []
    os.environ["OMP_NUM_THREADS"] = "1"  # one worker per core: more threads would compete for the cores
    with (
        reporter.progress("training", "steps") as update,
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
                        reporter.say(failed[-1])
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
                worker.terminate()  # training resumes from its last checkpoint
            raise
    return failed
