"""Settings of a training run: a TOML file, checked before anything is read or written."""

import hashlib
import inspect
import tomllib
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specialize.errors import ConfigError, did_you_mean, first_line, show_value
from specialize.models.configuration import GPTMoEConfig

_LARGEST_FILE = 2**20  # bytes of a TOML file
_MOST_STEPS = 10**9
_MODEL_SETTINGS = tuple(
    name for name in inspect.signature(GPTMoEConfig).parameters if name not in ("vocab_size", "kwargs")
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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

    corpus: str = Field(min_length=1)
    text_column: str | None = None
    validation_share: float = Field(0.02, gt=0, lt=1)
    group_separator: str = ""
    guide_column: str | None = None
    split_seed: int | None = None


class TokenizerSettings(_Section):
    """A byte-level BPE that is trained on the training documents, or an existing tokenizer."""

    vocab_size: int = Field(8192, ge=257, le=2**24)
    path: str | None = None


class TrainingSettings(_Section):
    """Optimiser and schedule, in steps of ``batch_size`` windows of ``context_length`` tokens."""

    steps: int = Field(ge=1, le=_MOST_STEPS)
    batch_size: int = Field(32, ge=1, le=2**24)
    context_length: int = Field(256, ge=2, le=2**24)
    learning_rate: float = Field(3e-3, gt=0)
    final_learning_rate_share: float = Field(0.1, ge=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.1, ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), strict=False
    )
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
        (),
        strict=False,  # a list is a tuple, too
        description="steps after which the model is also saved, to snapshots/step-N, for curves over training",
    )

    @model_validator(mode="after")
    def _check(self) -> "TrainingSettings":
        if self.warmup_steps > self.steps:
            raise ConfigError(
                f"training.warmup_steps: expected at most training.steps = {self.steps}, got "
                f"{show_value(self.warmup_steps)} (100 unless it is set)"
            )
        for step in self.snapshots:
            if not 1 <= step <= self.steps:
                raise ConfigError(
                    f"training.snapshots: expected steps from 1 to training.steps = {self.steps}, "
                    f"got {show_value(step)}"
                )
        if self.compare_from > self.context_length - 2:  # the last position has no next token
            raise ConfigError(
                "training.compare_from: expected at most training.context_length - 2 = "
                f"{self.context_length - 2}, got {show_value(self.compare_from)}"
            )
        return self


class TrainConfig(_Section):
    """A training run; the description (of the text, its author and licence) becomes part of the model card.

    Raises:
        ConfigError: settings contradict each other, or the model has unknown or invalid ones.
    """

    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    model: dict[str, Any] = Field(default_factory=dict)
    tokenizer: TokenizerSettings = Field(default_factory=lambda: TokenizerSettings.model_validate({}))
    data: DataSettings
    training: TrainingSettings

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        for name in self.model:
            if name not in _MODEL_SETTINGS:
                raise ConfigError(
                    f"unknown setting {show_value(f'model.{name}')}.{did_you_mean(name, _MODEL_SETTINGS)}"
                )
        model, training = self.configure_model(vocab_size=self.tokenizer.vocab_size), self.training
        if training.context_length > model.max_position_embeddings:
            raise ConfigError(
                f"training.context_length: expected at most model.max_position_embeddings = "
                f"{model.max_position_embeddings}, got {training.context_length}"
            )
        if model.uncounted_positions > training.context_length - 2:
            raise ConfigError(
                f"model.routing_prefix: expected less than training.context_length = {training.context_length}, so "
                f"that losses remain, got {model.routing_prefix}"
            )
        for name in ("hidden_size", "intermediate_size"):
            if model.num_experts and training.dtype == "bfloat16" and getattr(model, name) % 8:
                raise ConfigError(
                    f"model.{name}: expected a multiple of 8, which experts in bfloat16 need, got "
                    f"{getattr(model, name)}; or set training.dtype to float32"
                )
        return self

    def configure_model(self, **tokens: Any) -> GPTMoEConfig:
        """Return the configuration of the model.

        Args:
            **tokens: ``vocab_size`` and the special tokens.

        Raises:
            ConfigError: a setting is invalid.
        """
        given = {"max_position_embeddings": self.training.context_length, **self.model}
        try:
            return GPTMoEConfig(**given, **tokens)
        except ConfigError as error:
            raise ConfigError(f"model.{error}") from error

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
        config = TrainConfig.model_validate(_read_toml(path))
        corpus = config.data.corpus
        if "://" in corpus:
            return config
        absolute = str((path.parent / corpus).resolve())
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_problem(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:  # of a path that cannot be one
        raise ConfigError(f"{path}: data.corpus: expected a path, got {show_value(corpus)} ({error})") from error
    return config.model_copy(update={"data": config.data.model_copy(update={"corpus": absolute})})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError("expected a TOML file, got none that is a regular file")
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ConfigError(f"expected a TOML file of at most {_LARGEST_FILE:,} bytes, got more")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"expected a training configuration, got: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 or TOML, or whose numbers are too long
        raise ConfigError(f"expected TOML, got: {first_line(error)}") from error


def describe_problem(error: ValidationError) -> str:
    """Return the first problem that was found in settings, as one line."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "json_invalid":
        return str(problem["msg"])
    if problem["type"] == "missing":
        return f"{place}: expected this setting, found none"
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}, got {show_value(problem['input'])}".removeprefix(": ")
    section: Any = TrainConfig
    for part in problem["loc"][:-1]:
        section = section.model_fields[str(part)].annotation
    return f"unknown setting {show_value(place)}.{did_you_mean(str(problem['loc'][-1]), section.model_fields)}"
