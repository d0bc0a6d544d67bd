"""What the estimate of U needs: bias and coverage in small corpora, beside the mark "too little data".

    python analyses/calibration/small_corpora.py    # some five minutes on two cores; an interrupted run is resumed

Every condition has a true U in closed form (`tests/planted`). Documents differ in length and in their mixes of labels
and experts. Rows are appended to ``results/small_corpora.csv``.
"""

import argparse
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):  # before NumPy and Numba are loaded; not where this is only imported
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from planted import plant_channel, plant_document_labels
from specialize.measure import measure_layer
from specialize.measure.base.shortage import read_shortage
from specialize.measure.results.files import write_table

FIRST_SEED = 70_000
SIZES = (12, 30, 50, 100, 200, 400)
TABLES = ((2, 4), (4, 6), (12, 8), (8, 32), (17, 16))
ROUTINGS = {  # strengths of the association
    "labels of tokens": (0.0, 0.05, 0.3),
    "documents, spread": (0.0, 0.1, 0.4),
    "documents, one expert": (0.0, 0.2, 0.6),
}
TOKENS = 60


@dataclass(frozen=True)
class Condition:
    """Data sets of one kind: routing, labels x experts, strength of the association and number of documents."""

    routing: str
    labels: int
    experts: int
    strength: float
    documents: int


def plan() -> list[Condition]:
    return [
        Condition(routing, labels, experts, strength, documents)
        for documents in SIZES
        for routing, strengths in ROUTINGS.items()
        for labels, experts in TABLES
        for strength in strengths
    ]


def shorten(codes: NDArray[np.int32], documents: int, seed: int) -> NDArray[np.int32]:
    """Leave tokens unlabelled, so that the lengths of documents have a coefficient of variation of about 0.5."""
    lengths = np.clip(np.random.default_rng(seed).lognormal(np.log(0.4 * TOKENS), 0.6, documents), 5, TOKENS)
    kept = np.tile(np.arange(TOKENS), documents) < np.repeat(lengths, TOKENS)
    return np.where(kept, codes, -1).astype(np.int32)


def draw(condition: Condition, seed: int) -> dict[str, float]:
    """Return truth, value, and standard error of U in one data set, and whether it is marked."""
    labels, experts = condition.labels, condition.experts
    shares = 1 / np.arange(1, labels + 1)
    shares /= shares.sum()
    load = np.linspace(1.5, 0.5, experts) / experts
    channel = (1 - condition.strength) * load + condition.strength * np.eye(experts)[np.arange(labels) % experts]
    size = {"num_documents": condition.documents, "tokens_per_document": TOKENS}
    if condition.routing == "labels of tokens":
        planted = plant_channel(shares, channel, concentration=20, seed=seed, **size)
        codes, level = shorten(planted.codes, condition.documents, seed), "token"
    else:
        one = condition.routing == "documents, one expert"
        planted = plant_document_labels(shares, channel, concentration=10, by_sequence=one, seed=seed, **size)
        codes, level = planted.codes, "document"
    own = measure_layer(
        codes, planted.experts, planted.documents, level=level, num_labels=labels, num_experts=experts,
        permutations=0,
    ).uncertainty_coefficient  # fmt: skip
    truth = planted.information / float(-(shares * np.log2(shares)).sum())
    num_blocks = int(re.search(r"over (\d+) document blocks", str(own.ci_kind))[1])
    reach = student_t.ppf(0.975, num_blocks - 1)
    return {
        "truth": truth,
        "value": own.value,
        "error": (own.value - own.ci_low) / reach,
        "covered": own.ci_low <= truth <= own.ci_high,
        "marked": bool(read_shortage(own.ci_kind)),
    }


def sample(condition: Condition, datasets: int) -> dict[str, object]:
    """Return bias and coverage over new data sets: of all, and of those that are not marked."""
    numba.set_num_threads(1)
    drawn = pd.DataFrame([draw(condition, FIRST_SEED + number) for number in range(datasets)])
    drawn = drawn[drawn["value"].notna() & drawn["error"].notna()]  # undefined where a block holds all of a label
    kept = drawn[~drawn["marked"]]
    error = np.sqrt((drawn["error"] ** 2).mean())
    return vars(condition) | {
        "datasets": datasets,
        "defined": len(drawn),
        "truth": round(drawn["truth"].mean(), 6),
        "bias": round((drawn["value"] - drawn["truth"]).mean(), 6),
        "error": round(error, 6),
        "coverage": round(drawn["covered"].mean(), 4),
        "marked": round(drawn["marked"].mean(), 4),
        "kept": len(kept),
        "coverage_kept": round(kept["covered"].mean(), 4),
        "bias_kept": round((kept["value"] - kept["truth"]).mean() / error, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--datasets", type=int, default=120, help="data sets for each condition")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    path = given.output / "small_corpora.csv"
    frame = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    keys = ["routing", "labels", "experts", "strength", "documents"]
    done = set(frame[keys].itertuples(index=False, name=None)) if len(frame) else set()
    left = [condition for condition in plan() if tuple(vars(condition).values()) not in done]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(sample, condition, given.datasets) for condition in left]):
            frame = pd.concat([frame, pd.DataFrame([job.result()])], ignore_index=True).sort_values(keys)
            write_table(frame, path, text_columns=("routing",))
            print(job.result(), flush=True)


if __name__ == "__main__":
    main()
