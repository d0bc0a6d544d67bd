"""The folder of a training run: settings, checkpoint, metrics, snapshots and the model, each written whole."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase

from specialize.atomic import write_text
from specialize.errors import ConfigError, TrainingError, first_line, show_value
from specialize.lock import locked
from specialize.models.card import published_settings, write_card
from specialize.models.checkpoint import is_finite, resume, save_checkpoint
from specialize.models.evaluation import Evaluation
from specialize.models.folders import CHECKSUMS, check_checksums, replacing_folder
from specialize.models.modeling import GPTMoEForCausalLM
from specialize.models.settings import TrainConfig, describe_problem
from specialize.quiet import without_transformers_bars

_TRAINED = ("checkpoint.safetensors", "model", "snapshots", "metrics.csv")


class TrainingFolder:
    """Where a training run is stored.

    Attributes:
        path: the folder.
        config: the settings of the run.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config
        self._saved: int | None = None  # steps of the checkpoint, once it was looked for
        self._identity = {"settings": config.digest}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the folder.

        Raises:
            TrainingError: another process is training in it.
            OutputError: the folder cannot be created.
        """

        def refuse() -> None:
            raise TrainingError(
                f"{self.path}: another process is training in this folder; wait for it to finish, or choose another "
                "folder"
            )

        with locked(self.path / ".lock", on_busy=refuse):
            yield

    def find_result(self) -> Evaluation | None:
        """Return the evaluation of the model if the run is complete, None if it is not.

        With another description, and the checkpoint still there, it is not: the model is written again with its card.

        Raises:
            ConfigError: the folder holds a run with other settings.
            TrainingError: the settings or the model in the folder are damaged.
        """
        self._check_settings()
        model, has_checkpoint = self.path / "model", (self.path / "checkpoint.safetensors").exists()
        path = model / "evaluation.json"
        if not path.exists() and not (model / CHECKSUMS).exists():
            return None
        remedy = f"delete {model} to write it again" + (
            " from the checkpoint" if has_checkpoint else ", in a new training"
        )
        check_checksums(model, remedy=remedy)
        for step in self.config.training.snapshots:
            snapshot = self._snapshot(step)
            check_checksums(snapshot, remedy=f"delete {snapshot}, or train in another folder to write it again")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            settings = TrainConfig.model_validate_json(json.dumps(record["settings"]))
            result = TypeAdapter(Evaluation).validate_python(record["evaluation"])
            if len(result.load) != len(result.load_entropy) or not all(result.load):
                raise ValueError("loads of other layers than their entropies")
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            raise TrainingError(
                f"{path}: expected an evaluation of the model, got: {_reason(error)}; {remedy}"
            ) from error
        if settings.digest != published_settings(self.config).digest:
            raise TrainingError(f"{model}: expected the model of this run, got one with other settings; {remedy}")
        self._write_metrics(record.get("history") or [])
        return result if settings.description == self.config.description or not has_checkpoint else None

    def _check_settings(self) -> None:
        """Raise an error for other settings in the folder, unless nothing was trained with them."""
        path = self.path / "config.json"
        if not path.exists():
            return
        try:
            before = TrainConfig.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, ConfigError) as error:
            raise ConfigError(
                f"{path}: expected the settings of a training run, got: {_reason(error)}; choose another folder, or "
                "put the file back"
            ) from error
        if before.digest != self.config.digest and any((self.path / name).exists() for name in _TRAINED):
            details = "; ".join(_differences(before.model_dump(), self.config.model_dump()))
            raise ConfigError(f"{self.path} holds a run with other settings ({details}); choose another folder")

    def resume(
        self, model: GPTMoEForCausalLM, optimizer: torch.optim.AdamW, *, data: str
    ) -> tuple[int, list[dict[str, Any]]]:
        """Restore the checkpoint in place; return its step and evaluations, (0, []) without one.

        Args:
            model: the model, as it is before training.
            optimizer: of the model.
            data: digest of the tokens.

        Raises:
            TrainingError: the checkpoint is damaged, or is that of another run.
        """
        self._identity["data"] = data
        path, steps = self.path / "checkpoint.safetensors", self.config.training.steps
        self._saved, history = resume(path, model, optimizer, steps=steps, identity=self._identity)
        return self._saved, history

    def save(
        self, model: GPTMoEForCausalLM, optimizer: torch.optim.AdamW, step: int, history: list[dict[str, Any]]
    ) -> None:
        """Write the checkpoint, from which the run is resumed, and the evaluations so far.

        Raises:
            TrainingError: the weights are not finite.
            OutputError: a file cannot be written.
        """
        self._require_finite(model, step)
        self._write_settings()
        save_checkpoint(
            self.path / "checkpoint.safetensors",
            model,
            optimizer,
            step=step,
            history=history,
            identity=self._identity,
        )
        self._saved = step
        self._write_metrics(history)

    def save_snapshot(self, model: GPTMoEForCausalLM, tokenizer: PreTrainedTokenizerBase, step: int) -> None:
        """Write the model as it is after a step; errors as in `save`."""
        self._require_finite(model, step)
        self._write_settings()
        self._save_model(self._snapshot(step), model, tokenizer)

    def save_result(
        self,
        model: GPTMoEForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        result: Evaluation,
        history: list[dict[str, Any]],
    ) -> None:
        """Write the model with its card, which completes the run; errors as in `save`."""
        self._write_metrics(history)
        self._save_model(
            self.path / "model",
            model,
            tokenizer,
            lambda folder: write_card(folder, self.config, result, history),
        )

    def describe_kept(self) -> str:
        """Return what the folder keeps of a run that stops."""
        if self._saved is None:
            return "what was written before is kept"
        return f"the checkpoint of step {self._saved} is kept" if self._saved else "no checkpoint was written"

    def _snapshot(self, step: int) -> Path:
        return self.path / "snapshots" / f"step-{step}"

    def _require_finite(self, model: GPTMoEForCausalLM, step: int) -> None:
        if not is_finite(model):
            raise TrainingError(self.describe_divergence(step, "weights that are not finite"))

    def describe_divergence(self, step: int, found: str) -> str:
        """Return the message of a run that diverged."""
        advice = "lower training.learning_rate" + (", and choose another folder" if self._saved else "")
        return f"{self.path}: training diverged at step {step} ({found}); {self.describe_kept()}; {advice}"

    def _write_settings(self) -> None:
        path, text = self.path / "config.json", self.config.model_dump_json(indent=2)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    def _write_metrics(self, history: list[dict[str, Any]]) -> None:
        path, text = self.path / "metrics.csv", pd.DataFrame(history).to_csv(index=False)
        try:
            is_written = path.read_bytes() == text.encode()
        except OSError:  # missing, unreadable, or no file
            is_written = False
        if history and not is_written:
            write_text(path, text)

    def _save_model(
        self,
        folder: Path,
        model: GPTMoEForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        add: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Write a checkpoint that transformers loads, in the precision of the settings, without changing the model."""
        dtype = self.config.training.saved_dtype
        shipped = copy.deepcopy(model).to(getattr(torch, dtype))
        if not is_finite(shipped):
            raise TrainingError(
                f"{folder}: expected finite weights, got some beyond the range of training.saved_dtype = {dtype}; "
                f"{self.describe_kept()}"
            )
        with replacing_folder(folder) as partial, without_transformers_bars():
            shipped.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            add(partial)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return describe_problem(error)
    return f"no {error}" if isinstance(error, KeyError) else first_line(error)


def _differences(before: dict[str, Any], now: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the settings that differ, as text."""
    for name in sorted(before.keys() | now.keys()):
        if name == "description" or before.get(name) == now.get(name):
            continue
        if isinstance(before.get(name), dict) and isinstance(now.get(name), dict):
            yield from _differences(before[name], now[name], f"{name}.")
        else:
            yield f"{place}{name}: {show_value(before.get(name))} there, {show_value(now.get(name))} now"
