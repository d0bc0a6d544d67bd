"""Calibration: rejection rates of the tests under a true null, and coverage of the intervals.

    python analyses/calibration/calibrate.py

The data sets of every condition are drawn with fixed seeds. Its rows are written to ``results/`` when it is done, and
the same command runs only the conditions that are missing. The routing is planted (`tests/planted`): its information
is known.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from planted import PlantedRouting, plant_channel, plant_document_labels, plant_noise
from specialize.manifest import versions, write_json
from specialize.measure import assign_blocks, count_blocks, jackknife, measure_layer, mutual_information, p_values
from specialize.measure.base.estimate import jackknife_values
from specialize.measure.base.nulls import permuted_tables
from specialize.measure.base.units import Observations
from specialize.measure.results.files import write_table

PERMUTATIONS, RESAMPLES = 199, 400
FIRST_SEED, SEED_OF_NULL, SEED_OF_BOOTSTRAP = 10_000, 1_000_000, 2_000_000

# Seventeen labels with frequencies like those of parts of speech, sixteen experts of uneven load.
LABELS = 1 / np.arange(2, 19)
LABELS /= LABELS.sum()
LOAD = np.linspace(1.5, 0.5, 16) / 16
TOPICS = np.array([0.4, 0.3, 0.2, 0.1])
SMALL_LOAD = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])


def mix_channel(load: NDArray[np.float64], labels: int, strength: float) -> NDArray[np.float64]:
    """Return P(expert | label): mostly the load, the rest to one expert for each label."""
    return (1 - strength) * load + strength * np.eye(len(load))[np.arange(labels) % len(load)]


@dataclass(frozen=True)
class Design:
    """Source of the data sets of a condition, by number of documents and seed."""

    level: str
    plant: Callable[[int, int], PlantedRouting]


def token_design(strength: float) -> Design:
    channel = mix_channel(LOAD, len(LABELS), strength)

    def plant(documents: int, seed: int) -> PlantedRouting:
        return plant_channel(
            LABELS, channel, num_documents=documents, tokens_per_document=60, concentration=20, seed=seed
        )

    return Design("token", plant)


def document_design(strength: float, *, by_sequence: bool) -> Design:
    channel = mix_channel(SMALL_LOAD, len(TOPICS), strength)

    def plant(documents: int, seed: int) -> PlantedRouting:
        return plant_document_labels(
            TOPICS, channel, num_documents=documents, tokens_per_document=30, concentration=10,
            by_sequence=by_sequence, seed=seed,
        )  # fmt: skip

    return Design("document", plant)


def clustered_noise(documents: int, seed: int) -> PlantedRouting:
    return plant_noise(LABELS, LOAD, num_documents=documents, tokens_per_document=60, seed=seed)


NOISE = {
    "tokens": Design("token", clustered_noise),
    "documents, tokens routed": document_design(0.0, by_sequence=False),
    "documents, sequences routed": document_design(0.0, by_sequence=True),
}
SIGNAL = {
    "tokens, weak": token_design(0.035),
    "tokens, strong": token_design(0.3),
    "documents, tokens routed": document_design(0.3, by_sequence=False),
    "documents, sequences routed": document_design(0.6, by_sequence=True),
}
SIZES = (50, 200, 500)
BLOCKS = (10, 25, 50, 100)


def own_p_value(planted: PlantedRouting, level: str, seed: int) -> float:
    """Return the p-value that `specialize` reports, from shifts (tokens) or permutations (documents)."""
    measured = measure_layer(
        planted.codes, planted.experts, planted.documents, level=level, num_labels=planted.num_labels,
        num_experts=planted.num_experts, permutations=PERMUTATIONS, seed=seed,
    )  # fmt: skip
    return measured.mutual_information.p_value


def naive_p_value(planted: PlantedRouting, level: str, seed: int) -> float:
    """Return the p-value of the same statistic under labels that are shuffled over all tokens."""
    codes = planted.codes if level == "token" else planted.codes[planted.documents]
    lengths = np.bincount(planted.documents)
    blocks = assign_blocks(len(lengths))
    seen = Observations(
        codes=codes,
        experts=planted.experts,
        masses=np.full((len(codes), 1), 1 / planted.experts.shape[1]),
        starts=np.append(0, np.cumsum(lengths)).astype(np.int64),
        blocks=blocks,
    )
    shape = (seen.num_blocks, planted.num_labels, planted.num_experts)
    observed = count_blocks(
        codes, planted.experts, blocks=seen.unit_blocks, num_labels=shape[1], num_experts=shape[2], num_blocks=shape[0]
    )
    null = np.empty(PERMUTATIONS)
    for batch, tables in permuted_tables(seen, shape=shape, permutations=PERMUTATIONS, seed=seed):
        null[batch], _ = jackknife_values(tables, mutual_information)
    return float(p_values(jackknife_values(observed, mutual_information)[0], null))


def sample_p_values(design: Design, p_value: Callable[[PlantedRouting, str, int], float], count: int) -> pd.DataFrame:
    """Return the frequency of each p-value."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    values = [p_value(design.plant(40, seed), design.level, seed + SEED_OF_NULL) for seed in seeds]
    p, times = np.unique(np.round(np.array(values) * (PERMUTATIONS + 1)).astype(int), return_counts=True)
    return pd.DataFrame({"p_value": p / (PERMUTATIONS + 1), "times": times})


def count_documents(planted: PlantedRouting, level: str) -> NDArray[np.float64]:
    """Return one table per document: of its tokens, or of its label and its mean use of the experts."""
    documents = int(planted.documents[-1]) + 1
    codes = planted.codes if level == "token" else planted.codes[planted.documents]
    tables = count_blocks(
        codes, planted.experts, blocks=planted.documents, num_labels=planted.num_labels,
        num_experts=planted.num_experts, num_blocks=documents,
    )  # fmt: skip
    return tables if level == "token" else tables / tables.sum(axis=(1, 2), keepdims=True)


def pool(tables: NDArray[np.float64], num_blocks: int) -> NDArray[np.float64]:
    blocks = assign_blocks(len(tables), num_blocks=num_blocks)
    return np.add.reduceat(tables, np.searchsorted(blocks, np.arange(blocks[-1] + 1)))


def intervals(tables: NDArray[np.float64], seed: int) -> Iterator[tuple[str, float, float, float]]:
    """Yield the method, the value and the bounds of its interval, NaN if it has none."""
    for num_blocks in BLOCKS:
        if num_blocks <= len(tables):
            estimate = jackknife(pool(tables, num_blocks), mutual_information)
            yield f"jackknife, {num_blocks} blocks", estimate.value, estimate.ci_low, estimate.ci_high
    plain = float(mutual_information(tables.sum(axis=0)))
    documents = len(tables)
    times = np.random.default_rng(seed).multinomial(documents, np.full(documents, 1 / documents), size=RESAMPLES)
    resampled = mutual_information(np.tensordot(times.astype(float), tables, axes=1))
    yield "percentile bootstrap over documents", plain, *np.quantile(resampled, [0.025, 0.975])
    yield "plug-in", plain, np.nan, np.nan


def sample_intervals(design: Design, documents: int, count: int) -> pd.DataFrame:
    """Return coverage, bias and width of each method over new data sets."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    planted = design.plant(documents, FIRST_SEED)
    check_against_package(planted, design.level)
    drawn: dict[str, list[tuple[float, float, float]]] = {}
    for seed in seeds:
        tables = count_documents(design.plant(documents, seed), design.level)
        for method, *numbers in intervals(tables, seed + SEED_OF_BOOTSTRAP):
            drawn.setdefault(method, []).append(tuple(numbers))
    rows = []
    for method, numbers in drawn.items():
        value, low, high = np.array(numbers).T
        held = binomtest(int(((low <= planted.information) & (planted.information <= high)).sum()), count)
        range_ = held.proportion_ci(method="wilson")
        has_interval = bool(np.isfinite(low).all())
        rows.append(
            {
                "method": method,
                "datasets": count,
                "truth": planted.information,
                "mean": value.mean(),
                "bias": value.mean() - planted.information,
                "deviation": value.std(ddof=1),
                "coverage": held.statistic if has_interval else np.nan,
                "coverage_low": range_.low if has_interval else np.nan,
                "coverage_high": range_.high if has_interval else np.nan,
                "width": float(np.mean(high - low)),
            }
        )
    return pd.DataFrame(rows)


def check_against_package(planted: PlantedRouting, level: str) -> None:
    """Check that the tables counted here give the results of `measure_layer`."""
    measured = measure_layer(
        planted.codes, planted.experts, planted.documents, level=level, num_labels=planted.num_labels,
        num_experts=planted.num_experts, permutations=0,
    ).mutual_information  # fmt: skip
    own = jackknife(pool(count_documents(planted, level), 50), mutual_information)
    np.testing.assert_allclose(
        [own.value, own.ci_low, own.ci_high], [measured.value, measured.ci_low, measured.ci_high], rtol=1e-9
    )


class Ledger:
    """Rows of a CSV file by condition; conditions in the file are not run again."""

    def __init__(self, path: Path, datasets: int) -> None:
        self.path, self.datasets = path, datasets
        self.frame = pd.read_csv(path) if path.is_file() else pd.DataFrame()

    def fill(self, condition: dict[str, object], run: Callable[[], pd.DataFrame]) -> None:
        key = condition | {"datasets": self.datasets}
        if len(self.frame) and (self.frame[list(key)] == pd.Series(key)).all(axis=1).any():
            return
        started = time.perf_counter()
        rows = run().assign(**key).round(6)
        rows = rows[[*condition, *(name for name in rows if name not in condition)]]
        self.frame = pd.concat([self.frame, rows], ignore_index=True)
        write_table(self.frame, self.path, text_columns=[name for name, value in key.items() if isinstance(value, str)])
        print(f"{condition}: {time.perf_counter() - started:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--nulls", type=int, default=1500, help="data sets for each null")
    parser.add_argument("--coverages", type=int, default=1500, help="data sets for each interval")
    given = parser.parse_args()
    numba.set_num_threads(1)
    ledger = Ledger(given.output / "p_values.csv", given.nulls)
    for name, design in NOISE.items():
        own = "labels shifted within documents" if design.level == "token" else "labels permuted over documents"
        for null, p_value in {own: own_p_value, "labels shuffled over tokens": naive_p_value}.items():
            ledger.fill({"design": name, "null": null}, lambda d=design, p=p_value: sample_p_values(d, p, given.nulls))
    ledger = Ledger(given.output / "intervals.csv", given.coverages)
    for name, design in SIGNAL.items():
        for size in SIZES:
            ledger.fill(
                {"design": name, "documents": size}, lambda d=design, n=size: sample_intervals(d, n, given.coverages)
            )
    about = {
        "permutations": PERMUTATIONS, "resamples": RESAMPLES, "first_seed": FIRST_SEED, "nulls": given.nulls,
        "coverages": given.coverages, "versions": versions(),
    }  # fmt: skip
    write_json(given.output / "about.json", about)


if __name__ == "__main__":
    main()
