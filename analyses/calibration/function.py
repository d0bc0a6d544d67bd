"""Calibration of the measures of function: coverage of intervals and rejections of a true null.

    python -m analyses.calibration.function    # twenty minutes on two cores; rewrites results/function.csv

Experts are switched off in the populations of `populations`. The rise of the loss at a token depends on its label and
on whether the token uses the expert; it varies between documents, as a whole and by a factor, and its noise is
lognormal and autocorrelated. The last token of each document has no rise.
"""

import argparse
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numba
import numpy as np
import pandas as pd
from analyses.calibration.coverage import WARNINGS, Tally, judge_coverage, judge_rejection
from analyses.calibration.populations import DESIGNS, Design, Floats, Integers, Population, Sample
from scipy.stats import spearmanr

from specialize.measure import (
    Estimate,
    EstimateArray,
    assign_blocks,
    compare_selectivity,
    count_blocks,
    count_effects,
    lift,
    measure_agreement,
    measure_effects,
    measure_score_agreement,
    measure_selectivity,
)
from specialize.measure.results.files import write_table

HERE = Path(__file__).parent
PERMUTATIONS = 39  # a 5 % test is exact: p is a multiple of 1/40
RANDOM_SETS = 19
ELSEWHERE = 0.1  # mean rise at tokens that do not use the expert, as a share of that at the others
NOISE, MEMORY = 1.2, 0.5  # standard deviation of the logarithm of the noise, and its autocorrelation
SEED = 3_000_000
MOST_EXPERTS = 16  # of a layer whose agreement is measured; each is a condition
Found = tuple[str, Estimate | EstimateArray, Any]


def draw_noise(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Draw lognormal noise with mean 0, [documents, tokens], in which neighbours resemble each other."""
    steps = rng.normal(size=shape)
    for place in range(1, shape[1]):
        steps[:, place] = MEMORY * steps[:, place - 1] + np.sqrt(1 - MEMORY**2) * steps[:, place]
    return np.exp(NOISE * steps) - np.exp(NOISE**2 / 2)


def draw_change(rng: np.random.Generator, sample: Sample, labels: Integers, used: Integers, effects: Floats) -> Floats:
    """Draw the rise of the loss of one condition, [tokens], whose mean where it is used is that of the label."""
    documents = int(sample.documents[-1]) + 1
    shape = (documents, len(labels) // documents)
    mean = effects[labels] * np.where(used, 1.0, ELSEWHERE)
    factor, added = rng.gamma(4, 1 / 4, size=(documents, 1)), 0.3 * rng.normal(size=(documents, 1))
    noise = 0.5 * draw_noise(rng, shape) * np.where(used, 1.0, 0.3).reshape(shape)
    change = factor * mean.reshape(shape) + added + noise
    change[:, -1] = np.nan
    return change.ravel()


def draw_effects(design: Design, rng: np.random.Generator, count: int) -> Floats:
    """Draw the mean rise at tokens that use an expert, [expert, label]: skewed, with effects of label and of expert."""
    size = (count, design.labels)
    return np.exp(0.3 * rng.normal(size=size[1]) + 0.4 * rng.normal(size=(count, 1)) + 0.4 * rng.normal(size=size))


def expose(population: Population) -> Floats:
    """Return P(expert among the token's experts | label), [label, expert]."""
    design = population.design
    members = population.membership() * (1 - design.dropped**design.top_k)  # of all tokens, routed or not
    weights = population.pairs / population.pairs.sum(axis=1, keepdims=True)
    return np.einsum("yw,ywe->ye", weights, members)


def use(sample: Sample, expert: int) -> Integers:
    return (sample.experts == expert).any(axis=1)


class Trial:
    """A data set of a population: labels, and routing and changes that depend on them or, under the null, do not."""

    def __init__(self, population: Population, seed: int, *, null: bool) -> None:
        self.population, self.null, self.design = population, null, population.design
        self.rng = np.random.default_rng(seed)
        self.sample = population.draw(2 * seed)
        self.codes = population.draw(2 * seed + 1).codes if null else self.sample.codes
        self.labels = self._of_tokens(self.sample.codes)  # on which the changes depend
        self.where = {"level": self.design.level}
        self.options = self.where | {"num_labels": self.design.labels, "permutations": PERMUTATIONS * null}

    def _of_tokens(self, codes: Integers) -> Integers:
        return codes[self.sample.documents] if self.design.level == "document" else codes

    def measure(self) -> Iterator[Found]:
        """Yield what is measured, with its true value."""
        yield from self.measure_effects()
        yield from self.measure_sets()
        if self.design.experts <= MOST_EXPERTS:
            yield from self.measure_agreement()

    def measure_effects(self) -> Iterator[Found]:
        """Measure one expert."""
        [effects] = draw_effects(self.design, self.rng, 1)
        expert = int(self.rng.integers(self.design.experts))
        used, seed = use(self.sample, expert), int(self.rng.integers(2**31))
        change = draw_change(self.rng, self.sample, self.labels, used, effects)
        found = measure_effects(change, used, self.codes, self.sample.documents, seed=seed, **self.options)
        exposure = expose(self.population)[:, expert]
        indirect = (1 - exposure) * ELSEWHERE * effects
        total = exposure * effects + indirect
        yield "effect", found.effect, total
        yield "exposure", found.exposure, exposure
        yield "per_use_effect", found.per_use, effects
        yield "indirect_effect", found.indirect, indirect
        selectivity = measure_selectivity(change, self.codes, self.sample.documents, seed=seed, **self.options)
        yield "effect_selectivity", selectivity, self.select(total)

    def measure_sets(self) -> Iterator[Found]:
        """Measure a set of one expert against random ones, for the most frequent label."""
        effects = draw_effects(self.design, self.rng, 1 + RANDOM_SETS)
        experts = self.rng.integers(self.design.experts, size=1 + RANDOM_SETS)
        exposure = expose(self.population)[:, experts].T
        true = [self.select(each)[0] for each in effects * (exposure + (1 - exposure) * ELSEWHERE)]
        changes = [
            draw_change(self.rng, self.sample, self.labels, use(self.sample, expert), own)
            for expert, own in zip(experts, effects, strict=True)
        ]
        found = compare_selectivity(
            changes[0], changes[1:], self.sample.codes, self.sample.documents, label=0, **self.where
        )
        yield "effect_selectivity_among_random_sets", found.selectivity, true[0]
        yield "effect_selectivity_above_random_sets", found.difference, true[0] - np.mean(true[1:])

    def measure_agreement(self) -> Iterator[Found]:
        """Measure all experts of a layer, half of whose effect follows the lift unless under the null."""
        design, sample = self.design, self.sample
        lifts = lift(self.population.mass().sum(axis=1))
        effects = draw_effects(design, self.rng, design.experts).T  # [label, expert]
        if not self.null:
            effects = effects * lifts**0.7
        documents = int(sample.documents[-1]) + 1
        blocks = assign_blocks(np.arange(documents))
        own = blocks[sample.documents]
        shape = {"num_labels": design.labels, "num_blocks": int(blocks.max()) + 1}
        mass = count_blocks(
            self.labels, sample.experts, blocks=own, num_experts=design.experts, weights=sample.weights,
            rule=design.rule, **shape,
        )  # fmt: skip
        sums = []
        for expert in range(design.experts):
            used = use(sample, expert)
            change = draw_change(self.rng, sample, self.labels, used, effects[:, expert])
            sums.append(count_effects(change, used, self.labels, blocks=own, **shape))
        tables = np.stack(sums, axis=2)
        seed = int(self.rng.integers(2**31))
        how = {"permutations": PERMUTATIONS * self.null, "seed": seed}
        found = measure_agreement([mass], [tables], **how)
        exposure = expose(self.population)
        total = effects * (exposure + (1 - exposure) * ELSEWHERE)
        kept = tables.sum(axis=0)[..., 2] >= 20
        for name, true in (("per_use", effects), ("total", total)):
            agreement = getattr(found, name)
            correlation = spearmanr(lifts[kept], true[kept])[0]
            if name == "per_use" or not self.null:  # the total effect depends on the exposure, as the lift does
                yield f"{name}_agreement", agreement.mean, correlation
            yield f"corrected_{name}_agreement", agreement.corrected_mean, correlation
        shares = self.population.pairs.sum(axis=1)
        score = self.rng.normal(size=design.experts)
        found = measure_score_agreement([score], [tables], **how)
        per_use = (shares[:, None] * exposure * effects).sum(axis=0) / (shares[:, None] * exposure).sum(axis=0)
        for name, true in (("per_use", per_use), ("total", (shares[:, None] * total).sum(axis=0))):
            agreement, correlation = getattr(found, name), spearmanr(score, true)[0]
            yield f"{name}_agreement, score", agreement.mean, correlation
            yield f"corrected_{name}_agreement, score", agreement.corrected_mean, correlation

    def select(self, effects: Floats) -> Floats:
        """Return the selectivity of each label from the effects on all labels."""
        shares = self.population.pairs.sum(axis=1)
        return effects - ((shares * effects).sum() - shares * effects) / (1 - shares)


def calibrate(task: tuple[str, int]) -> pd.DataFrame:
    """Return coverage and rejections of each quantity in one design."""
    name, datasets = task
    numba.set_num_threads(1)
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    design = next(each for each in DESIGNS if each.name == name)
    population = Population(design)
    covered, rejected, warned = {}, {}, {}
    for number in range(datasets):
        for quantity, found, true in Trial(population, SEED + number, null=False).measure():
            low, high = np.asarray(found.ci_low), np.asarray(found.ci_high)
            known = np.isfinite(low) & np.isfinite(true)
            kinds = np.ravel(np.asarray(found.ci_kind, dtype=object))
            noted = np.array([any(each in str(kind) for each in WARNINGS) for kind in kinds]).reshape(low.shape)
            held = (low <= true) & (true <= high)
            covered.setdefault(quantity, Tally()).add(held, known & ~noted, bias=np.asarray(found.value) - true)
            warned.setdefault(quantity, Tally()).add(held, known & noted)
        for quantity, found, _ in Trial(population, SEED + number, null=True).measure():
            p_value = np.asarray(found.p_value)
            rejected.setdefault(quantity, Tally()).add(p_value <= 0.05 + 1e-9, np.isfinite(p_value))
    rows = []
    for quantity, tally in covered.items():
        row = {"design": name, "quantity": quantity, "datasets": datasets}
        if tally.shares:
            own = tally.summarize()
            row |= {"coverage": own["share"], "error": own["error"], "lowest": own["lowest"]}
            row |= {"bias": float(np.nanmean(tally.mean("bias"))), "verdict": judge_coverage(own["share"], 0.95)}
        row["warned"] = float(warned[quantity].sums["counted"].sum() / datasets / np.size(tally.sums["counted"]))
        if warned[quantity].shares:
            row["coverage_warned"] = float(np.mean(warned[quantity].shares))
        if quantity in rejected and rejected[quantity].shares:
            own = rejected[quantity].summarize()
            row |= {"rejected": own["share"], "rejected_error": own["error"]}
            row["test_verdict"] = judge_rejection(own["share"])
        rows.append(row)
    return pd.DataFrame(rows).round(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--datasets", type=int, default=400, help="data sets for each design")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    tasks = [(design.name, given.datasets) for design in DESIGNS]
    frames = []
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for rows in pool.imap(calibrate, tasks):
            frames.append(rows)
            print(rows.to_string(index=False), flush=True)
            write_table(
                pd.concat(frames, ignore_index=True), given.output / "function.csv", text_columns=("design", "quantity")
            )


if __name__ == "__main__":
    main()
