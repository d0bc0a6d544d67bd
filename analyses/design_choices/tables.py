"""The tables of the study, made from the folders of the cells."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from analyses.design_choices.cell import CURVES, Job
from analyses.design_choices.claims import judge_claims
from analyses.design_choices.grid import NUM_EXPERTS
from analyses.design_choices.seeds import equivalence_p_value, judge_equivalence, mean_by_seed, over_seeds

from specialize.atomic import replacing
from specialize.errors import MeasurementError, first_line
from specialize.events import Reporter
from specialize.measure.results.curves import read_curves
from specialize.measure.results.files import read_results
from specialize.measure.runs.comparison import compare_traces
from specialize.measure.runs.random_routers import DIFFERENCE
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.pipeline.stage import known_annotations
from specialize.trace import open_trace

CHOICES = ["cell", "corpus", "unit", "top_k", "scope", "router", "experts"]
CHOSEN = ("uncertainty_coefficient", DIFFERENCE, "mutual_information", "conditional_information", "load_entropy")
FUNCTION = ("per_use_agreement", "corrected_per_use_agreement", "effect_reliability", "lift_reliability")
_NUMBERS = ["value", "null_mean", "null_low", "null_high"]


def write_tables(jobs: Sequence[Job], margin: float, folder: Path, reporter: Reporter) -> None:
    """Write every table of the study.

    Perplexities are of all runs that are trained, the rest of those that are measured, too. Frozen and learned routers
    are compared where the traces of both are there.

    Args:
        jobs: all jobs of the study.
        margin: margin of equivalence, as a ratio of perplexities.
        folder: folder of the CSV files, created if it is missing.
        reporter: receives notes and progress.

    Raises:
        MeasurementError: no complete run has routers, or none has snapshots; or the evaluations of a run are damaged.
    """
    trained = [(job, found) for job in jobs if (found := job.evaluation)]
    runs = pd.DataFrame([_describe_run(job, found) for job, found in trained])
    done = [job for job in jobs if job.is_done]
    routed = [job for job in done if not job.cell.dense]
    watched = [job for job in done if job.config.training.snapshots]
    if not (routed and watched):
        raise MeasurementError(
            f"the tables: expected complete runs with routers and with snapshots, got {len(routed)} and "
            f"{len(watched)}; run more of the grid"
        )
    measured = pd.concat([_read_layers(job) for job in routed], ignore_index=True)
    switched_off = [_read_function(job) for job in done if job.cell.function]
    function = pd.concat([measured.iloc[:0], *switched_off], ignore_index=True)
    tables = {
        "runs": runs,
        "perplexity": summarize_perplexity(runs),
        "specialization": summarize(measured),
        "equivalence": judge_pairs(runs, margin),
        "curves": pd.concat([_read_curve(job) for job in watched], ignore_index=True),
        "progress": _read_progress([job for job, _ in trained]),
        "function": summarize(function),
        "heatmaps": pd.concat(list(_read_heatmaps(done)), ignore_index=True),
        "claims": judge_claims(runs, measured, function, margin),
    }
    pairs = _find_pairs(done)
    tables["differences"] = _compare_runs(pairs, reporter) if pairs else pd.DataFrame()
    languages = tables["specialization"]
    tables["languages"] = languages[(languages["corpus"] == "multilingual") & languages["label_set"].eq("lang")]
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        if table.empty:  # nothing to compare in this part of the grid
            path.unlink(missing_ok=True)  # what is there is of other runs
            continue
        with replacing(path) as partial:
            table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")


def _describe_run(job: Job, evaluation: dict[str, Any]) -> dict[str, Any]:
    config = GPTMoEConfig.from_pretrained(job.folder / "model")
    with torch.device("meta"):
        model = GPTMoEForCausalLM(config)
    total = sum(each.numel() for each in model.parameters())
    experts = sum(each.numel() for name, each in model.named_parameters() if ".experts." in name)
    idle = 1 - config.num_experts_per_tok / config.num_experts if config.num_experts else 0.0
    return {
        **job.cell.describe(),
        "seed": job.seed,
        "perplexity": evaluation["perplexity"],
        "unigram_perplexity": evaluation["unigram_perplexity"],
        "lowest_load_entropy": min(evaluation["load_entropy"], default=np.nan),
        "compared_tokens": evaluation["tokens"],
        "parameters": total,
        "active_parameters": round(total - idle * experts),
    }


def _read_layers(job: Job) -> pd.DataFrame:
    """Return the measurements of whole layers."""
    return _keep_layers(job, read_results(job.folder / "run", "measured"), CHOSEN)


def _read_function(job: Job) -> pd.DataFrame:
    """Return how far lifts of experts agree with their effects, by layer and label set."""
    folder = job.folder / "run" / "ablation"
    names = sorted(path.stem for path in folder.glob("*.parquet") if path.stem != "experts")
    return _keep_layers(job, pd.concat([read_results(folder, name) for name in names], ignore_index=True), FUNCTION)


def _keep_layers(job: Job, frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of some metrics, of whole layers, with the design choices."""
    frame = frame[frame["metric"].isin(metrics) & frame["layer"].notna() & frame["expert"].isna()]
    kept = ["routing", "layer", "label_set", "metric", "unit", *_NUMBERS, "p_value"]
    frame = frame[kept].rename(columns={"unit": "unit_of_value"})
    return frame.assign(**job.cell.describe(), seed=job.seed)


def summarize_perplexity(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell: the geometric mean over seeds with its 95 % interval."""
    rows = []
    for names, own in runs.groupby(CHOICES, sort=False):
        log = over_seeds(np.log(own["perplexity"]))
        rows.append(
            dict(zip(CHOICES, names, strict=True))
            | {
                "seeds": log.seeds,
                "perplexity": np.exp(log.mean),
                "ci_low": np.exp(log.low),
                "ci_high": np.exp(log.high),
                "unigram_perplexity": own["unigram_perplexity"].iloc[0],
                "lowest_load_entropy": own["lowest_load_entropy"].mean(),
                "parameters": own["parameters"].iloc[0],
                "active_parameters": own["active_parameters"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def summarize(measured: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, layer, label set and metric, and one without a layer for the mean over layers.

    The interval is over seeds; the null is the mean of the nulls of the seeds, the p-value the largest of theirs.
    """
    keys = [*CHOICES, "routing", "label_set", "metric", "unit_of_value"]
    layers = measured.groupby([*keys, "seed"], sort=False)
    means = layers[_NUMBERS].mean()
    means.loc[layers["value"].count() < layers.size(), "value"] = np.nan  # no mean without one of the layers
    means = means.reset_index()
    rows = []
    for frame in (measured, means.assign(layer=pd.NA, p_value=np.nan)):
        for names, own in frame.groupby([*keys, "layer"], sort=False, dropna=False):
            value = over_seeds(own["value"])
            rows.append(
                dict(zip([*keys, "layer"], names, strict=True))
                | {"value": value.mean, "ci_low": value.low, "ci_high": value.high, "seeds": value.seeds}
                | {name: own[name].mean() for name in _NUMBERS[1:]}
                | {"p_value": own["p_value"].max()}
            )
    return pd.DataFrame(rows)


def judge_pairs(runs: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Compare frozen with learned routers, by cell and by unit of routing, with two one-sided tests paired by seed."""
    wide = paired(runs, "router")
    if not {"learned", "frozen"} <= set(wide.columns):
        return pd.DataFrame()
    difference = (wide["frozen"] - wide["learned"]).dropna()
    groups: list[tuple[str, pd.Series]] = []
    for names, own in difference.groupby(["corpus", "unit", "top_k", "scope"], sort=False):
        groups.append((f"{names[0]}, {names[1]}, top-{names[2]}, {names[3]}", own))
    for names, own in difference.groupby(["corpus", "unit"], sort=False):
        groups.append((f"{names[0]}, {names[1]}, all", mean_by_seed(own, ["top_k", "scope"])))
    rows = []
    for name, own in groups:
        interval = over_seeds(own, confidence=0.90)
        rows.append(
            {
                "cells": name,
                "seeds": interval.seeds,
                "ratio": np.exp(interval.mean),
                "ci90_low": np.exp(interval.low),
                "ci90_high": np.exp(interval.high),
                "margin": margin,
                "p_equivalence": equivalence_p_value(own, np.log(margin)),
                "equivalent": judge_equivalence(interval, np.log(margin)),
            }
        )
    return pd.DataFrame(rows)


def paired(runs: pd.DataFrame, choice: str) -> pd.DataFrame:
    """Return log perplexities of the routed cells of four experts, with one column per value of `choice`."""
    own = runs[(runs["unit"] != "dense") & (runs["experts"] == NUM_EXPERTS)]
    keys = [name for name in ("corpus", "unit", "top_k", "scope", "router") if name != choice]
    return own.assign(log=np.log(own["perplexity"])).pivot(index=[*keys, "seed"], columns=choice, values="log")


def _read_curve(job: Job) -> pd.DataFrame:
    """Return specialization and saturation of one run over training; the last step is the final model."""
    training = job.config.training
    curves = read_curves(job.folder / CURVES)
    if curves is None:
        raise MeasurementError(f"{job.folder / CURVES}: expected snapshots of the training, got none; train it anew")
    curves = curves[curves["metric"].isin(["uncertainty_coefficient", "saturation"]) & curves["step"].gt(0)]
    kept = ["routing", "layer", "label_set", "metric", "value", "ci_low", "ci_high", "null_mean"]
    tokens = curves["step"] * training.batch_size * training.context_length
    return curves[kept].assign(cell=job.cell.name, step=curves["step"], tokens=tokens)


def _read_progress(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return the perplexity of each run over training; no table if runs are evaluated at their end alone.

    Raises:
        MeasurementError: the evaluations of a run are missing, damaged or not those of its settings.
    """
    frames = []
    for job in jobs:
        path, training = job.folder / "metrics.csv", job.config.training
        kinds = {"step": np.int64, "validation_perplexity": np.float64}
        try:
            found = pd.read_csv(path, dtype=kinds)[list(kinds)]  # `usecols` would let rows be longer than the header
        except (OSError, ValueError, KeyError) as error:
            raise MeasurementError(
                f"{path}: expected the evaluations of a training, got: {first_line(error)}"
            ) from error
        steps = [*range(training.evaluate_every, training.steps, training.evaluate_every), training.steps]
        perplexity = found["validation_perplexity"]
        if found["step"].tolist() != steps or not perplexity.between(1, np.inf, inclusive="left").all():
            raise MeasurementError(f"{path}: expected a perplexity at each of the steps {steps}; train the run anew")
        tokens = found["step"] * training.batch_size * training.context_length
        own = pd.DataFrame({"tokens": tokens, "perplexity": perplexity}).assign(**job.cell.describe(), seed=job.seed)
        frames.append(own[[*CHOICES, "seed", "tokens", "perplexity"]])
    return pd.concat(frames, ignore_index=True) if any(len(frame) > 1 for frame in frames) else pd.DataFrame()


def _read_heatmaps(jobs: Sequence[Job]) -> Iterator[pd.DataFrame]:
    """Yield the lift of every label and expert at the layer with the highest U, for POS or known labels."""
    for job in jobs:
        if not job.config.training.snapshots:
            continue
        label_set = "upos" if job.cell.choices["routing_unit"] == "token" else "domain"
        frame = read_results(job.folder / "run", "measured")
        frame = frame[(frame["routing"] == "learned") & (frame["label_set"] == label_set)]
        layers = frame[frame["metric"] == "uncertainty_coefficient"].dropna(subset=["layer"])
        highest = layers.loc[layers["value"].idxmax(), "layer"]
        yield frame[(frame["layer"] == highest) & frame["metric"].isin(["lift", "specific_information"])]


def _find_pairs(jobs: Sequence[Job]) -> list[tuple[Job, Job]]:
    """Return the frozen and the learned run of seed 0 of every design, where both have a trace."""
    traced = {job.cell.name: job for job in jobs if job.seed == 0 and (job.folder / "run" / "trace").is_dir()}
    pairs = ((job, traced.get(name.replace("frozen", "learned"))) for name, job in traced.items())
    return [(job, other) for job, other in pairs if other and job.cell.describe()["router"] == "frozen"]


def _compare_runs(pairs: Sequence[tuple[Job, Job]], reporter: Reporter) -> pd.DataFrame:
    """Return means over layers of frozen minus learned, paired by blocks of documents."""
    frames = []
    with reporter.progress("comparing frozen with learned routers", "pairs of runs") as update:
        for done, (frozen, other) in enumerate(pairs):
            update(done, len(pairs))
            first, second = open_trace(frozen.folder / "run"), open_trace(other.folder / "run")
            name = f"{frozen.folder.name} − {other.folder.name}"
            frame = compare_traces(first, second, list(known_annotations(first).values()), run_name=name)
            frames.append(frame[frame["layer"].isna() & (frame["routing"] == "learned")])
    table = pd.concat(frames, ignore_index=True)
    return table.drop(columns=["layer", "router", "expert", "label", "null_low", "null_high"])
