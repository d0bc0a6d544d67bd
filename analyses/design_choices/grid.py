"""The grid of cells, and the presets with the sizes at which it is trained."""

import tomllib
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specialize.errors import ConfigError, did_you_mean
from specialize.models.settings import TrainConfig, TrainingSettings

HERE = Path(__file__).parent
NUM_EXPERTS = 4
SPLIT_SEED = 0


class CorpusSettings(BaseModel):
    """A corpus of the study and the labels of its held-out passages.

    Attributes:
        file: a file in the data folder, or a data set of the hub (``hf://``).
        vocab_size: size of the BPE vocabulary that is trained unless `tokenizer` is given.
        tokenizer: name or path of an existing tokenizer.
        validation_share: share of held-out documents.
        group_separator: documents whose ids agree up to this separator are held out together.
        language: language code of all texts.
        column: column with a known label of each document.
        passages: number of held-out passages to trace, of each value of `column` if there is one.
        tags: tags with which tokens are labelled.
        topics: whether topics are fitted.
        guide: whether guided routers are trained on `column`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    vocab_size: int = 8192
    tokenizer: str | None = None
    validation_share: float
    group_separator: str = ""
    language: str | None = None
    column: str | None = None
    passages: int
    tags: tuple[str, ...] = ()
    topics: bool = False
    guide: bool = False


class Analysis(BaseModel):
    """How routing is measured: the number of permutations of the nulls."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    permutations: int = Field(ge=1)


class Preset(BaseModel):
    """Sizes of models and data, and the seeds of the cells for the claims; `only` and `seeds` restrict the grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: dict[str, Any]
    training: TrainingSettings
    analysis: Analysis
    corpora: dict[str, CorpusSettings]
    only: tuple[str, ...] = ("*",)
    claim_seeds: int = 3
    seeds: int | None = None

    def shortened(self, steps: int) -> "Preset":
        """Return the preset with so many steps of training, to try it out."""
        training = self.training
        kept = tuple(step for step in training.snapshots if step < steps)
        changed = {"steps": steps, "snapshots": kept, "warmup_steps": min(training.warmup_steps, steps)}
        return self.model_copy(update={"training": training.model_copy(update=changed)})


@dataclass(frozen=True)
class Cell:
    """A combination of design choices.

    Attributes:
        corpus: name of the corpus.
        choices: settings of the model that differ between cells.
        dense: width of a dense model in experts; 0 for a model with routers.
        seeds: number of seeds.
        curve: whether snapshots of seed 0 are kept.
        function: whether experts are switched off one by one.
    """

    corpus: str
    choices: dict[str, Any] = field(default_factory=dict)
    dense: int = 0
    seeds: int = 1
    curve: bool = False
    function: bool = False

    @property
    def name(self) -> str:
        """Unique name, also that of its folder."""
        if self.dense:
            return f"{self.corpus}-dense-{self.dense}"
        of = {"router_scope": "layer", "router_type": "learned", "num_experts": NUM_EXPERTS} | self.choices
        experts = "" if of["num_experts"] == NUM_EXPERTS else f"-{of['num_experts']}experts"
        unit, top = of["routing_unit"], of["num_experts_per_tok"]
        return f"{self.corpus}-{unit}-top{top}-{of['router_scope']}-{of['router_type']}{experts}"

    def describe(self) -> dict[str, Any]:
        """Return the design choices as columns of a table."""
        columns = {
            "cell": self.name,
            "corpus": self.corpus,
            "unit": "dense" if self.dense else self.choices["routing_unit"],
            "top_k": 0 if self.dense else self.choices["num_experts_per_tok"],
            "scope": "" if self.dense else self.choices.get("router_scope", "layer"),
            "router": "" if self.dense else self.choices.get("router_type", "learned"),
            "experts": self.dense if self.dense else self.choices.get("num_experts", NUM_EXPERTS),
        }
        return columns

    def config(self, preset: Preset, seed: int, data: Path) -> TrainConfig:
        """Return the settings of the training run with one seed.

        Raises:
            ConfigError: a setting is invalid.
        """
        corpus = preset.corpora[self.corpus]
        model = {"num_experts": NUM_EXPERTS, **preset.model, **self.choices}
        if self.dense:
            model |= {"num_experts": 0, "intermediate_size": self.dense * preset.model["intermediate_size"]}
        training = preset.training
        if not (self.curve and seed == 0):
            training = training.model_copy(update={"snapshots": ()})
        settings = {
            "description": f"A cell of the study of design choices: {self.name}, seed {seed}.",
            "seed": seed,
            "model": model,
            "tokenizer": {"vocab_size": corpus.vocab_size, "path": corpus.tokenizer},
            "data": {
                "corpus": corpus.file if "://" in corpus.file else str((data / corpus.file).resolve()),
                "validation_share": corpus.validation_share,
                "group_separator": corpus.group_separator,
                "guide_column": corpus.column if corpus.guide else None,
                "split_seed": SPLIT_SEED,
            },
            "training": training.model_dump(),
        }
        try:
            return TrainConfig.model_validate(settings)
        except ValidationError as error:
            [found, *_] = error.errors()
            place = ".".join(map(str, found["loc"]))
            raise ConfigError(f"{self.name}: {place}: {found['msg']}, got {found['input']!r}") from error


def read_preset(name: str) -> Preset:
    """Read ``presets/NAME.toml``.

    Raises:
        ConfigError: there is no such preset, or it has unknown or invalid settings.
    """
    path = HERE / "presets" / f"{name}.toml"
    if not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.toml"))
        raise ConfigError(f"--preset: expected one of {', '.join(known)}, got {name!r}.{did_you_mean(name, known)}")
    try:
        return Preset.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def read_grid(preset: Preset) -> tuple[list[Cell], float]:
    """Return the cells that the preset trains, and the margin of equivalence."""
    grid = tomllib.loads((HERE / "grid.toml").read_text(encoding="utf-8"))
    cells = []
    for entry in grid["cells"]:
        lists = {key: value for key, value in entry.items() if isinstance(value, list)}
        for values in product(*lists.values()):
            choices = dict(zip(lists, values, strict=True))
            dense = choices.pop("dense", 0)
            seeds = preset.claim_seeds if entry["seeds"] == "claims" else entry["seeds"]
            cell = Cell(entry["corpus"], choices, dense, preset.seeds or seeds)
            if any(fnmatch(cell.name, pattern) for pattern in preset.only):
                function = any(fnmatch(cell.name, pattern) for pattern in grid["function"])
                cells.append(replace(cell, curve=cell.name in grid["curves"], function=function))
    return cells, grid["margin"]
