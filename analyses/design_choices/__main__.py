"""Train, trace and measure every cell of the grid, then write the tables and draw the figures.

    python -m analyses.design_choices --preset cpu --data FOLDER -o FOLDER

The same command resumes an interrupted study and skips the runs that are complete. `--smoke` runs a small part of the
grid on toy text and needs no data. `--prepare` stops before training, so that the study can be continued on a machine
without spaCy and BERTopic. `--tables` writes the tables and figures of the runs that are complete, and runs nothing.
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
from analyses.reporting import LineReporter

from specialize.errors import ConfigError, SpecializeError
from specialize.events import Reporter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.design_choices",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="cpu", help="sizes of models and data: a file of presets/ (default: cpu)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpora (default: data)")
    parser.add_argument("-o", "--output", type=Path, help="folder of the runs (default: study-PRESET)")
    parser.add_argument("--results", type=Path, help="folder of the tables (default: OUTPUT/results)")
    parser.add_argument("--figures", type=Path, help="folder of the figures (default: OUTPUT/figures)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one per core)")
    parser.add_argument("--smoke", action="store_true", help="run a small part of the grid on toy text")
    parser.add_argument("--prepare", action="store_true", help="tokenize and label the corpora, then stop")
    parser.add_argument("--tables", action="store_true", help="run nothing; write the tables of what is there")
    parser.add_argument("--only", metavar="PATTERN", help="only cells whose name matches; * matches any characters")
    parser.add_argument("--steps", type=int, help="number of training steps, to try out a preset")
    given = parser.parse_args(arguments)
    reporter = LineReporter()
    try:
        return _run(given, reporter)
    except SpecializeError as error:
        reporter.say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        reporter.say("interrupted; the same command resumes the study")
        return 130


def _run(given: argparse.Namespace, reporter: Reporter) -> int:
    name = "smoke" if given.smoke else given.preset
    output = given.output or Path(f"study-{name}")
    preset = read_preset(name)
    for option, value in (("--jobs", given.jobs), ("--steps", given.steps)):
        if value is not None and value < 1:
            raise ConfigError(f"{option}: expected 1 or more, got {value}")
    if given.steps:
        preset = preset.shortened(given.steps)
    cells, margin = read_grid(preset)
    if given.only:
        cells = [cell for cell in cells if fnmatch(cell.name, given.only)]
        if not cells:
            raise ConfigError(f"--only: expected a pattern that matches a cell, got {given.only!r}")
    data = given.data
    if given.smoke:
        data = output / "toy"
        write_toy_data(data)
    for corpus in dict.fromkeys(cell.corpus for cell in cells if not given.tables):
        prepare(preset, corpus, data, output, reporter)
    if given.prepare:
        reporter.say(f"prepared: {output / 'data'}")
        return 0
    jobs = [Job.of(cell, seed, preset, data, output) for cell in cells for seed in range(cell.seeds)]
    if given.tables:
        missing = sum(not job.is_done for job in jobs)
        if missing == len(jobs):
            raise ConfigError(f"--tables: expected runs of these settings in {output}, found none")
        reporter.say(f"{len(jobs) - missing} of {len(jobs)} runs are complete")
    failed = [] if given.tables else run_jobs(jobs, workers=given.jobs, reporter=reporter)
    if failed:
        reporter.say(
            f"{len(failed)} of {len(jobs)} runs failed and no tables were written; the same command runs them again"
        )
        return 1
    if given.only and not given.tables:
        reporter.say(f"{len(jobs)} runs are done; the tables need the whole grid, or --tables")
        return 0
    from analyses.design_choices.figures import plan_figures
    from analyses.design_choices.tables import write_tables
    from analyses.drawing import draw_planned

    results = given.results or output / "results"
    write_tables(jobs, margin, results, reporter)
    command = shlex.join(["python", "-m", "analyses.design_choices", *sys.argv[1:]])
    figures = given.figures or output / "figures"
    draw_planned(plan_figures(results, preset=name), figures, command=command)
    reporter.say(f"tables: {results}; figures: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
