"""Settings of a training run: a TOML file, checked before anything is read or written."""

import hashlib
import tomllib
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specialize.errors import ConfigError, did_you_mean


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(_Section):
    """Which documents are read, and which are held out.

    Attributes:
        corpus: a path or address in a format of `specialize.corpus.open_corpus`; relative to the TOML file's folder.
        text_column: column of the text, if it is not called ``text``.
        validation_share: share of the groups that is held out.
        group_separator: documents whose ids agree up to this string (chapters of a book, pieces of a page) are on
            the same side of the split; empty: every document is its own group.
        guide_column: column whose values, in alphabetical order, are the experts that a guided router is trained to
            choose.
        split_seed: of the split; default: the seed of the run. Runs that are compared need the same.
    """

    corpus: str
    text_column: str | None = None
    validation_share: float = Field(0.02, gt=0, lt=1)
    group_separator: str = ""
    guide_column: str | None = None
    split_seed: int | None = None


class TokenizerSettings(_Section):
    """A byte-level BPE that is trained on the training documents, or an existing tokenizer."""

    vocab_size: int = Field(8192, ge=257)
    path: str | None = None


class TrainingSettings(_Section):
    """Optimiser and schedule, in steps of ``batch_size`` windows of ``context_length`` tokens."""

    steps: int = Field(ge=1)
    batch_size: int = Field(32, ge=1)
    context_length: int = Field(256, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    final_learning_rate_share: float = Field(0.1, ge=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = Field(1.0, gt=0)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    compile: bool = False
    evaluate_every: int = Field(500, ge=1)
    evaluation_windows: int = Field(256, ge=1)
    final_evaluation_windows: int | None = Field(None, ge=1, description="of the saved model; default: all")
    checkpoint_every: int = Field(500, ge=1)
    compare_from: int = Field(
        0, ge=0, description="first position whose loss counts in the validation perplexity, for any model"
    )
    saved_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    snapshots: tuple[int, ...] = Field(
        (), description="steps after which the model is also saved, to snapshots/step-N, for curves over training"
    )


class TrainConfig(_Section):
    """A training run; the description (of the text, its author and licence) becomes part of the model card."""

    description: str = ""
    seed: int = 0
    model: dict[str, Any] = Field(default_factory=dict)
    tokenizer: TokenizerSettings = Field(default_factory=lambda: TokenizerSettings.model_validate({}))
    data: DataSettings
    training: TrainingSettings

    @property
    def digest(self) -> str:
        """Hash of everything that determines what is trained."""
        return hashlib.sha256(self.model_dump_json(exclude={"description"}).encode()).hexdigest()[:16]


def read_train_config(path: str | PathLike[str]) -> TrainConfig:
    """Read and check a TOML file.

    Args:
        path: the file.

    Raises:
        ConfigError: the file is missing, is not TOML, or has unknown, missing or invalid settings.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"expected a training configuration at {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got {error}") from error
    try:
        config = TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error
    corpus = config.data.corpus
    if "://" not in corpus:
        absolute = str((path.parent / corpus).resolve())
        config = config.model_copy(update={"data": config.data.model_copy(update={"corpus": absolute})})
    return config


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}, got {problem['input']!r}"
    section: Any = TrainConfig
    for part in problem["loc"][:-1]:
        section = section.model_fields[str(part)].annotation
    return f"unknown setting {place!r}.{did_you_mean(str(problem['loc'][-1]), section.model_fields)}"
