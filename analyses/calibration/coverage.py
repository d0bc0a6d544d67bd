"""Coverage of the intervals, bias of the values and rejections under a true null, for every quantity in every design.

    python -m analyses.calibration.coverage

Data sets are drawn with consecutive seeds. Rows are written to ``results/`` whenever a design is done, and the same
command runs only what is missing, for its number of data sets and seed. It then writes the tables into README.md.
"""

import argparse
import multiprocessing
import os
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
from analyses.calibration.populations import DESIGNS, Design, Population
from analyses.calibration.quantities import (
    EXPECTED,
    PARTS,
    Measured,
    differences,
    equivalence,
    measure,
    true_values,
)

from specialize.manifest import versions, write_json
from specialize.measure.results.files import write_table

HERE = Path(__file__).parent
PROBED = 200  # data sets on which probes are fitted
PERMUTATIONS = 39  # a 5 % test is exact: p is a multiple of 1/40
SEED = 1_000_000
BY_NAME = {design.name: design for design in DESIGNS}
WARNINGS = ("biased", "undercovers", "without refitting")  # in ci_kind
NOMINAL = {"equivalence of uncertainty_coefficient": 0.90}
BEGIN, END = "<!-- tables of coverage.py: begin -->", "<!-- end -->"


class Tally:
    """Sums over data sets of what came of one quantity, by cell (label, expert, or label and expert)."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.sums: dict[str, Any] = {}

    def add(self, happened: Any, counted: Any, **values: Any) -> None:
        """Add a data set: in which of the counted cells it happened, and other values of the cells."""
        counted = np.asarray(counted, dtype=bool)
        happened = np.asarray(happened, dtype=bool) & counted
        if counted.any():
            self.shares.append(happened.sum() / counted.sum())
        values |= {"happened": happened, "counted": counted}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + np.where(counted, value, 0.0)

    def summarize(self) -> dict[str, float]:
        """Return the share of cells, its Monte Carlo error, and the lowest share of a cell."""
        count, times = len(self.shares), self.sums["counted"]
        often = times >= count / 2
        return {
            "datasets": count,
            "share": float(np.mean(self.shares)),
            "error": float(np.std(self.shares, ddof=1) / np.sqrt(count)) if count > 1 else np.nan,
            "lowest": float((self.sums["happened"][often] / times[often]).min()) if often.any() else np.nan,
        }

    def mean(self, name: str) -> Any:
        """Return the mean of a value over data sets, by cell; NaN where it was never counted."""
        times = self.sums["counted"]
        return np.divide(self.sums[name], times, out=np.full(np.shape(times), np.nan), where=times > 0)


def cover(design: Design, part: str, datasets: int, seed: int) -> pd.DataFrame:
    """Return coverage and bias of each quantity."""
    population = Population(design)
    truth = true_values(population)
    population.margin = truth["difference of uncertainty_coefficient"]
    found: dict[str, list[tuple[Any, ...]]] = {}
    warned: dict[str, int] = {}
    for number in range(datasets):
        sample = population.draw(seed + number)
        options = {"permutations": 0, "seed": seed + number, "probes": number < PROBED, "parts": [part]}
        for name, estimate in measure(population, sample, **options):
            found.setdefault(name, []).append((estimate.value, estimate.ci_low, estimate.ci_high))
            warned[name] = warned.get(name, 0) + carries_warning(estimate)
    rows = []
    for name, estimates in found.items():
        value, low, high = (np.array(each) for each in zip(*estimates, strict=True))
        if not np.isfinite(low).any():  # a number of experts has none
            continue
        true = value.mean(axis=0) if name in EXPECTED else np.asarray(truth[name])
        tally = Tally()
        for each in zip(value, low, high, strict=True):
            known = np.isfinite(true) & np.isfinite(each[1])
            tally.add((each[1] <= true) & (true <= each[2]), known, bias=each[0] - true, width=each[2] - each[1])
        if not tally.shares:
            continue
        bias = tally.mean("bias")
        row = tally.summarize()
        row |= {"coverage": row.pop("share"), "cells": int((tally.sums["counted"] > 0).sum())}
        row |= {"truth": float(np.nanmean(true)), "bias": float(np.nanmean(bias))}
        row |= {"largest_bias": float(np.nanmax(np.abs(bias))), "width": float(np.nanmean(tally.mean("width")))}
        row |= {"nominal": NOMINAL.get(name, 0.95), "verdict": judge_coverage(row["coverage"], NOMINAL.get(name, 0.95))}
        if row["verdict"] == "undercovers" and 2 * warned[name] > row["datasets"]:
            row["verdict"] = "warned"
        rows.append({"design": design.name, "quantity": name} | row)
    return pd.DataFrame(rows)


def reject(design: Design, part: str, datasets: int, seed: int) -> pd.DataFrame:
    """Return the share of 5 % tests that reject a true null, of each quantity that has a p-value."""
    population, tallies, warned = Population(design), dict[str, Tally](), dict[str, int]()
    population.margin = true_values(population, repeats=False)["difference of uncertainty_coefficient"]
    for number in range(datasets):
        null = population.draw_null(seed + number)
        options = {"permutations": PERMUTATIONS, "seed": seed + number, "probes": number < PROBED, "parts": [part]}
        estimates = list(measure(population, null, **options))
        if part == "association":
            associated = population.draw(seed + number)
            estimates += differences(population, associated, twin=True)
            estimates.append(("equivalence of uncertainty_coefficient", equivalence(population, associated)))
        for name, estimate in estimates:
            warned[name] = warned.get(name, 0) + carries_warning(estimate)
            p_value = np.asarray(estimate.p_value)
            if np.isfinite(p_value).any():
                tallies.setdefault(name, Tally()).add(p_value <= 0.05 + 1e-9, np.isfinite(p_value), half=p_value <= 0.5)
    rows = []
    for name, tally in tallies.items():
        row = tally.summarize()
        row["rejected"] = row.pop("share")
        row |= {"below_half": float(np.nanmean(tally.mean("half"))), "verdict": judge_rejection(row["rejected"])}
        if row["verdict"] == "rejects too often" and 2 * warned[name] > row["datasets"]:
            row["verdict"] = "warned"
        rows.append({"design": design.name, "quantity": name} | {key: row[key] for key in row if key != "lowest"})
    return pd.DataFrame(rows)


def carries_warning(estimate: Measured) -> bool:
    """Return whether the kind of an interval warns, for any of the cells."""
    kinds = {str(kind) for kind in np.ravel(np.asarray(estimate.ci_kind, dtype=object))}
    return any(warning in kind for kind in kinds for warning in WARNINGS)


def judge_coverage(coverage: float, nominal: float) -> str:
    if coverage > nominal + 0.03:
        return "cautious"
    return "inside" if coverage >= nominal - 0.03 else "undercovers"


def judge_rejection(share: float) -> str:
    if share < 0.03:
        return "cautious"
    return "inside" if share <= 0.07 else "rejects too often"


TASKS = {"coverage": cover, "rejections": reject}


def run_task(task: tuple[str, str, str, int, int]) -> tuple[str, str, str, pd.DataFrame, float]:
    """Run one design of one table, for one part of the quantities."""
    numba.set_num_threads(1)
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    table, design, part, datasets, seed = task
    started = time.process_time()
    rows = TASKS[table](BY_NAME[design], part, datasets, seed)
    rows = rows.assign(part=part, asked=datasets, seed=seed).round(6)
    return table, design, part, rows, time.process_time() - started


def read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["design", "part", "asked", "seed"])


def make_tables(results: Path) -> str:
    """Return the tables of README.md: per quantity and design, in percent."""
    texts = []
    for name, column, title in (
        ("coverage", "coverage", "Coverage of 95 % intervals (equivalence: 90 %)"),
        ("rejections", "rejected", "Rejections of a true null at 5 %"),
    ):
        frame = pd.read_csv(results / f"{name}.csv")
        error = 100 * frame["error"].median()
        cells = (100 * frame[column]).map("{:.1f}".format) + frame["verdict"].map(
            {"inside": "", "cautious": " c", "undercovers": " **u**", "warned": " w", "rejects too often": " **r**"}
        )
        names = [each for each in BY_NAME if each in set(frame["design"])]
        wide = frame.assign(cell=cells).pivot(index="quantity", columns="design", values="cell")
        wide = wide.loc[pd.unique(frame["quantity"]), names].fillna("")
        counts = frame["verdict"].value_counts()
        rows = [" | ".join((f"`{quantity}`", *row)) for quantity, row in zip(wide.index, wide.to_numpy(), strict=True)]
        lines = [
            f"{title}, in percent of {int(frame['asked'].max()):,} data sets for each design (probes: {PROBED}). "
            f"Monte Carlo error: {error:.1f} percentage points (median), {100 * frame['error'].max():.1f} (largest). "
            + ", ".join(f"{verdict}: {count}" for verdict, count in counts.items())
            + ".",
            "",
            *(f"| {row} |" for row in (" | ".join(("quantity", *names)), "|".join(["---"] * (len(names) + 1)), *rows)),
        ]
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def fill_readme(text: str, tables: str) -> str:
    """Return a README with the tables between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md", help="file between whose markers tables go")
    parser.add_argument("--datasets", type=int, default=1000, help="data sets of each design, for each table")
    parser.add_argument("--designs", nargs="*", choices=list(BY_NAME), default=list(BY_NAME), help="all by default")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="of the quantities, all by default")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    done = {table: read_rows(given.output / f"{table}.csv") for table in TASKS}
    key = {"asked": given.datasets, "seed": given.seed}
    kept = {table: rows[(rows[list(key)] == pd.Series(key)).all(axis=1)] for table, rows in done.items()}
    # the slowest first
    tasks = [
        (table, name, part, given.datasets, given.seed)
        for table in ("rejections", "coverage")
        for name in sorted(given.designs, key=lambda name: -BY_NAME[name].experts * BY_NAME[name].labels)
        for part in given.parts
        if not ((kept[table]["design"] == name) & (kept[table]["part"] == part)).any()
    ]
    with multiprocessing.get_context("spawn").Pool(given.workers) if given.workers > 1 else nullcontext() as pool:
        for table, name, part, rows, seconds in (
            map(run_task, tasks) if pool is None else pool.imap_unordered(run_task, tasks)
        ):
            kept[table] = pd.concat([kept[table], rows], ignore_index=True)
            order = [(list(BY_NAME).index(each), part) for each, part in kept[table][["design", "part"]].to_numpy()]
            ordered = kept[table].iloc[sorted(range(len(order)), key=order.__getitem__)]
            write_table(ordered, given.output / f"{table}.csv", text_columns=["design", "part", "quantity", "verdict"])
            print(f"{table}, {name}, {part}: {seconds:.0f} s of CPU time", flush=True)
    about = {
        "permutations": PERMUTATIONS,
        "datasets": given.datasets,
        "probed": PROBED,
        "seed": given.seed,
        "versions": versions(),
    }
    write_json(given.output / "about-coverage.json", about | {"versions": versions()})
    text = given.readme.read_text(encoding="utf-8")
    given.readme.write_text(fill_readme(text, make_tables(given.output)), encoding="utf-8")


if __name__ == "__main__":
    main()
