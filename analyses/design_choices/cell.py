"""One cell with one seed: trained, traced and measured. The tables are made from the files in its folder alone."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from analyses.design_choices.data import Shared
from analyses.design_choices.grid import Cell, Preset

import specialize
from specialize.annotators.store import list_annotations, load_annotation, save_annotation
from specialize.errors import TrainingError, first_line
from specialize.events import Reporter
from specialize.manifest import write_json
from specialize.measure.results.files import write_results
from specialize.measure.runs.details import measure_details
from specialize.measure.runs.specialization import measure_specialization
from specialize.models.settings import TrainConfig
from specialize.models.training import train
from specialize.pipeline.train import watch_training
from specialize.trace import RoutingTrace

DRAWS = 5  # random routers beside each router
CURVES = "curves"  # run folder of what was measured during training


@dataclass(frozen=True)
class Job:
    """A cell with one seed.

    Attributes:
        cell, seed: the cell and the seed.
        config: settings of the training run.
        permutations: number of permutations of the nulls.
        shared: the prepared corpus.
        folder: folder of all its files.
    """

    cell: Cell
    seed: int
    config: TrainConfig
    permutations: int
    shared: Shared
    folder: Path

    @classmethod
    def of(cls, cell: Cell, seed: int, preset: Preset, data: Path, output: Path) -> "Job":
        """Return the job of a cell and seed in the folder of the study."""
        config = cell.config(preset, seed, data)
        shared = Shared.of(output, cell.corpus)
        return cls(
            cell, seed, config, preset.analysis.permutations, shared, output / "cells" / f"{cell.name}-seed{seed}"
        )

    @property
    def is_done(self) -> bool:
        """Whether a model with exactly these settings was trained and measured, and its experts switched off."""
        path = self.folder / "cell.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
        return found.get("config_digest") == self.config.digest and self.cell.function <= found.get("function", False)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What was evaluated of a model trained with exactly these settings; None if there is no such model.

        Raises:
            TrainingError: the record of the training is damaged.
        """
        path, settings = self.folder / "model" / "evaluation.json", self.folder / "config.json"
        if not path.is_file() or not settings.is_file():
            return None
        try:
            if TrainConfig.model_validate_json(settings.read_text()).digest != self.config.digest:
                return None
            evaluation: dict[str, Any] = json.loads(path.read_text())["evaluation"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: expected the record of a training, got: {first_line(error)}") from error
        return evaluation


def run_job(job: Job, reporter: Reporter) -> None:
    """Train, trace and measure; an interrupted run is resumed.

    Args:
        job: the job.
        reporter: receives the progress of the training.
    """
    torch.set_num_threads(1)
    watch = None
    if job.config.training.snapshots:  # whole passages, as routers of sequences need
        watch = watch_training(
            job.config,
            job.shared.labels,
            job.folder / CURVES,
            sample_tokens=None,
            permutations=job.permutations,
            control="random-router",
        )
    train(job.config, job.folder, data=job.shared.tokens, watch=watch, reporter=reporter)
    if not job.cell.dense:
        _measure(job, job.folder / "model", job.folder / "run")
    if job.cell.function:
        specialize.ablate(job.folder / "model", job.folder / "run", permutations=job.permutations)
    (job.folder / "checkpoint.safetensors").unlink(missing_ok=True)
    done = {"config_digest": job.config.digest, "function": job.cell.function}
    write_json(job.folder / "cell.json", {**done, **job.cell.describe(), "seed": job.seed})


def _measure(job: Job, model: Path, run: Path) -> None:
    """Trace the passages with a checkpoint and measure the association of its routing with each of their label sets."""
    if run.exists() and not (run / "measured.parquet").exists():
        shutil.rmtree(run)  # of weights that a resumed training run may have replaced
    opened = specialize.trace_corpus(model, job.shared.passages, run, control="random-router", control_draws=DRAWS)
    if (run / "measured.parquet").exists():
        return
    labels = RoutingTrace(job.shared.labels)
    frames = []
    for name in list_annotations(labels):
        annotation = load_annotation(labels, name)
        save_annotation(opened, annotation)
        how: dict[str, Any] = {"run_name": job.folder.name, "permutations": job.permutations}
        frames.append(measure_specialization(opened, annotation, **how))
        if annotation.level == "token":  # for what is known of the part of speech within a token id
            frames.append(measure_details(opened, annotation, **how))
    write_results(pd.concat(frames, ignore_index=True), run, "measured")
