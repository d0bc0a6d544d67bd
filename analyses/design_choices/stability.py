"""How far a training run moves when one weight is changed by one unit in the last place, over learning rates.

    python -m analyses.design_choices.stability --preset gpu --data FOLDER -o FOLDER

Trains cells of the grid on a seed that the study does not use, once as they are and once with a changed weight, and
writes the perplexities to stability.csv. The settings of a preset are chosen by this table, before the study:
the learning rate with the lowest perplexity among those at which rounding moves a run by little. On a GPU, whose sums
have no fixed order, two runs differ without any change. The folder is that of the study, prepared with `--prepare`.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from analyses.design_choices.cell import Job
from analyses.design_choices.grid import read_grid, read_preset
from analyses.reporting import LineReporter

import specialize.models.training as training
from specialize.errors import ConfigError, SpecializeError, did_you_mean

SEED = 1000  # the study's seeds count from 0
CELLS = ("en-token-top1-layer-learned", "en-sequence-top1-layer-learned", "en-dense-1", "en-dense-4")


@dataclass(frozen=True)
class Trial:
    """A training run.

    Attributes:
        job: the cell, with the settings to be tried.
        changes: what is set in its settings of training, and of the model.
        is_perturbed: whether one weight is changed.
    """

    job: Job
    changes: dict[str, Any]
    is_perturbed: bool


def perturb(model: torch.nn.Module) -> None:
    """Change the first weight of the embedding of positions, which every window uses, by one unit in the last place."""
    weight = model.get_submodule("model.positions").weight.view(-1)[:1]
    with torch.no_grad():
        weight.copy_(torch.nextafter(weight, torch.full_like(weight, torch.inf)))


def run_trial(trial: Trial) -> dict[str, object]:
    """Train, and return a row of the table."""
    torch.set_num_threads(1)
    make_optimizer: Callable[..., torch.optim.AdamW] = training._make_optimizer

    def make_after_change(model: torch.nn.Module, *more: Any) -> torch.optim.AdamW:
        if trial.is_perturbed:
            perturb(model)
        return make_optimizer(model, *more)

    training._make_optimizer = make_after_change  # type: ignore[assignment]  # a run has no hook before its first step
    try:
        result = training.train(trial.job.config, trial.job.folder, data=trial.job.shared.tokens)
    finally:
        training._make_optimizer = make_optimizer
    row = {"cell": trial.job.cell.name, **trial.changes, "is_perturbed": trial.is_perturbed}
    return row | {
        "perplexity": result.perplexity,
        "unigram_perplexity": result.unigram_perplexity,
        "lowest_load_entropy": min(result.load_entropy, default=np.nan),
    }


def plan_trials(given: argparse.Namespace) -> list[Trial]:
    """Return the runs of all cells, learning rates and balance losses."""
    preset = read_preset(given.preset)
    if given.steps:
        preset = preset.shortened(given.steps)
    cells = {cell.name: cell for cell in read_grid(preset)[0]}
    trials = []
    for name, rate, balance, is_perturbed in product(
        given.cells, given.learning_rates, given.balance_losses, (False, True)
    ):
        if name not in cells:
            raise ConfigError(f"--cells: expected cells of the grid, got {name!r}.{did_you_mean(name, cells)}")
        changed = preset.training.model_copy(update={"learning_rate": rate})
        model = preset.model | {"router_aux_loss_coef": balance}
        own = preset.model_copy(update={"training": changed, "model": model})
        folder = given.output / "stability" / f"{rate:g}-{balance:g}-{'changed' if is_perturbed else 'plain'}" / name
        job = replace(Job.of(cells[name], SEED, own, given.data, given.output), folder=folder)
        trials.append(Trial(job, {"learning_rate": rate, "balance_loss": balance}, is_perturbed))
    return trials


def summarize(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return one row per cell and settings, with the ratio of the changed run's perplexity to that of the other."""
    frame = pd.DataFrame(rows)
    keys = ["cell", "learning_rate", "balance_loss"]
    plain = frame[~frame["is_perturbed"]].drop(columns="is_perturbed").set_index(keys)
    changed = frame[frame["is_perturbed"]].set_index(keys)["perplexity"]
    return plain.assign(ratio_of_changed=changed / plain["perplexity"]).sort_index().reset_index()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the study")
    parser.add_argument("--results", type=Path, help="folder of the table (default: OUTPUT/results)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cells", nargs="*", default=CELLS)
    parser.add_argument("--learning-rates", type=float, nargs="*", default=[5e-4, 1e-3, 2e-3, 3e-3])
    parser.add_argument("--balance-losses", type=float, nargs="*", default=[0.1])
    given = parser.parse_args(arguments)
    reporter = LineReporter()
    try:
        trials = plan_trials(given)
    except SpecializeError as error:
        reporter.say(f"error: {error}")
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"
    results = given.results or given.output / "results"
    results.mkdir(parents=True, exist_ok=True)
    rows = []
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(run_trial, trial) for trial in trials]
        for future in as_completed(waiting):
            try:
                rows.append(future.result())
            except SpecializeError as error:  # a learning rate at which training diverges, say
                reporter.say(f"error: {error}")
                continue
            reporter.say(f"{len(rows)} of {len(waiting)} runs: {rows[-1]}")
    if len(rows) < len(waiting):
        reporter.say(f"{len(waiting) - len(rows)} of {len(waiting)} runs failed; the table has the others")
    if not rows:
        return 1
    table = summarize(rows)
    table.to_csv(results / "stability.csv", index=False, float_format="%.6g", lineterminator="\n")
    print(table.to_string(index=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
