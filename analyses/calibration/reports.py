"""Whole reports: how often an untrained model is said to be specialized, and how often a planted effect is found.

    python analyses/calibration/reports.py    # some twenty minutes on two cores; an interrupted run is resumed

Every report is of one model with two layers and five label sets, two of documents and three of tokens. Labels and
routing are clustered by document, and those of tokens repeat the token before with probability 0.7. They know nothing
of each other, except where an effect is planted: in the last layer, a share of the decisions follows the label.
Everything is measured and judged by the functions of the package. The rows of ``results/reports.csv`` are:

- ``null``: 200 reports of a model that knows none of its five label sets.
- ``power``: single label sets with effects of several sizes, to find the detectable size: the true U at which the test
  of that label set alone (p <= 0.05) has 80 % power.
- ``planted``: reports in which one label set has an effect of twice the detectable size.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from planted import PlantedTrace, channel_information
from specialize.annotation import Annotation
from specialize.measure import measure_specialization
from specialize.measure.results.files import write_table
from specialize.reporting.findings import read_records
from specialize.reporting.runs import RunResults
from specialize.reporting.verdict import Outcome, judge_runs

FIRST_SEED = 300_000
DOCUMENTS, TOKENS, EXPERTS, LAYERS, PERMUTATIONS = 120, 50, 8, 2, 200
PERSISTENCE, CONCENTRATION = 0.7, 5.0
LOAD = np.linspace(1.5, 0.5, EXPERTS) / EXPERTS
LABEL_SETS = {  # level and number of labels
    "upos": ("token", 17),
    "case": ("token", 4),
    "ent": ("token", 9),
    "genre": ("document", 4),
    "topic": ("document", 8),
}
PLANTED = ("upos", "case", "genre")
SIZES = {  # true U, in which the detectable size lies
    "upos": (0.006, 0.01, 0.016),
    "case": (0.006, 0.01, 0.016),
    "genre": (0.01, 0.02, 0.04),
}
POWER = 0.8
KEYS = ["study", "target", "size", "number"]


@dataclass(frozen=True)
class Job:
    """A report to make: what it is for, the label set with an effect ("" for none), its true U, and its number."""

    study: str
    target: str
    size: float
    number: int


def share_labels(labels: int) -> NDArray[np.float64]:
    shares = 1 / np.arange(2, labels + 2)
    return shares / shares.sum()


def draw_stream(rng: np.random.Generator, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw a category for each token: every document has its own mix, and tokens repeat the one before."""
    mixes = rng.dirichlet(CONCENTRATION * shares, size=DOCUMENTS)
    drawn = (rng.random((DOCUMENTS, TOKENS, 1)) > np.cumsum(mixes, axis=1)[:, None, :-1]).sum(axis=-1)
    renewed = np.where(rng.random(drawn.shape) >= PERSISTENCE, np.arange(TOKENS), 0)
    return np.take_along_axis(drawn, np.maximum.accumulate(renewed, axis=1), axis=1).ravel()


def find_strength(labels: int, size: float) -> float:
    """Return the share of decisions that follow the label for a true U of `size`."""
    shares, homes = share_labels(labels), np.eye(EXPERTS)[np.arange(labels) % EXPERTS]
    entropy = -(shares * np.log2(shares)).sum()

    def excess(strength: float) -> float:
        return channel_information(shares, (1 - strength) * LOAD + strength * homes) / entropy - size

    return float(brentq(excess, 0.0, 1.0))


def make_report(job: Job, label_sets: Sequence[str]) -> RunResults:
    """Measure a model that knows nothing of its label sets, except of the target."""
    rng = np.random.default_rng(FIRST_SEED + job.number)
    documents = np.repeat(np.arange(DOCUMENTS, dtype=np.int32), TOKENS)
    codes = {}
    for name, (level, labels) in LABEL_SETS.items():
        shares = share_labels(labels)
        codes[name] = draw_stream(rng, shares) if level == "token" else rng.choice(labels, DOCUMENTS, p=shares)
    routing = {layer: draw_stream(rng, LOAD) for layer in range(LAYERS)}
    if job.target:
        level, labels = LABEL_SETS[job.target]
        own = codes[job.target] if level == "token" else codes[job.target][documents]
        follows = rng.random(len(documents)) < find_strength(labels, job.size)
        routing[LAYERS - 1] = np.where(follows, own % EXPERTS, routing[LAYERS - 1])
    experts = {layer: chosen.astype(np.int16)[:, None] for layer, chosen in routing.items()}
    trace = PlantedTrace(documents, experts, num_experts=EXPERTS, name="model")
    frames: dict[str, dict[str, pd.DataFrame]] = {"token": {}, "document": {}}
    for name in label_sets:
        level, labels = LABEL_SETS[name]
        names = tuple(map(str, range(labels)))
        annotation = Annotation(name, level, names, codes[name].astype(np.int32))
        frames[level][name] = measure_specialization(trace, annotation, permutations=PERMUTATIONS, seed=job.number)
    return RunResults(
        name="model", path=trace.path, manifest={}, digest="", syntax=frames["token"], taggers={},
        topics=frames["document"], topic_info=None, topic_quality=None,
    )  # fmt: skip


def judge_report(job: Job) -> dict[str, object]:
    """Return the row of one report."""
    numba.set_num_threads(1)
    run = make_report(job, (job.target,) if job.study == "power" else tuple(LABEL_SETS))
    verdicts = judge_runs([run], read_records([run]))["model"]
    by_outcome = {outcome: [n for n, v in verdicts.items() if v.outcome is outcome] for outcome in Outcome}
    smallest = min(verdicts.values(), key=lambda verdict: verdict.p_value)
    largest = pd.concat(run.frames.values())
    drawn = largest.loc[largest["metric"] == "max_uncertainty_coefficient", "n_permutations"]
    return vars(job) | {
        "p_value": round(verdicts[job.target].p_value if job.target else smallest.p_value, 6),
        "rejected": sum(verdict.p_value <= 0.05 for name, verdict in verdicts.items() if name != job.target),
        "permutations": int(drawn.sum()),
        "tests": len(verdicts),
        "claimed": " ".join(by_outcome[Outcome.ABOVE_CHANCE]),
        "unclear": " ".join(by_outcome[Outcome.UNCLEAR]),
        "too_little_data": " ".join(by_outcome[Outcome.TOO_LITTLE_DATA]),
    }


def find_detectable(frame: pd.DataFrame, target: str) -> float:
    """Return the true U at which the test alone has 80 % power, interpolated on the scale of log U."""
    own = frame[(frame["study"] == "power") & (frame["target"] == target)]
    power = (own["p_value"] <= 0.05).groupby(own["size"]).mean()
    return float(np.exp(np.interp(POWER, np.maximum.accumulate(power), np.log(power.index))))


def run_jobs(jobs: Sequence[Job], path: Path, workers: int) -> pd.DataFrame:
    """Run the jobs that the table does not have yet, and return the table."""
    frame = read_table(path)
    done = set(frame[KEYS].itertuples(index=False, name=None)) if len(frame) else set()
    left = [job for job in jobs if tuple(vars(job).values()) not in done]
    rows = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(judge_report, job) for job in left]):
            rows.append(job.result())
            if len(rows) % 20 == 0 or len(rows) == len(left):
                frame = pd.concat([frame, pd.DataFrame(rows[len(rows) - (len(rows) % 20 or 20) :])], ignore_index=True)
                frame = frame.sort_values(KEYS, ignore_index=True)
                write_table(frame, path, text_columns=("study", "target", "claimed", "unclear", "too_little_data"))
                print(f"{jobs[0].study}: {len(jobs) - len(left) + len(rows)} of {len(jobs)}", flush=True)
    return frame


def read_table(path: Path) -> pd.DataFrame:
    texts = dict.fromkeys(("target", "claimed", "unclear", "too_little_data"), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False) if path.is_file() else pd.DataFrame()


def say_share(what: str, claimed: pd.Series) -> None:
    held = binomtest(int(claimed.sum()), len(claimed))
    ends = held.proportion_ci(method="wilson")
    print(
        f"{what}: {100 * claimed.mean():.1f} % of {len(claimed)} (95 % {100 * ends.low:.1f} to {100 * ends.high:.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--reports", type=int, default=200, help="reports without any effect")
    parser.add_argument("--effects", type=int, default=60, help="reports, and data sets, for each effect")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    path = given.output / "reports.csv"
    run_jobs([Job("null", "", 0.0, number) for number in range(given.reports)], path, given.workers)
    sizes = [(target, size) for target in PLANTED for size in SIZES[target]]
    effects = range(1000, 1000 + given.effects)
    frame = run_jobs([Job("power", *pair, number) for pair in sizes for number in effects], path, given.workers)
    twice = {target: round(2 * find_detectable(frame, target), 6) for target in PLANTED}
    planted = range(2000, 2000 + given.effects)
    jobs = [Job("planted", target, size, number) for target, size in twice.items() for number in planted]
    frame = run_jobs(jobs, path, given.workers)
    null = frame[frame["study"] == "null"]
    say_share("reports without effects that claim anything", null["claimed"] != "")
    tests = np.arange(null["tests"].sum()) < null["rejected"].sum()
    say_share("tests without effects with p <= 0.05", pd.Series(tests))
    print(f"permutations for a test without effect: {null['permutations'].sum() / null['tests'].sum():.0f}")
    for target in PLANTED:
        own = frame[(frame["study"] == "planted") & (frame["target"] == target)]
        print(f"{target}: detectable U {100 * twice[target] / 2:.3f} %")
        claimed = own["claimed"].str.split()
        say_share(
            f"  claimed at twice that, {100 * twice[target]:.3f} %", pd.Series([target in each for each in claimed])
        )
        say_share("  reports that claim anything else", pd.Series([bool({*each} - {target}) for each in claimed]))


if __name__ == "__main__":
    main()
