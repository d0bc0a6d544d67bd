"""Train, trace and measure every cell of the grid, then write the tables and draw the figures.

    python -m analyses.design_choices --preset cpu --data FOLDER -o FOLDER

An interrupted study goes on where it stopped: what is done is skipped. `--smoke` runs a small part of the grid on toy
text, with nothing to bring. `--prepare` stops before training, so that a machine without spaCy and BERTopic can go on.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from analyses.design_choices.cell import Job
from analyses.design_choices.data import prepare, write_toy_data
from analyses.design_choices.grid import read_grid, read_preset
from analyses.design_choices.pool import run_jobs

from specialize.cli.console import say
from specialize.errors import ConfigError, SpecializeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.design_choices",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="cpu", help="size of everything: a file of presets/ (default: cpu)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpora (default: data)")
    parser.add_argument("-o", "--output", type=Path, help="folder of the runs (default: study-PRESET)")
    parser.add_argument("--results", type=Path, help="folder of the tables (default: OUTPUT/results)")
    parser.add_argument("--figures", type=Path, help="folder of the figures (default: OUTPUT/figures)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)")
    parser.add_argument("--smoke", action="store_true", help="a small part of the grid on toy text")
    parser.add_argument("--prepare", action="store_true", help="stop when the corpora are tokenized and labelled")
    parser.add_argument("--only", metavar="PATTERN", help="only cells whose name matches, with * for anything")
    parser.add_argument("--steps", type=int, help="so many training steps, to try a preset out")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except SpecializeError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here")
        return 130


def _run(given: argparse.Namespace) -> int:
    name = "smoke" if given.smoke else given.preset
    output = given.output or Path(f"study-{name}")
    preset = read_preset(name)
    for option, value in (("--jobs", given.jobs), ("--steps", given.steps)):
        if value is not None and value < 1:
            raise ConfigError(f"{option}: expected 1 or more, got {value}")
    if given.steps:
        kept = tuple(step for step in preset.training.snapshots if step < given.steps)
        training = preset.training.model_copy(update={"steps": given.steps, "snapshots": kept})
        preset = preset.model_copy(update={"training": training})
    cells, margin = read_grid(preset)
    if given.only:
        cells = [cell for cell in cells if fnmatch(cell.name, given.only)]
        if not cells:
            raise ConfigError(f"--only: expected a pattern that matches a cell, got {given.only!r}")
    data = given.data
    if given.smoke:
        data = output / "toy"
        write_toy_data(data)
    for corpus in dict.fromkeys(cell.corpus for cell in cells):
        prepare(preset, corpus, data, output)
    if given.prepare:
        say(f"prepared: {output / 'data'}")
        return 0
    jobs = [Job.of(cell, seed, preset, data, output) for cell in cells for seed in range(cell.seeds)]
    failed = run_jobs(jobs, workers=given.jobs)
    if failed:
        say(f"{len(failed)} of {len(jobs)} runs failed; the tables wait for them. The same command tries them again.")
        return 1
    if given.only:
        say(f"{len(jobs)} runs are done; the tables need the whole grid")
        return 0
    from analyses.design_choices.figures import plan_figures
    from analyses.design_choices.tables import write_tables
    from analyses.drawing import draw_planned

    results = given.results or output / "results"
    write_tables(jobs, margin, results)
    command = shlex.join(["python", "-m", "analyses.design_choices", *sys.argv[1:]])
    figures = given.figures or output / "figures"
    draw_planned(plan_figures(results, preset=name), figures, command=command)
    say(f"tables: {results}; figures: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
